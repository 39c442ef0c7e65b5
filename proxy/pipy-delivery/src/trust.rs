//! Whom we believe, and what a set of roots is called.
//!
//! What comes in: roots, or a configuration that carries some. What goes out: a short name, which the control plane
//! computes alike, so that each poll tells whom this proxy believes.
//!
//! INVARIANT: the name depends on neither the order of the roots nor on how often one is given.

use std::fmt::Write as _;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, SupportedCipherSuite};
use serde::Deserialize;

use crate::identity::certificates_of_pem;

/// 128 bits of a SHA-256: enough to tell bundles apart, short enough for a header.
const ID_BYTES: usize = 16;

/// The name of a set of roots; empty where the library cannot hash.
pub(crate) fn id(roots: &[CertificateDer<'_>], provider: &CryptoProvider) -> String {
    let mut sorted: Vec<&[u8]> = roots.iter().map(AsRef::as_ref).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let suite =
        provider.cipher_suites.iter().find(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
    let Some(hash) = suite.and_then(SupportedCipherSuite::tls13).map(|suite| suite.common.hash_provider)
    else {
        return String::new();
    };
    let digest = hash.hash(&sorted.concat());
    digest.as_ref().iter().take(ID_BYTES).fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The roots that a configuration carries. None where it has none, or is not to be understood: then its owner refuses
/// it, or there is nothing to change.
pub(crate) fn of_config(bytes: &[u8]) -> Vec<CertificateDer<'static>> {
    #[derive(Deserialize, Default)]
    struct Trust {
        #[serde(default)]
        roots: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        trust: Trust,
    }
    let Ok(config) = serde_json::from_slice::<Config>(bytes) else { return Vec::new() };
    let found = config.trust.roots.iter().map(|pem| certificates_of_pem(pem.as_bytes(), "a root"));
    found.collect::<Result<Vec<_>, _>>().map(|roots| roots.concat()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::provider;

    #[test]
    fn a_bundle_is_called_the_same_in_any_order() {
        let (one, two) = (CertificateDer::from(vec![1, 2]), CertificateDer::from(vec![3]));
        let name = id(&[one.clone(), two.clone()], &provider());
        assert_eq!(name, id(&[two, one.clone(), one.clone()], &provider()));
        assert_ne!(name, id(&[one], &provider()));
        // The first half of `printf '\1\2\3' | sha256sum`, as the control plane computes it.
        assert_eq!(name, "039058c6f2c0cb492c533b0a4d14ef77");
    }

    #[test]
    fn a_configuration_without_usable_roots_changes_nothing() {
        for config in ["", "{}", "[]", r#"{"trust":{}}"#, r#"{"trust":{"roots":["x"]}}"#] {
            assert!(of_config(config.as_bytes()).is_empty(), "{config}");
        }
    }
}
