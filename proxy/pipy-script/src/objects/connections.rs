//! `pipy.inbound` and `pipy.outbound`: the connections of this worker that are open, of clients and to servers.
//!
//! In: who makes a connection lists it. INVARIANT: it is listed for as long as what [`list_inbound`] or [`list_outbound`] gave is
//! kept; nothing of a script is kept here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use pipy_worker::Accepted;
use rquickjs::object::Accessor;
use rquickjs::{Ctx, Function, Object, Result};

use crate::inbound;

#[derive(Default)]
struct Open {
    last: u64,
    inbound: BTreeMap<u64, (u64, Accepted)>,
    outbound: BTreeMap<u64, (SocketAddr, &'static str)>,
}

thread_local! {
    static OPEN: RefCell<Open> = RefCell::default();
}

/// Lists a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Listed(u64);

impl Drop for Listed {
    fn drop(&mut self) {
        // When the thread ends, nobody asks any more.
        let _ = OPEN.try_with(|open| {
            let mut open = open.borrow_mut();
            open.inbound.remove(&self.0);
            open.outbound.remove(&self.0);
        });
    }
}

/// A client has connected; `id` is how its script calls it.
pub(crate) fn list_inbound(id: u64, accepted: &Accepted) -> Listed {
    OPEN.with_borrow_mut(|open| {
        open.last += 1;
        open.inbound.insert(open.last, (id, *accepted));
        Listed(open.last)
    })
}

/// A connection to a server has been begun.
pub(crate) fn list_outbound(address: SocketAddr, protocol: &'static str) -> Listed {
    OPEN.with_borrow_mut(|open| {
        open.last += 1;
        open.outbound.insert(open.last, (address, protocol));
        Listed(open.last)
    })
}

/// How many are open on this worker: of clients, to servers.
pub(crate) fn open() -> (usize, usize) {
    OPEN.with_borrow(|open| (open.inbound.len(), open.outbound.len()))
}

/// Adds them to the `pipy` object.
pub(super) fn install<'js>(ctx: &Ctx<'js>, pipy: &Object<'js>) -> Result<()> {
    let inbound = Object::new(ctx.clone())?;
    let count = || OPEN.with_borrow(|open| open.inbound.len());
    inbound.prop("count", Accessor::new_get(count).enumerable())?;
    let each = |ctx: Ctx<'js>, callback: Function<'js>| -> Result<()> {
        let all: Vec<_> = OPEN.with_borrow(|open| open.inbound.values().copied().collect());
        all.into_iter().try_for_each(|(id, accepted)| callback.call((inbound::object(&ctx, id, &accepted)?,)))
    };
    inbound.set("forEach", Function::new(ctx.clone(), each)?)?;
    pipy.set("inbound", inbound)?;
    let outbound = Object::new(ctx.clone())?;
    let count = || OPEN.with_borrow(|open| open.outbound.len());
    outbound.prop("count", Accessor::new_get(count).enumerable())?;
    let each = |ctx: Ctx<'js>, callback: Function<'js>| -> Result<()> {
        let all: Vec<_> = OPEN.with_borrow(|open| open.outbound.values().copied().collect());
        all.into_iter().try_for_each(|(address, protocol)| {
            let object = Object::new(ctx.clone())?;
            object.set("remoteAddress", address.ip().to_canonical().to_string())?;
            object.set("remotePort", address.port())?;
            object.set("protocol", protocol)?;
            callback.call((object,))
        })
    };
    outbound.set("forEach", Function::new(ctx.clone(), each)?)?;
    pipy.set("outbound", outbound)
}
