//! Path attributes, from bytes to values.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::Bytes;

use super::{
    EXTENDED, IPV4, IPV6, MULTICAST, OPTIONAL, PARTIAL, PROTOCOL, SEGMENTS, TRANSITIVE, UNICAST, known,
};
use crate::input::Cursor;
use crate::{Error, Object, Value};

/// Reads an attribute with its flags and its length.
pub(super) fn attribute(cursor: &mut Cursor, as4: bool) -> Result<Object, Error> {
    let flags = cursor.u8("an attribute")?;
    let code = cursor.u8("an attribute")?;
    let length = if flags & EXTENDED == 0 {
        usize::from(cursor.u8("an attribute")?)
    } else {
        usize::from(cursor.u16("an attribute")?)
    };
    let mut content = cursor.sub(length, "an attribute")?;
    let value = value(&mut content, code, as4)?;
    if !content.is_empty() {
        return Err(content.malformed(format!("{} bytes too many in an attribute", content.remaining())));
    }
    let mut attribute = Object::new();
    if let Some(known) = known(code) {
        attribute.set("name", known.name);
    }
    Ok(attribute
        .with("code", code)
        .with("optional", flags & OPTIONAL != 0)
        .with("transitive", flags & TRANSITIVE != 0)
        .with("partial", flags & PARTIAL != 0)
        .with("value", value))
}

fn value(cursor: &mut Cursor, code: u8, as4: bool) -> Result<Value, Error> {
    Ok(match known(code).map(|known| known.name) {
        Some("ORIGIN") => cursor.u8("ORIGIN")?.into(),
        Some("AS_PATH") => path(cursor, as4)?.into(),
        Some("AS4_PATH") => path(cursor, true)?.into(),
        Some("NEXT_HOP" | "ORIGINATOR_ID") => ip(cursor)?,
        Some("CLUSTER_LIST") => several(cursor, ip)?,
        Some("MULTI_EXIT_DISC" | "LOCAL_PREF") => cursor.u32("a number")?.into(),
        Some("AGGREGATOR") => aggregator(cursor, as4)?,
        Some("AS4_AGGREGATOR") => aggregator(cursor, true)?,
        Some("COMMUNITIES") => several(cursor, |cursor| {
            let (high, low) = (cursor.u16("a community")?, cursor.u16("a community")?);
            Ok(format!("{high}:{low}").into())
        })?,
        Some("LARGE_COMMUNITY") => several(cursor, |cursor| {
            let mut part = || cursor.u32("a community");
            Ok(format!("{}:{}:{}", part()?, part()?, part()?).into())
        })?,
        Some("MP_REACH_NLRI") => reach(cursor)?,
        Some("MP_UNREACH_NLRI") => unreach(cursor)?,
        _ => cursor.rest().into(),
    })
}

fn several(cursor: &mut Cursor, one: impl Fn(&mut Cursor) -> Result<Value, Error>) -> Result<Value, Error> {
    let mut all = Vec::new();
    while !cursor.is_empty() {
        all.push(one(cursor)?);
    }
    Ok(all.into())
}

/// An IPv4 address.
pub(super) fn ip(cursor: &mut Cursor) -> Result<Value, Error> {
    Ok(Ipv4Addr::from(cursor.u32("an address")?).to_string().into())
}

/// Prefixes up to the end.
pub(super) fn prefixes(mut cursor: Cursor, v6: bool) -> Result<Vec<Value>, Error> {
    let mut all = Vec::new();
    while !cursor.is_empty() {
        let bits = cursor.u8("a prefix")?;
        if bits > if v6 { 128 } else { 32 } {
            return Err(cursor.malformed(format!("a prefix of {bits} bits")));
        }
        let mut address = [0; 16];
        let given = cursor.take(usize::from(bits.div_ceil(8)), "a prefix")?;
        address.iter_mut().zip(given.iter()).for_each(|(to, from)| *to = *from);
        let [a, b, c, d, ..] = address;
        let text = match v6 {
            true => Ipv6Addr::from(address).to_string(),
            false => Ipv4Addr::new(a, b, c, d).to_string(),
        };
        all.push(format!("{text}/{bits}").into());
    }
    Ok(all)
}

fn asn(cursor: &mut Cursor, as4: bool) -> Result<Value, Error> {
    Ok(if as4 { cursor.u32("an AS")?.into() } else { cursor.u16("an AS")?.into() })
}

fn aggregator(cursor: &mut Cursor, as4: bool) -> Result<Value, Error> {
    Ok(Object::new().with("as", asn(cursor, as4)?).with("ip", ip(cursor)?).into())
}

fn path(cursor: &mut Cursor, as4: bool) -> Result<Vec<Value>, Error> {
    let mut segments = Vec::new();
    while !cursor.is_empty() {
        let kind = cursor.u8("a segment")?;
        let name = usize::from(kind).checked_sub(1).and_then(|index| SEGMENTS.get(index));
        let name = *name.ok_or_else(|| cursor.malformed(format!("a segment of type {kind}")))?;
        let mut path = Vec::new();
        for _ in 0..cursor.u8("a segment")? {
            path.push(asn(cursor, as4)?);
        }
        segments.push(Object::new().with("type", name).with("path", path).into());
    }
    Ok(segments)
}

/// Of a family that is not known here all is `Data`.
fn known_family(whole: &Bytes) -> Option<bool> {
    let (family, rest) = whole.split_first_chunk::<2>()?;
    let family = u16::from_be_bytes(*family);
    let known = matches!(family, IPV4 | IPV6) && matches!(*rest.first()?, UNICAST | MULTICAST);
    known.then_some(family == IPV6)
}

/// RFC 4760 section 3.
fn reach(cursor: &mut Cursor) -> Result<Value, Error> {
    let start = cursor.position();
    let whole = cursor.rest();
    let Some(v6) = known_family(&whole) else { return Ok(whole.into()) };
    let mut cursor = Cursor::new(PROTOCOL, whole, start);
    let object = Object::new().with("afi", cursor.u16("a family")?).with("safi", cursor.u8("a family")?);
    let length = usize::from(cursor.u8("a next hop")?);
    let next_hop = cursor.take(length, "a next hop")?;
    let next_hop: Value = match *next_hop {
        [a, b, c, d] => Ipv4Addr::new(a, b, c, d).to_string().into(),
        // The second address, if there is one, is link-local (RFC 2545 section 3).
        _ if matches!(length, 16 | 32) => {
            let address = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).map(Ipv6Addr::from);
            let all = next_hop.chunks_exact(16).filter_map(|bytes| address(bytes).ok());
            let mut all: Vec<Value> = all.map(|address| address.to_string().into()).collect();
            if all.len() == 1 { all.pop().unwrap_or_default() } else { all.into() }
        }
        _ => return Err(cursor.malformed(format!("a next hop of {length} bytes"))),
    };
    cursor.u8("a reserved byte")?;
    Ok(object.with("nextHop", next_hop).with("destinations", prefixes(cursor, v6)?).into())
}

/// RFC 4760 section 4.
fn unreach(cursor: &mut Cursor) -> Result<Value, Error> {
    let start = cursor.position();
    let whole = cursor.rest();
    let Some(v6) = known_family(&whole) else { return Ok(whole.into()) };
    let mut cursor = Cursor::new(PROTOCOL, whole, start);
    let object = Object::new().with("afi", cursor.u16("a family")?).with("safi", cursor.u8("a family")?);
    Ok(object.with("withdrawnRoutes", prefixes(cursor, v6)?).into())
}
