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

/// Every name of a certificate that is plainly spelled: its URIs, its DNS names in lower case, and its common name. A name
/// with a wildcard, a blank or a NUL could stand for more than it says, and is none.
pub fn certificate_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let mut names = Vec::new();
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::URI(uri) => names.push((*uri).to_owned()),
                GeneralName::DNSName(dns) => names.push(dns.to_ascii_lowercase()),
                _ => {}
            }
        }
    }
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    names.extend(common.map(str::to_owned));
    names.retain(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'*'));
    names
}

/// Only what a SPIFFE id may contain (SPIFFE-ID, section 2): an id with a NUL or an escape could be read in two ways.
fn plain(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://") else { return false };
    uri.len() <= SPIFFE_BYTES_MAX
        && !rest.is_empty()
        && rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/'))
        && rest.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}
