//! A certificate with its key, the roots that we believe, and the TLS settings made of them.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::outside::{believed, client};
use crate::spiffe_id;
use crate::verify::ExpectedServer;

/// Why credentials can't be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A PEM block is not what it should be.
    #[error("{what} is not valid PEM")]
    Pem {
        /// Which of the inputs.
        what: &'static str,
    },
    /// There is nothing in it.
    #[error("{what} is empty")]
    Empty {
        /// Which of the inputs.
        what: &'static str,
    },
    /// The TLS library refuses it.
    #[error("{what} cannot be used")]
    Refused {
        /// Which of the inputs.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The roots make no verifier.
    #[error("the trusted roots cannot be used")]
    Roots(#[source] rustls::server::VerifierBuilderError),
}

/// Who we are and whom we believe. Cheap to clone; replaced as a whole when either changes.
#[derive(Debug, Clone)]
pub struct Credentials {
    identity: Option<String>,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    server: Arc<ServerConfig>,
    http_server: Arc<ServerConfig>,
    open_server: Arc<ServerConfig>,
    open_http_server: Arc<ServerConfig>,
}

impl Credentials {
    /// Makes credentials from PEM: our chain (leaf first), our key, the roots.
    ///
    /// # Errors
    /// When an input is no PEM, empty, or does not fit the others.
    pub fn from_pem(chain: &str, key: &str, roots: &str) -> Result<Self, TlsError> {
        let chain = certificates(chain, "the certificate chain")?;
        let key =
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| TlsError::Pem { what: "the key" })?;
        let mut store = RootCertStore::empty();
        for root in certificates(roots, "the list of roots")? {
            store.add(root).map_err(|source| TlsError::Refused { what: "a root certificate", source })?;
        }
        let (provider, roots) = (Arc::new(provider()), Arc::new(store));
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(TlsError::Roots)?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|source| TlsError::Refused { what: "the protocol versions", source })?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|source| TlsError::Refused { what: "the certificate chain", source })?;
        // Sidecars keep their connections; one ticket is enough for the next.
        server.send_tls13_tickets = 1;
        // Ours is the order from strong to weak; a peer's may be any.
        server.ignore_client_order = true;
        let mut open_server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|source| TlsError::Refused { what: "the protocol versions", source })?
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|source| TlsError::Refused { what: "the certificate chain", source })?;
        open_server.send_tls13_tickets = 1;
        open_server.ignore_client_order = true;
        let identity = chain.first().and_then(spiffe_id);
        let (http_server, open_http_server) = (of_http(&server), of_http(&open_server));
        Ok(Credentials {
            identity,
            chain,
            key: Arc::new(key),
            roots,
            provider,
            server: Arc::new(server),
            http_server: Arc::new(http_server),
            open_server: Arc::new(open_server),
            open_http_server: Arc::new(open_http_server),
        })
    }

    /// Our own identity.
    pub fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    /// When our certificate ends, seconds since the epoch; `None` when it can't be read.
    pub fn not_after_unix_s(&self) -> Option<u64> {
        let (_, leaf) = X509Certificate::from_der(self.chain.first()?).ok()?;
        u64::try_from(leaf.validity().not_after.timestamp()).ok()
    }

    /// Our chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Settings of a server whose clients must be of the mesh.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// The same for a server of HTTP, which agrees on its version with clients that ask (RFC 7301).
    pub fn http_server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.http_server)
    }

    /// Settings of a server whose clients are asked for no certificate.
    pub fn open_server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.open_server)
    }

    /// The same for a server of HTTP.
    pub fn open_http_server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.open_http_server)
    }

    /// Settings of a client that accepts only the peer with this identity.
    ///
    /// # Errors
    /// When our certificate can't be used as a client's.
    pub fn client(&self, expected: &str) -> Result<Arc<ClientConfig>, TlsError> {
        let verifier = ExpectedServer::new(expected.to_owned(), Arc::clone(&self.roots), &self.provider);
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|source| TlsError::Refused { what: "the protocol versions", source })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|source| TlsError::Refused { what: "the certificate chain", source })?;
        client.enable_sni = false;
        Ok(Arc::new(client))
    }
}

impl Credentials {
    /// Settings of a client towards a server outside of the mesh, which shows what we show to members.
    ///
    /// # Errors
    /// When the roots can't be used, or our certificate as a client's.
    pub fn outside(&self, roots: &[String]) -> Result<Arc<ClientConfig>, TlsError> {
        let roots = if roots.is_empty() { Arc::clone(&self.roots) } else { Arc::new(believed(roots)?) };
        client(self.chain.clone(), self.key.clone_key(), roots)
    }
}

fn of_http(server: &ServerConfig) -> ServerConfig {
    let mut server = server.clone();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    server
}

pub(crate) fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::Pem { what })?;
    if certificates.is_empty() { Err(TlsError::Empty { what }) } else { Ok(certificates) }
}

/// The library's defaults, with AES-128 before AES-256: both are out of reach, and the first costs less per byte.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        let aes128 = matches!(
            suite.suite(),
            rustls::CipherSuite::TLS13_AES_128_GCM_SHA256
                | rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        );
        !aes128
    });
    // X25519 alone between our own; the post-quantum hybrid that the library puts first triples the handshake's bytes.
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    provider
}
