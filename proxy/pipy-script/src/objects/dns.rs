//! `DNS`, `RESP`, `Hessian`, `XML`, `STUN`, `BGP`, `Netlink` and `zlib`: codecs that take and give whole values; and
//! `DNS.resolve()`.
//!
//! What cannot be read throws an error that names the protocol, the byte and the reason.

use std::net::ToSocketAddrs;
use std::rc::Rc;

use bytes::Bytes;
use pipy_protocols::compression::{Bound, Format, compress, decompress};
use pipy_protocols::{
    Decoder, Encoder, Error, Event, Value as Plain, bgp, dns, hessian, netlink, resp, stun, xml,
};
use rquickjs::function::Opt;
use rquickjs::{Ctx, Exception, Function, IntoJs, Object, Promise, Result, Value};

use super::value::{from_js, to_js};
use crate::data::Data;
use crate::engine::Engine;

fn refused(ctx: &Ctx<'_>, error: &Error) -> rquickjs::Error {
    Exception::throw_message(ctx, &error.to_string())
}

fn bytes(ctx: &Ctx<'_>, value: &Value<'_>) -> Result<Bytes> {
    if value.is_null() || value.is_undefined() {
        return Err(Exception::throw_type(ctx, "expected Data, got nothing"));
    }
    Data::body_of(value)
}

fn plain<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Result<Plain> {
    Ok(from_js(ctx, value)?.unwrap_or_default())
}

type Read = fn(&Bytes) -> std::result::Result<Plain, Error>;
type Write = fn(&Plain) -> std::result::Result<Bytes, Error>;

fn codec<'js>(ctx: &Ctx<'js>, name: &str, read: Read, write: Write) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    let decode = move |ctx: Ctx<'js>, data: Value<'js>| -> Result<Value<'js>> {
        let value = read(&bytes(&ctx, &data)?).map_err(|error| refused(&ctx, &error))?;
        to_js(&ctx, &value)
    };
    let encode = move |ctx: Ctx<'js>, value: Value<'js>| -> Result<Value<'js>> {
        let written = write(&plain(&ctx, &value)?).map_err(|error| refused(&ctx, &error))?;
        Data::new_js(&ctx, written)
    };
    object.set("decode", Function::new(ctx.clone(), decode)?)?;
    object.set("encode", Function::new(ctx.clone(), encode)?)?;
    ctx.globals().set(name, object.clone())?;
    Ok(object)
}

fn hessian_decode<'js>(ctx: Ctx<'js>, data: Value<'js>, options: Opt<Object<'js>>) -> Result<Value<'js>> {
    let plain_maps = match &options.0 {
        Some(options) => options.get::<_, Option<bool>>("plainMaps")?.unwrap_or(true),
        None => true,
    };
    let options = hessian::Options { plain_maps };
    let values = hessian::decode(&bytes(&ctx, &data)?, options).map_err(|error| refused(&ctx, &error))?;
    to_js(&ctx, &Plain::Array(values))
}

/// The messages that bytes are, from what a decoder makes of them: heads with bodies, or payloads.
fn messages(mut decoder: impl Decoder, bytes: &Bytes) -> std::result::Result<Plain, Error> {
    let mut events = Vec::new();
    decoder.push(bytes.clone(), &mut events)?;
    decoder.finish(&mut events)?;
    let (mut all, mut open, mut body) = (Vec::new(), Plain::Null, Vec::new());
    for event in events {
        match event {
            Event::Start(head) => open = head,
            Event::Data(data) => body.extend_from_slice(&data),
            Event::End { payload: Some(payload), .. } => all.push(payload),
            Event::End { .. } => {
                if let Plain::Object(mut head) = std::mem::take(&mut open) {
                    head.set("body", Bytes::from(std::mem::take(&mut body)));
                    all.push(Plain::Object(head));
                }
            }
        }
    }
    Ok(if all.len() == 1 { all.remove(0) } else { Plain::Array(all) })
}

fn written(mut encoder: impl Encoder, message: &Plain, framed: bool) -> std::result::Result<Bytes, Error> {
    let mut out = Vec::new();
    let all = message.as_array().unwrap_or(std::slice::from_ref(message));
    for message in all {
        if framed {
            encoder.push(Event::Start(message.clone()), &mut out)?;
            let body = message.get("body").and_then(Plain::to_bytes).filter(|body| !body.is_empty());
            body.map_or(Ok(()), |body| encoder.push(Event::Data(body), &mut out))?;
            encoder.push(Event::END, &mut out)?;
        } else {
            encoder.push(Event::Start(Plain::Null), &mut out)?;
            encoder.push(Event::end_with(message.clone()), &mut out)?;
        }
    }
    Ok(out.concat().into())
}

/// `DNS.resolve()`: the addresses of a name; `null` where it has none.
fn resolver<'js>(ctx: &Ctx<'js>, engine: &Rc<Engine>) -> Result<Function<'js>> {
    let engine = Rc::downgrade(engine);
    let resolve = move |ctx: Ctx<'js>, name: String| -> Result<Promise<'js>> {
        let engine = engine.upgrade().ok_or(rquickjs::Error::Unknown)?;
        let work = move || -> Option<Vec<String>> {
            let bare = name.trim_start_matches('[').trim_end_matches(']');
            let mut found: Vec<String> = Vec::new();
            for address in (bare, 0).to_socket_addrs().ok()? {
                let ip = address.ip().to_string();
                if !found.contains(&ip) {
                    found.push(ip);
                }
            }
            Some(found)
        };
        engine.promise(&ctx, false, work, |ctx, found| match found {
            Some(found) => found.into_js(ctx),
            None => Ok(Value::new_null(ctx.clone())),
        })
    };
    Function::new(ctx.clone(), resolve)
}

/// Puts the codecs into the globals.
pub(super) fn install<'js>(ctx: &Ctx<'js>, engine: &Rc<Engine>) -> Result<()> {
    let names = codec(ctx, "DNS", dns::decode, dns::encode)?;
    names.set("resolve", resolver(ctx, engine)?)?;
    codec(ctx, "STUN", stun::decode, stun::encode)?;
    codec(
        ctx,
        "Netlink",
        |bytes| messages(netlink::Decoder::new(), bytes),
        |message| written(netlink::Encoder::new(), message, true),
    )?;
    codec(
        ctx,
        "BGP",
        |bytes| messages(bgp::Decoder::new(false), bytes),
        |message| written(bgp::Encoder::new(false), message, false),
    )?;
    let row: Read = |bytes| {
        let values = resp::decode(bytes.clone())?;
        Ok(if values.len() == 1 {
            values.into_iter().next().unwrap_or_default()
        } else {
            Plain::Array(values)
        })
    };
    codec(ctx, "RESP", row, resp::encode)?;
    let hessian_row: Read = |_| Ok(Plain::Null);
    let hessian = codec(ctx, "Hessian", hessian_row, hessian::encode)?;
    hessian.set("decode", Function::new(ctx.clone(), hessian_decode)?)?;
    let xml_write: Write = |node| xml::stringify(node, 0).map(Bytes::from);
    let xml = codec(ctx, "XML", |bytes| Ok(xml::decode(bytes).unwrap_or_default()), xml_write)?;
    let parse = |ctx: Ctx<'js>, text: String| to_js(&ctx, &xml::parse(&text).unwrap_or_default());
    xml.set("parse", Function::new(ctx.clone(), parse)?)?;
    let stringify = |ctx: Ctx<'js>, node: Value<'js>, indent: Opt<usize>| -> Result<String> {
        xml::stringify(&plain(&ctx, &node)?, indent.0.unwrap_or(0)).map_err(|error| refused(&ctx, &error))
    };
    xml.set("stringify", Function::new(ctx.clone(), stringify)?)?;

    let zlib = Object::new(ctx.clone())?;
    for (name, format) in [("gzip", Format::Gzip), ("deflate", Format::Deflate)] {
        let run = move |ctx: Ctx<'js>, data: Value<'js>| -> Result<Value<'js>> {
            let done = compress(format, &bytes(&ctx, &data)?).map_err(|error| refused(&ctx, &error))?;
            Data::new_js(&ctx, done)
        };
        zlib.set(name, Function::new(ctx.clone(), run)?)?;
    }
    for (name, format) in [("gunzip", Format::Gzip), ("inflate", Format::Deflate)] {
        let run = move |ctx: Ctx<'js>, data: Value<'js>| -> Result<Value<'js>> {
            let done = decompress(format, &bytes(&ctx, &data)?, Bound::default());
            Data::new_js(&ctx, done.map_err(|error| refused(&ctx, &error))?)
        };
        zlib.set(name, Function::new(ctx.clone(), run)?)?;
    }
    ctx.globals().set("zlib", zlib)
}
