//! Our key, the request to certify it, and what the control plane makes of it.
//!
//! What comes in: an answer of the control plane. What goes out: credentials that fit together: the chain is of our
//! key, every PEM block is a certificate, nothing is empty.
//!
//! INVARIANT: each certificate has a new key. A key lives in memory; its only way out is [`Event::Credentials`].
//!
//! Not here: checking that the identity is the one expected (`pipy-tls` reads it from the certificate itself).

use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::Deserialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::Failure;
use crate::event::Event;

/// LIMIT: certificates in a chain or among the roots. A rotation has two roots, a chain two or three links.
const CERTIFICATES_MAX: usize = 16;

/// A new key with its signing request.
pub(crate) struct Request {
    key: KeyPair,
    pub(crate) csr_pem: String,
}

impl Request {
    /// Makes a key, ECDSA P-256.
    pub(crate) fn new() -> Result<Self, Failure> {
        let fault = |error: rcgen::Error| Failure::Local(format!("no key could be made: {error}"));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fault)?;
        let mut params = CertificateParams::default();
        // The control plane takes the name from the token; whatever stood here would be ignored.
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key).map_err(fault)?;
        Ok(Request { csr_pem: csr.pem().map_err(fault)?, key })
    }

    /// Checks the answer to this request.
    pub(crate) fn accept(self, body: &[u8], provider: &CryptoProvider) -> Result<Credentials, Failure> {
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|error| Failure::Garbage(format!("the certificate's answer is malformed: {error}")))?;
        let key_pem = self.key.serialize_pem();
        let chain = certificates(&answer.chain, "chain")?;
        let roots = certificates(&answer.roots, "roots")?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| Failure::Local(format!("the new key cannot be read: {error}")))?;
        // WHY: the HTTP client takes a chain that fits its key for granted, and would end the process over one that
        // doesn't.
        CertifiedKey::from_der(chain.clone(), key, provider)
            .map_err(|error| Failure::Garbage(format!("the certificate is not of our key: {error}")))?;
        let not_after = match chain.first().map(|leaf| X509Certificate::from_der(leaf)) {
            Some(Ok((_, leaf))) => u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or_default(),
            _ => return Err(Failure::Garbage("the certificate cannot be read".to_owned())),
        };
        Ok(Credentials {
            chain,
            roots,
            key_pem,
            chain_pem: answer.chain.join("\n"),
            roots_pem: answer.roots.join("\n"),
            identity: answer.identity,
            not_after,
            renew_after_s: answer.renew_after_s,
        })
    }
}

/// What fits together.
pub(crate) struct Credentials {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) roots: Vec<CertificateDer<'static>>,
    pub(crate) key_pem: String,
    chain_pem: String,
    roots_pem: String,
    identity: String,
    /// Seconds since the epoch.
    pub(crate) not_after: u64,
    pub(crate) renew_after_s: u64,
}

impl Credentials {
    pub(crate) fn event(&self) -> Event {
        Event::Credentials {
            chain_pem: self.chain_pem.clone(),
            key_pem: self.key_pem.clone(),
            roots_pem: self.roots_pem.clone(),
            identity: self.identity.clone(),
            not_after: self.not_after,
        }
    }
}

/// The library that does the cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Unknown fields are let pass: the control plane may be newer than we are.
#[derive(Deserialize)]
struct Answer {
    chain: Vec<String>,
    roots: Vec<String>,
    identity: String,
    renew_after_s: u64,
}

fn certificates(pems: &[String], what: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let mut found = Vec::new();
    for pem in pems {
        found.extend(certificates_of_pem(pem.as_bytes(), what).map_err(Failure::Garbage)?);
    }
    match found.len() {
        0 => Err(Failure::Garbage(format!("the field {what} holds no certificate"))),
        n if n > CERTIFICATES_MAX => {
            Err(Failure::Garbage(format!("the field {what} holds {n} certificates")))
        }
        _ => Ok(found),
    }
}

/// Every certificate of a PEM text; `what` names it in the fault.
pub(crate) fn certificates_of_pem(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{what} is not valid PEM: {error}"))?;
    for certificate in &found {
        X509Certificate::from_der(certificate)
            .map_err(|error| format!("{what} holds what is not a certificate: {error}"))?;
    }
    if found.is_empty() { Err(format!("{what} holds no certificate")) } else { Ok(found) }
}

#[cfg(test)]
mod tests;
