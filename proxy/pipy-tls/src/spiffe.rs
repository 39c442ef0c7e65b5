//! The SPIFFE identity in a certificate.

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// LIMIT: bytes of a SPIFFE id (SPIFFE-ID, section 2.4).
const SPIFFE_BYTES_MAX: usize = 2048;

/// The one SPIFFE id of a certificate; `None` when it has none, several, or one that is not plainly spelled.
pub fn spiffe_id(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uri = uris.next()?;
    (uris.next().is_none() && plain(uri)).then(|| uri.to_owned())
}

/// Only what a SPIFFE id may contain (SPIFFE-ID, section 2): an id with a NUL or an escape could be read in two ways.
fn plain(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://") else { return false };
    uri.len() <= SPIFFE_BYTES_MAX
        && !rest.is_empty()
        && rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/'))
        && rest.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}
