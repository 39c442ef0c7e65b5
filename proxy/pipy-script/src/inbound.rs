//! `__inbound`: the connection that a context belongs to.

use pipy_worker::Accepted;
use rquickjs::{Ctx, Object, Result};

/// The object that scripts see.
pub(crate) fn object<'js>(ctx: &Ctx<'js>, id: u64, accepted: &Accepted) -> Result<Object<'js>> {
    let inbound = Object::new(ctx.clone())?;
    inbound.set("id", id as f64)?;
    inbound.set("localAddress", accepted.local.ip().to_canonical().to_string())?;
    inbound.set("localPort", accepted.local.port())?;
    inbound.set("remoteAddress", accepted.peer.ip().to_canonical().to_string())?;
    inbound.set("remotePort", accepted.peer.port())?;
    inbound.set("destinationAddress", accepted.destination.ip().to_canonical().to_string())?;
    inbound.set("destinationPort", accepted.destination.port())?;
    Ok(inbound)
}
