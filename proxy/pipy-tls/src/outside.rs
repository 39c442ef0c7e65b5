//! Settings of a client towards servers outside of the mesh: they are known by name, as in the web, not by an identity.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::credentials::{TlsError, certificates};

/// Settings of a client that shows a certificate, and believes servers that one of the roots has signed and that carry the
/// name that is asked for.
///
/// # Errors
/// When an input is no PEM, empty, or does not fit the others.
pub fn outside_client(chain: &str, key: &str, roots: &[String]) -> Result<Arc<ClientConfig>, TlsError> {
    let chain = certificates(chain, "the client's certificate chain")?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| TlsError::Pem { what: "the client's key" })?;
    client(chain, key, Arc::new(believed(roots)?))
}

pub(crate) fn believed(roots: &[String]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        for root in certificates(root, "the list of the server's roots")? {
            store.add(root).map_err(|source| TlsError::Refused { what: "a root certificate", source })?;
        }
    }
    Ok(store)
}

pub(crate) fn client(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
) -> Result<Arc<ClientConfig>, TlsError> {
    // WHY not the provider of the mesh: these servers may offer no more than what others do.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|source| TlsError::Refused { what: "the protocol versions", source })?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|source| TlsError::Refused { what: "the client's certificate chain", source })?;
    Ok(Arc::new(config))
}
