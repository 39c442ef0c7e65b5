//! The client while the control plane replaces its root: whom it believes, and when it renews.

mod support;

use std::sync::Arc;

use pipy_delivery::{Ack, Event};
use support::certificates::Authority;
use support::client::Proxy;
use support::server::{ControlPlane, Mode};

fn config(roots: &[&Authority]) -> String {
    let roots: Vec<_> = roots.iter().map(|root| root.root_pem()).collect();
    serde_json::json!({"trust": {"domain": "cluster.local", "roots": roots}, "more": [1]}).to_string()
}

#[test]
fn a_poll_tells_whom_the_proxy_believes() {
    let plane = ControlPlane::start();
    let next = Authority::new();
    plane.publish("v1", &config(&[&plane.authority]));
    let proxy = Proxy::start(&plane);
    proxy.config();
    let first = plane.call("/v1/config", 1).headers["fsm-trust"].clone();
    assert_eq!(first.len(), 32, "{first}");

    plane.publish("v2", &config(&[&plane.authority, &next]));
    proxy.config();
    let both = plane.call("/v1/config", 2).headers["fsm-trust"].clone();
    assert_ne!(both, first);

    plane.publish("v3", &config(&[&plane.authority]));
    proxy.config();
    assert_eq!(plane.call("/v1/config", 3).headers["fsm-trust"], first, "and the way back");
}

#[test]
fn roots_of_a_refused_configuration_are_not_believed() {
    let plane = ControlPlane::start();
    plane.publish("v1", &config(&[&plane.authority]));
    let proxy = Proxy::start(&plane);
    proxy.config();
    let before = plane.call("/v1/config", 1).headers["fsm-trust"].clone();
    proxy.answer(|event| match event {
        Event::Config { .. } => Ack::Refused("no".into()),
        _ => Ack::Applied,
    });

    plane.publish("v2", &config(&[&Authority::new()]));
    proxy.config();

    assert_eq!(plane.call("/v1/config", 2).headers["fsm-trust"], before);
}

#[test]
fn a_control_plane_with_the_next_root_is_believed_though_the_file_does_not_know_it() {
    let plane = ControlPlane::start();
    let next = Arc::new(Authority::new());
    plane.publish("v1", &config(&[&plane.authority, &next]));
    let proxy = Proxy::start(&plane);
    let (first, ..) = proxy.credentials();
    proxy.config();
    plane.call("/v1/config", 1);

    let (_, port) = plane.stop();
    let plane = ControlPlane::start_with(Arc::clone(&next), port);
    plane.publish("v2", &config(&[&next]));

    let (second, _, roots) = proxy.credentials();
    assert_ne!(first, second);
    assert_eq!(roots.trim(), next.root_pem().trim());
    assert_eq!(proxy.config().0, "v2");
}

#[test]
fn a_renewal_that_is_asked_for_comes_at_once() {
    let plane = ControlPlane::start();
    plane.publish("v1", "1");
    let proxy = Proxy::start(&plane);
    let (first, ..) = proxy.credentials();
    proxy.config();
    let answer = b"HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\nfsm-renew: 1\r\n\r\n";
    plane.change(|world| world.polls = Mode::Raw(answer.to_vec()));

    let (second, ..) = proxy.credentials();

    assert_ne!(first, second, "although it was good for another hour");
}

#[test]
fn a_renewal_that_is_asked_for_without_end_does_not_make_a_storm() {
    let plane = ControlPlane::start();
    let answer = b"HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\nfsm-renew: 0\r\n\r\n";
    plane.change(|world| world.polls = Mode::Raw(answer.to_vec()));
    let proxy = Proxy::start(&plane);
    proxy.credentials();
    plane.call("/v1/config", 20);
    assert_eq!(plane.count("/v1/certificates"), 1);
}
