//! The client against a control plane that does what it should.

mod support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pipy_delivery::{Ack, Event, FailureKind};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use support::client::Proxy;
use support::server::{ControlPlane, Mode};
use support::{IDENTITY, TOKEN};

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

#[test]
fn a_certificate_is_fetched_with_the_token() {
    let plane = ControlPlane::start();
    let proxy = Proxy::start(&plane);

    let ((chain, key, roots, identity, not_after), _) = proxy.wait("credentials", |event| match event {
        Event::Credentials { chain_pem, key_pem, roots_pem, identity, not_after } => {
            Some((chain_pem.clone(), key_pem.clone(), roots_pem.clone(), identity.clone(), *not_after))
        }
        _ => None,
    });

    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    CertifiedKey::from_der(vec![der(&chain)], key, &aws_lc_rs::default_provider()).expect("they fit");
    assert_eq!(roots.trim(), plane.authority.root_pem().trim());
    assert_eq!(identity, IDENTITY);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(not_after > now, "{not_after} is over");
    let call = plane.call("/v1/certificates", 0);
    assert_eq!(call.headers["authorization"], format!("Bearer {TOKEN}"));
    assert_eq!(
        call.json()["pod"],
        serde_json::json!({"namespace": "bookstore", "name": "bookstore-v1-abc", "uid": "u-1"})
    );
    assert_eq!(call.peer, None, "there is no certificate yet");
    assert!(!String::from_utf8_lossy(&call.body).contains("PRIVATE KEY"));
}

#[test]
fn a_configuration_is_handed_over_and_acknowledged() {
    let plane = ControlPlane::start();
    plane.publish("v1", "{\"a\": 1}");
    let proxy = Proxy::start(&plane);

    let (chain, ..) = proxy.credentials();
    assert_eq!(proxy.config(), ("v1".to_owned(), "{\"a\": 1}".to_owned()));

    let poll = plane.call("/v1/config", 0);
    assert_eq!(poll.headers["fsm-pod"], "bookstore/bookstore-v1-abc/u-1");
    assert_eq!((poll.query["version"].as_str(), poll.query["wait_s"].as_str()), ("", "50"));
    let next = plane.call("/v1/config", 1);
    assert_eq!((next.query["version"].as_str(), next.headers["fsm-applied"].as_str()), ("v1", "v1"));
    assert_eq!(plane.count("/v1/acks"), 0, "the next poll has said it");
    for call in [poll, next] {
        assert_eq!(call.peer.as_deref(), Some(der(&chain).as_ref()), "{} shows the certificate", call.path);
    }
}

#[test]
fn a_change_arrives_while_polling_on_the_same_connection() {
    let plane = ControlPlane::start();
    plane.publish("v1", "1");
    let proxy = Proxy::start(&plane);
    assert_eq!(proxy.config().0, "v1");
    let second = plane.call("/v1/config", 1);
    assert_eq!(second.query["version"], "v1");
    assert_eq!(second.headers["fsm-applied"], "v1");

    plane.publish("v2", "2");

    assert_eq!(proxy.config(), ("v2".to_owned(), "2".to_owned()));
    assert_eq!(plane.call("/v1/config", 2).headers["fsm-applied"], "v2");
    let accepted = plane.wait("connections", |state| Some(state.accepted));
    assert_eq!(accepted, 2, "one without a certificate, one with");
}

#[test]
fn nothing_new_is_asked_for_again_in_silence() {
    let plane = ControlPlane::start();
    plane.publish("v1", "1");
    let proxy = Proxy::start_with(&plane, |settings| settings.poll_wait = Duration::from_secs(1));
    proxy.config();

    // The first brings v1, the second and third end without a change.
    let fourth = plane.call("/v1/config", 3);

    assert_eq!(fourth.query["version"], "v1");
    assert!(proxy.pending().is_empty());
}

#[test]
fn a_server_that_does_not_wait_is_not_asked_without_pause() {
    let plane = ControlPlane::start();
    plane.change(|world| world.impatient = true);
    let pause = Duration::from_millis(50);
    let start = Instant::now();
    let _proxy = Proxy::start_with(&plane, |settings| settings.backoff_min = pause);
    plane.call("/v1/config", 4);
    assert!(start.elapsed() >= 4 * pause, "{:?}", start.elapsed());
}

#[test]
fn a_refused_configuration_is_acknowledged_with_its_reason_and_not_sent_again() {
    let plane = ControlPlane::start();
    plane.publish("good", "1");
    let proxy = Proxy::start_answering(
        &plane,
        |_| {},
        |event| match event {
            Event::Config { version, .. } if version == "bad" => {
                Ack::Refused("inbound.port: too big".repeat(200))
            }
            _ => Ack::Applied,
        },
    );
    assert_eq!(proxy.config().0, "good");
    plane.publish("bad", "2");
    assert_eq!(proxy.config().0, "bad");

    let ack = plane.call("/v1/acks", 0).json();
    assert_eq!((&ack["version"], &ack["outcome"]), (&"bad".into(), &"refused".into()));
    let reason = ack["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("inbound.port: too big") && reason.len() == 2000, "{}", reason.len());
    let poll = plane.call("/v1/config", 2);
    assert_eq!(poll.query["version"], "bad", "it has been seen");
    assert_eq!(poll.headers["fsm-applied"], "good", "but this one runs");

    plane.publish("better", "3");
    assert_eq!(proxy.config().0, "better");
    assert_eq!(plane.call("/v1/config", 3).headers["fsm-applied"], "better");
    assert_eq!(plane.count("/v1/acks"), 1);
}

#[test]
fn a_refusal_is_owed_until_it_is_taken() {
    let plane = ControlPlane::start();
    plane.change(|world| world.acks = Mode::Status(503, "busy"));
    plane.publish("v1", "1");
    let proxy = Proxy::start_answering(
        &plane,
        |_| {},
        |event| match event {
            Event::Config { .. } => Ack::Refused("no".into()),
            _ => Ack::Applied,
        },
    );
    proxy.config();
    plane.call("/v1/acks", 2);

    plane.change(|world| world.acks = Mode::Normal);

    plane.call("/v1/config", 1);
    let tries = plane.count("/v1/acks");
    assert_eq!(plane.call("/v1/acks", tries - 1).json()["version"], "v1");
}

#[test]
fn a_certificate_is_renewed_with_a_new_key_while_configurations_arrive() {
    let plane = ControlPlane::start();
    plane.change(|world| world.renew_after_s = 1);
    plane.publish("v1", "1");
    let proxy = Proxy::start(&plane);
    let (first_chain, first_key, _) = proxy.credentials();
    proxy.config();

    let (second_chain, second_key, _) = proxy.credentials();
    plane.change(|world| world.renew_after_s = 3600);
    assert_ne!(first_chain, second_chain);
    assert_ne!(first_key, second_key);
    plane.wait("a poll with the new certificate", |state| {
        state.calls.iter().any(|call| call.peer.as_deref() == Some(der(&second_chain).as_ref())).then_some(())
    });

    plane.publish("v2", "2");
    assert_eq!(proxy.config().0, "v2");
    let lost = proxy.pending().iter().any(|event| matches!(event, Event::Lost { .. }));
    assert!(!lost, "nothing was lost on the way");
}

#[test]
fn a_pod_that_is_not_known_yet_is_no_outage() {
    let plane = ControlPlane::start();
    plane.change(|world| world.polls = Mode::Status(404, "Pod bookstore/x is not known here (yet)"));
    let proxy = Proxy::start(&plane);
    plane.call("/v1/config", 2);
    plane.change(|world| world.polls = Mode::Normal);
    plane.publish("v1", "1");

    let (_, before) =
        proxy.wait("a configuration", |event| matches!(event, Event::Config { .. }).then_some(()));

    let told = before.iter().any(|event| matches!(event, Event::Lost { .. } | Event::Restored));
    assert!(!told, "{before:?}");
    assert_eq!(plane.count("/v1/certificates"), 1, "the certificate was not to blame");
}

#[test]
fn a_restarted_control_plane_is_found_again() {
    let plane = ControlPlane::start();
    plane.publish("v1", "1");
    let proxy = Proxy::start(&plane);
    proxy.config();
    plane.call("/v1/config", 1);

    let (authority, port) = plane.stop();
    let reason = proxy.lost(FailureKind::Unreachable);
    assert!(reason.contains(&port.to_string()), "{reason}");
    let plane = ControlPlane::start_with(authority, port);
    plane.publish("v2", "2");

    let ((), before) = proxy.wait("Restored", |event| matches!(event, Event::Restored).then_some(()));
    let again = before.iter().filter(|event| matches!(event, Event::Lost { .. })).count();
    assert_eq!(again, 0, "an outage is told once");
    assert_eq!(proxy.config().0, "v2");
    assert_eq!(plane.call("/v1/config", 0).query["version"], "v1", "it goes on where it was");
    assert_eq!(plane.count("/v1/certificates"), 0, "the certificate is still good");
}

#[test]
fn stopping_in_the_middle_of_a_poll_is_quick() {
    let plane = ControlPlane::start();
    let mut proxy = Proxy::start(&plane);
    plane.call("/v1/config", 0);
    assert!(proxy.stop(), "the thread has ended");
}

#[test]
fn stopping_in_a_pause_is_quick() {
    let plane = ControlPlane::start();
    plane.change(|world| world.certificates = Mode::Status(400, "no"));
    let mut proxy = Proxy::start_with(&plane, |settings| {
        settings.backoff_min = Duration::from_secs(600);
        settings.backoff_max = Duration::from_secs(600);
    });
    proxy.lost(FailureKind::Denied);
    assert!(proxy.stop(), "the thread has ended");
}

#[test]
fn without_its_handle_the_client_ends_and_tells_nothing_more() {
    let plane = ControlPlane::start();
    let mut proxy = Proxy::start(&plane);
    plane.call("/v1/config", 0);
    assert!(proxy.handle.as_ref().is_some_and(pipy_delivery::Handle::is_running));

    proxy.handle = None;
    plane.publish("v1", "1");

    let events = proxy.ended();
    assert!(matches!(events[..], [Event::Credentials { .. }]), "{events:?}");
    assert_eq!(plane.count("/v1/acks"), 0);
}

/// A configuration that is long enough for differences.
fn long(version: &str, word: &str) -> String {
    let clusters =
        format!("\"a\":{{\"origin\":\"{}\"}},\"b\":{{\"origin\":\"{word}\"}}", "x".repeat(40 << 10));
    format!("{{\"clusters\":{{{clusters}}},\"outbound\":null,\"version\":\"{version}\"}}")
}

#[test]
fn a_difference_is_taken_by_whoever_holds_its_base() {
    let plane = ControlPlane::start();
    plane.publish("v1", &long("v1", "old"));
    let proxy = Proxy::start(&plane);
    assert_eq!(proxy.config().1, long("v1", "old"));
    assert!(!plane.call("/v1/config", 0).headers.contains_key("a-im"), "it holds nothing yet");
    assert_eq!(plane.call("/v1/config", 1).headers["a-im"], "fsm-difference");

    let to = |version: &str, base: &str, word: &str| {
        let changed = format!("{{\"changed\":{{\"b\":{{\"origin\":\"{word}\"}}}},\"removed\":[]}}");
        format!("{{\"base\":\"{base}\",\"fields\":{{\"version\":\"{version}\"}},\"clusters\":{changed}}}")
            .into_bytes()
    };
    plane.change(|world| world.difference = Some(to("v2", "v1", "new")));
    plane.publish("v2", "not this");
    assert_eq!(proxy.config(), ("v2".to_owned(), long("v2", "new")));
    plane.call("/v1/config", 2);

    plane.change(|world| world.difference = Some(to("v3", "v2", "newer")));
    plane.publish("v3", "not this");
    assert_eq!(proxy.config(), ("v3".to_owned(), long("v3", "newer")));
}

#[test]
fn a_difference_that_does_not_fit_is_told_and_the_whole_asked_for() {
    let plane = ControlPlane::start();
    plane.publish("v1", &long("v1", "old"));
    let proxy = Proxy::start(&plane);
    proxy.config();
    plane.change(|world| world.difference = Some(b"{\"base\":\"v0\",\"fields\":{}}".to_vec()));
    plane.publish("v2", &long("v2", "new"));

    let reason = proxy.lost(FailureKind::Garbage);
    assert!(reason.contains("for version v0"), "{reason}");
    assert_eq!(proxy.config(), ("v2".to_owned(), long("v2", "new")));
}
