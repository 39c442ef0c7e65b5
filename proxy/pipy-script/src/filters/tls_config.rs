//! Settings of TLS from what scripts give: PEM of chains, keys and trusted roots.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};

/// A certificate's chain and key, as PEM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Material {
    pub(super) chain: String,
    pub(super) key: String,
}

impl Material {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("the certificate cannot be read: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|error| format!("the private key cannot be read: {error}"))?;
        Ok((chain, key))
    }
}

fn roots(trusted: &[String]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for pem in trusted {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| format!("trusted: {error}"))?;
            store.add(certificate).map_err(|error| format!("trusted: {error}"))?;
        }
    }
    Ok(store)
}

fn names(alpn: &[String]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// Versions of the protocol.
pub(super) type Versions = &'static [&'static SupportedProtocolVersion];

/// Those that are safe today.
pub(super) const ALL: Versions = &[&TLS13, &TLS12];

const NEW: Versions = &[&TLS13];
const OLD: Versions = &[&TLS12];

/// Those between two names; `None` where that is none. What is older than the oldest safe one counts as that.
pub(super) fn versions(least: Option<&str>, most: Option<&str>) -> Option<Versions> {
    match (least == Some("TLS1.3"), most.unwrap_or("TLS1.3")) {
        (false, "TLS1.3") => Some(ALL),
        (true, "TLS1.3") => Some(NEW),
        (false, "TLS1.2") => Some(OLD),
        _ => None,
    }
}

/// Settings of a server.
pub(super) fn server(
    material: &Material,
    trusted: &[String],
    alpn: &[String],
    versions: Versions,
) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (chain, key) = material.read()?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = if trusted.is_empty() {
        builder.with_no_client_auth()
    } else {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots(trusted)?), provider).build();
        builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| format!("certificate and key: {error}"))?;
    config.alpn_protocols = names(alpn);
    Ok(Arc::new(config))
}

/// Settings of a client; `named` when the server's name is known.
pub(super) fn client(
    material: Option<&Material>,
    trusted: &[String],
    alpn: &[String],
    versions: Versions,
    named: bool,
) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let chain = match trusted {
        [] => None,
        trusted => {
            let roots = Arc::new(roots(trusted)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            Some(verifier.map_err(|error| error.to_string())?)
        }
    };
    let verifier = Arc::new(Lenient { chain, named, provider });
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match material {
        None => builder.with_no_client_auth(),
        Some(material) => {
            let (chain, key) = material.read()?;
            let made = builder.with_client_auth_cert(chain, key);
            made.map_err(|error| format!("certificate and key: {error}"))?
        }
    };
    config.enable_sni = named;
    config.alpn_protocols = names(alpn);
    Ok(Arc::new(config))
}

/// Verifies what a script asks to be verified: the chain where roots are given, the name where one is.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    named: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The chain is verified before the name is looked at.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.named => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
