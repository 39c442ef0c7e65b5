//! Endpoints that clients chose themselves: the addresses that they dialled, where a rule lets traffic go on to them.
//!
//! In: an address. Out: its endpoint, with the connections to it that are kept. INVARIANT: at most [`ADDRESSES_MAX`] are
//! remembered; one too many is used for what it was asked for, and nothing of it is kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use pipy_pipeline::PipelineId;

use super::endpoint::Endpoint;
use super::outside::Outside;

/// LIMIT: addresses remembered per cluster and worker. A client may dial the whole internet; names have a few addresses.
const ADDRESSES_MAX: usize = 256;

/// See the module.
#[derive(Default)]
pub(crate) struct Dialled {
    known: RefCell<HashMap<SocketAddr, Rc<Endpoint>>>,
    /// How they are spoken to in TLS, if that is wanted.
    outside: Option<Rc<Outside>>,
}

impl Dialled {
    pub(crate) fn new(outside: Option<Rc<Outside>>) -> Self {
        Dialled { known: RefCell::default(), outside }
    }

    /// The endpoint of an address.
    pub(crate) fn endpoint(&self, address: SocketAddr) -> Rc<Endpoint> {
        let mut known = self.known.borrow_mut();
        if let Some(endpoint) = known.get(&address) {
            return Rc::clone(endpoint);
        }
        let endpoint = Endpoint::outside(&(address, None), self.outside.as_ref());
        if known.len() >= ADDRESSES_MAX {
            known.retain(|_, endpoint| endpoint.requests.get() > 0 || endpoint.has_room());
        }
        if known.len() < ADDRESSES_MAX {
            known.insert(address, Rc::clone(&endpoint));
        } else {
            endpoint.retire();
        }
        endpoint
    }

    /// The rule is gone: returns the connections that carry nothing and can be closed.
    pub(crate) fn retire(&self) -> Vec<PipelineId> {
        self.known.borrow_mut().drain().flat_map(|(_, endpoint)| endpoint.retire()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn address(number: usize) -> SocketAddr {
        format!("192.0.2.{}:{}", number % 256, 1 + number / 256).parse().expect("an address")
    }

    #[test]
    fn an_address_is_remembered_while_it_is_in_use_and_others_make_room() {
        let dialled = Dialled::default();
        let first = dialled.endpoint(address(0));
        let in_hand = first.request(Instant::now());
        for number in 1..ADDRESSES_MAX + 10 {
            dialled.endpoint(address(number));
            assert!(dialled.known.borrow().len() <= ADDRESSES_MAX);
        }
        assert!(Rc::ptr_eq(&first, &dialled.endpoint(address(0))));
        drop(in_hand);
        assert!(dialled.retire().is_empty(), "no connection was kept");
        assert!(!Rc::ptr_eq(&first, &dialled.endpoint(address(0))));
    }

    #[test]
    fn one_too_many_is_served_and_forgotten() {
        let dialled = Dialled::default();
        let busy: Vec<_> =
            (0..ADDRESSES_MAX).map(|n| dialled.endpoint(address(n)).request(Instant::now())).collect();
        let more = address(ADDRESSES_MAX);
        assert_eq!(dialled.endpoint(more).address, more);
        assert!(!Rc::ptr_eq(&dialled.endpoint(more), &dialled.endpoint(more)));
        assert_eq!(dialled.known.borrow().len(), busy.len());
    }
}
