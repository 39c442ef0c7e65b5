//! TLS of the repository: settings of a server and of a follower, from PEM files.
//!
//! INVARIANT: a client verifies the server's certificate and name, always; a server that is given roots wants a certificate from
//! every client.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// Files of one side.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// Its own certificate, with those between it and its root.
    pub certificate: Option<PathBuf>,
    /// The key of that.
    pub key: Option<PathBuf>,
    /// The roots that it believes.
    pub trusted: Option<PathBuf>,
}

/// Where systems keep the roots that they believe.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let pem = std::fs::read(path).map_err(|error| said(&error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(said(&"no certificates")),
        Err(error) => Err(said(&format!("{error:?}"))),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| format!("{}: {error:?}", path.display()))
}

impl TlsFiles {
    fn pair(&self) -> Result<Option<(&Path, &Path)>, String> {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            _ => Err("a certificate needs its key, and a key its certificate".into()),
        }
    }

    /// Settings of a server; `None` where it has no certificate.
    ///
    /// # Errors
    /// When a file cannot be read, or the key is not the certificate's.
    pub fn server(&self) -> Result<Option<Arc<ServerConfig>>, String> {
        let Some((certificate, own)) = self.pair()? else {
            return match &self.trusted {
                Some(_) => {
                    Err("clients are asked for certificates over TLS only: a certificate is missing".into())
                }
                None => Ok(None),
            };
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match &self.trusted {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
            }
        };
        let config = builder.with_single_cert(certificates(certificate)?, key(own)?);
        config
            .map(|config| Some(Arc::new(config)))
            .map_err(|error| format!("{}: {error}", certificate.display()))
    }

    fn roots(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let system = || SYSTEM.iter().map(PathBuf::from).find(|path| path.exists());
        let path = self.trusted.clone().or_else(system);
        certificates(&path.ok_or("no trusted certificates: --tls-trusted names them")?)
    }

    /// Settings of a client that speaks TLS for itself.
    ///
    /// # Errors
    /// When a file cannot be read, or there are no roots to believe.
    pub(crate) fn rustls(&self) -> Result<Arc<rustls::ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.roots()?);
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let config = match self.pair()? {
            Some((certificate, own)) => builder
                .with_client_auth_cert(certificates(certificate)?, key(own)?)
                .map_err(|error| format!("{}: {error}", certificate.display()))?,
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }

    /// Settings of a client.
    ///
    /// # Errors
    /// When a file cannot be read, or there are no roots to believe.
    pub(crate) fn client(&self) -> Result<ureq::tls::TlsConfig, String> {
        use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
        let owned = |der: &CertificateDer<'_>| Certificate::from_der(der).to_owned();
        let roots: Vec<Certificate<'static>> = self.roots()?.iter().map(owned).collect();
        let mut own = None;
        if let Some((certificate, path)) = self.pair()? {
            let chain: Vec<Certificate<'static>> = certificates(certificate)?.iter().map(owned).collect();
            let pem = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let key = PrivateKey::from_pem(&pem).map_err(|error| format!("{}: {error}", path.display()))?;
            own = Some(ClientCert::new_with_certs(&chain, key));
        }
        Ok(TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(own)
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
            .build())
    }
}
