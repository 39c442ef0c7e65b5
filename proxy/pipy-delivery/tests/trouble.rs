//! The client against a control plane, and a world, that do what they should not.

mod support;

use std::sync::Arc;
use std::time::Duration;

use pipy_delivery::{ANSWER_BYTES_MAX, Ack, CONFIG_BYTES_MAX, Event, FailureKind};
use support::certificates::Authority;
use support::client::Proxy;
use support::server::{ControlPlane, Mode};

const OK: &str = "HTTP/1.1 200 OK\r\n";

fn raw(text: &str) -> Mode {
    Mode::Raw(text.as_bytes().to_vec())
}

/// The client meets `trouble`, tells of it as `kind` with a reason that contains `words`, and works once it is over.
fn survives(
    kind: FailureKind,
    words: &str,
    trouble: impl FnOnce(&ControlPlane),
    over: impl FnOnce(&ControlPlane),
) {
    let plane = ControlPlane::start();
    trouble(&plane);
    let proxy = Proxy::start_with(&plane, |settings| settings.answer_timeout = Duration::from_millis(300));

    let reason = proxy.lost(kind);
    assert!(reason.contains(words), "{words:?} is not in {reason:?}");

    over(&plane);
    plane.publish("fine", "1");
    let (_, before) = proxy.wait("a configuration", |event| {
        matches!(event, Event::Config { version, .. } if version == "fine").then_some(())
    });
    assert!(before.iter().any(|event| matches!(event, Event::Restored)), "{before:?}");
}

fn polls(mode: Mode) -> impl FnOnce(&ControlPlane) {
    move |plane| plane.change(|world| world.polls = mode)
}

fn certificates(mode: Mode) -> impl FnOnce(&ControlPlane) {
    move |plane| plane.change(|world| world.certificates = mode)
}

#[test]
fn a_server_with_another_root_gets_no_token() {
    let plane = ControlPlane::start();
    let other = Authority::new();
    let proxy = Proxy::start_with(&plane, |settings| {
        std::fs::write(&settings.ca_file, other.root_pem()).expect("a file");
    });

    let reason = proxy.lost(FailureKind::Untrusted);
    assert!(reason.contains("is not the control plane"), "{reason}");
    assert_eq!(plane.count("/v1/certificates"), 0, "it has seen no request");

    // The file is read again: a root that arrives late helps.
    std::fs::write(proxy.files.path().join("ca.pem"), plane.authority.root_pem()).expect("a file");
    proxy.credentials();
}

#[test]
fn a_server_with_another_name_gets_no_token() {
    let plane = ControlPlane::start();
    let proxy = Proxy::start_with(&plane, |settings| settings.server_name = "somebody.else.svc".into());
    let reason = proxy.lost(FailureKind::Untrusted);
    assert!(reason.contains("somebody.else.svc"), "{reason}");
    assert_eq!(plane.count("/v1/certificates"), 0);
}

#[test]
fn a_token_is_read_again_for_each_try() {
    let plane = ControlPlane::start();
    plane.change(|world| world.token = "the.new.one".to_owned());
    let proxy = Proxy::start(&plane);
    let reason = proxy.lost(FailureKind::Denied);
    assert_eq!(reason, "the control plane refuses (401): the token is refused: it has expired");

    std::fs::write(proxy.files.path().join("token"), "the.new.one").expect("a file");

    proxy.credentials();
    proxy.restored();
}

#[test]
fn missing_and_malformed_files_are_named() {
    let plane = ControlPlane::start();
    let proxy = Proxy::start_with(&plane, |settings| {
        std::fs::remove_file(&settings.ca_file).expect("it was there");
        std::fs::write(&settings.token_file, "two words").expect("a file");
    });
    let reason = proxy.lost(FailureKind::Local);
    assert!(reason.starts_with("cannot read the mesh root from ") && reason.contains("ca.pem"), "{reason}");
    std::fs::write(proxy.files.path().join("ca.pem"), plane.authority.root_pem()).expect("a file");
    // Told once per kind of failure: the next one is found when the token is the only thing that is wrong.
    std::fs::write(proxy.files.path().join("token"), support::TOKEN).expect("a file");
    proxy.credentials();
}

#[test]
fn an_address_without_a_port_is_named() {
    let plane = ControlPlane::start();
    let proxy = Proxy::start_with(&plane, |settings| settings.control_plane = "fsm-controller".into());
    let reason = proxy.lost(FailureKind::Local);
    assert_eq!(reason, "the control plane's address \"fsm-controller\" has no port");
}

#[test]
fn nobody_there_is_an_outage_that_ends() {
    let (authority, port) = ControlPlane::start().stop();
    let plane = ControlPlane::start();
    let proxy = Proxy::start_with(&plane, |settings| {
        settings.control_plane = format!("https://127.0.0.1:{port}/");
        std::fs::write(&settings.ca_file, authority.root_pem()).expect("a file");
    });
    let reason = proxy.lost(FailureKind::Unreachable);
    assert!(reason.contains("refused"), "{reason}");
    let late = ControlPlane::start_with(Arc::clone(&authority), port);
    late.publish("v1", "1");
    assert_eq!(proxy.config().0, "v1");
}

#[test]
fn a_poll_that_is_turned_down_leads_to_a_new_certificate() {
    for status in [401, 403] {
        let plane = ControlPlane::start();
        plane.change(|world| world.polls = Mode::Status(status, "the certificate has expired"));
        let proxy = Proxy::start(&plane);
        proxy.credentials();
        let reason = proxy.lost(FailureKind::Denied);
        assert_eq!(reason, format!("the control plane refuses ({status}): the certificate has expired"));
        proxy.credentials();
        plane.change(|world| world.polls = Mode::Normal);
        plane.publish("v1", "1");
        assert_eq!(proxy.config().0, "v1");
    }
}

#[test]
fn a_certificate_that_tls_turns_down_is_replaced() {
    let plane = ControlPlane::start();
    plane.change(|world| world.signer = Some(Arc::new(Authority::new())));
    let proxy = Proxy::start(&plane);
    proxy.credentials();
    proxy.lost(FailureKind::Unreachable);
    plane.change(|world| world.signer = None);
    plane.publish("v1", "1");
    assert_eq!(proxy.config().0, "v1");
}

#[test]
fn a_control_plane_that_hangs_up_again_and_again_gets_a_new_certificate() {
    let plane = ControlPlane::start();
    plane.change(|world| world.polls = raw(""));
    let proxy = Proxy::start(&plane);
    let (first, ..) = proxy.credentials();
    let (second, ..) = proxy.credentials();
    assert_ne!(first, second);
    assert!(plane.count("/v1/config") >= 3, "not at the first time");
}

#[test]
fn failures_that_alternate_are_told_once_each() {
    let plane = ControlPlane::start();
    let proxy = Proxy::start(&plane);
    proxy.credentials();
    plane.change(|world| {
        world.certificates = Mode::Status(403, "no");
        world.polls = Mode::Status(401, "no");
    });
    // Ends the poll that waits.
    plane.publish("v1", "1");
    proxy.lost(FailureKind::Denied);
    plane.change(|world| world.polls = raw("no HTTP\r\n\r\n"));
    proxy.lost(FailureKind::Garbage);
    let certificates = plane.count("/v1/certificates");
    plane.call("/v1/certificates", certificates + 3);
    let again = proxy.pending();
    assert!(!again.iter().any(|event| matches!(event, Event::Lost { .. })), "{again:?}");
}

#[test]
fn while_renewal_fails_the_old_certificate_goes_on() {
    let plane = ControlPlane::start();
    plane.change(|world| world.renew_after_s = 1);
    let proxy = Proxy::start(&plane);
    let (first, ..) = proxy.credentials();
    plane.change(|world| world.certificates = Mode::Status(403, "namespace bookstore is not in this mesh"));
    proxy.lost(FailureKind::Denied);

    plane.publish("v1", "1");
    let (version, before) = proxy.wait("a configuration", |event| match event {
        Event::Config { version, .. } => Some(version.clone()),
        _ => None,
    });
    assert_eq!(version, "v1");
    assert!(!before.iter().any(|event| matches!(event, Event::Restored)), "it is not over yet: {before:?}");

    plane.change(|world| (world.certificates, world.renew_after_s) = (Mode::Normal, 3600));
    let (second, ..) = proxy.credentials();
    assert_ne!(first, second);
    plane.publish("v2", "2");
    proxy.restored();
}

#[test]
fn credentials_that_the_owner_refuses_are_not_used() {
    let plane = ControlPlane::start();
    let proxy = Proxy::start_answering(&plane, |_| {}, |_| Ack::Refused("not the identity I expect".into()));
    let reason = proxy.lost(FailureKind::Garbage);
    assert!(reason.ends_with("not the identity I expect"), "{reason}");
    assert_eq!(plane.count("/v1/config"), 0);
    proxy.answer(|_| Ack::Applied);
    proxy.restored();
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    survives(
        FailureKind::Garbage,
        "the certificate is not of our key",
        |plane| plane.change(|world| world.foreign_key = true),
        |plane| plane.change(|world| world.foreign_key = false),
    );
}

#[test]
fn certificates_that_are_none_are_refused() {
    for (body, words) in [
        ("{", "the certificate's answer is malformed"),
        (r#"{"chain": [], "roots": [], "identity": "", "renew_after_s": -1}"#, "malformed"),
        (
            r#"{"chain": [], "roots": [], "identity": "", "renew_after_s": 1}"#,
            "the field chain holds no certificate",
        ),
        (
            r#"{"chain": ["x"], "roots": [], "identity": "", "renew_after_s": 1}"#,
            "chain holds no certificate",
        ),
        (
            r#"{"chain": ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"], "roots": [], "identity": "", "renew_after_s": 1}"#,
            "chain holds what is not a certificate",
        ),
    ] {
        let answer = format!("{OK}content-length: {}\r\n\r\n{body}", body.len());
        survives(FailureKind::Garbage, words, certificates(raw(&answer)), certificates(Mode::Normal));
    }
}

#[test]
fn what_is_not_http_is_refused() {
    survives(
        FailureKind::Garbage,
        "it is not HTTP",
        polls(raw("SSH-2.0-OpenSSH_9\r\n\r\n")),
        polls(Mode::Normal),
    );
}

#[test]
fn a_configuration_needs_a_version() {
    for (head, words) in [
        ("", "its ETag is missing"),
        ("ETag: v1\r\n", "its ETag is not a quoted version"),
        ("ETag: \"\"\r\n", "its ETag is empty"),
        ("ETag: \"a b\"\r\n", "not plain text"),
    ] {
        let answer = format!("{OK}{head}content-length: 1\r\n\r\n1");
        survives(FailureKind::Garbage, words, polls(raw(&answer)), polls(Mode::Normal));
    }
}

#[test]
fn an_unexpected_status_is_refused() {
    survives(
        FailureKind::Garbage,
        "the unexpected status 302",
        polls(raw("HTTP/1.1 302 Found\r\nlocation: https://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")),
        polls(Mode::Normal),
    );
}

#[test]
fn a_version_that_we_have_is_not_applied_again() {
    let plane = ControlPlane::start();
    plane.change(|world| world.impatient = true);
    plane.publish("v1", "1");
    let proxy = Proxy::start(&plane);
    proxy.config();
    let reason = proxy.lost(FailureKind::Garbage);
    assert!(reason.contains("version v1"), "{reason}");
    assert_eq!(plane.count("/v1/acks"), 0);
}

#[test]
fn a_connection_that_ends_within_a_body_is_an_outage() {
    survives(
        FailureKind::Unreachable,
        "",
        polls(raw(&format!("{OK}ETag: \"v\"\r\ncontent-length: 100\r\n\r\nhalf"))),
        polls(Mode::Normal),
    );
}

#[test]
fn an_answer_that_is_too_large_is_refused() {
    survives(
        FailureKind::Garbage,
        "larger than 1048576 bytes",
        certificates(Mode::Huge("", ANSWER_BYTES_MAX + 1)),
        certificates(Mode::Normal),
    );
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let answer = format!("{OK}x: {}\r\n\r\n", "y".repeat(40_000));
    survives(FailureKind::Garbage, "head is larger", polls(raw(&answer)), polls(Mode::Normal));
}

#[test]
fn a_configuration_that_is_too_large_is_refused() {
    let plane = ControlPlane::start();
    plane.change(|world| world.polls = Mode::Huge("ETag: \"v1\"\r\n", CONFIG_BYTES_MAX + 1));
    let proxy = Proxy::start(&plane);
    let reason = proxy.lost(FailureKind::Garbage);
    assert!(reason.contains("larger than 67108864 bytes"), "{reason}");
    assert!(!proxy.pending().iter().any(|event| matches!(event, Event::Config { .. })));
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    survives(
        FailureKind::Unreachable,
        "it took too long",
        certificates(Mode::Stall(Vec::new())),
        certificates(Mode::Normal),
    );
}

#[test]
fn a_server_that_stops_within_a_body_is_given_up() {
    let answer = format!("{OK}ETag: \"v\"\r\ncontent-length: 100\r\n\r\nhalf");
    survives(
        FailureKind::Unreachable,
        "it took too long",
        polls(Mode::Stall(answer.into_bytes())),
        polls(Mode::Normal),
    );
}

#[test]
fn stopping_while_a_server_is_silent_is_quick() {
    let plane = ControlPlane::start();
    plane.change(|world| world.certificates = Mode::Stall(Vec::new()));
    let mut proxy = Proxy::start(&plane);
    plane.call("/v1/certificates", 0);
    assert!(proxy.stop(), "the thread has ended");
}
