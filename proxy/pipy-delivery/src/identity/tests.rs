//! The signing request, and what can be wrong with an answer.

use super::*;

#[test]
fn a_request_is_signed_by_its_key_and_names_nobody() {
    let request = Request::new().expect("a key");
    let parsed = rcgen::CertificateSigningRequestParams::from_pem(&request.csr_pem).expect("a valid request");
    assert!(parsed.params.distinguished_name.iter().next().is_none());
    assert!(parsed.params.subject_alt_names.is_empty());
    assert!(request.csr_pem.len() < 1024);
}

#[test]
fn every_request_has_its_own_key() {
    let keys = [Request::new(), Request::new()].map(|request| request.expect("a key").key.serialize_pem());
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn more_certificates_than_a_mesh_can_have_are_refused() {
    let key = KeyPair::generate().expect("a key");
    let pem = CertificateParams::default().self_signed(&key).expect("a certificate").pem();
    let many = vec![pem; CERTIFICATES_MAX + 1];
    let failure = certificates(&many, "roots").expect_err("too many");
    assert!(failure.to_string().ends_with("the field roots holds 17 certificates"), "{failure}");
    assert_eq!(certificates(&many[1..], "roots").expect("just enough").len(), CERTIFICATES_MAX);
}

#[test]
fn credentials_are_told_without_their_key_in_debug_text() {
    let event = Event::Credentials {
        chain_pem: "chain".into(),
        key_pem: "-----BEGIN PRIVATE KEY-----".into(),
        roots_pem: "roots".into(),
        identity: "spiffe://a/b".into(),
        not_after: 7,
    };
    let text = format!("{event:?}");
    assert!(!text.contains("PRIVATE KEY") && text.contains("spiffe://a/b"), "{text}");
}
