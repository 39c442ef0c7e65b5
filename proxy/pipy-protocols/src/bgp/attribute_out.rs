//! Path attributes, from values to bytes.
//!
//! INVARIANT: a value that is `Data` is written as it is, whatever the attribute.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, BytesMut};

use super::{
    ATTRIBUTES, Attribute, EXTENDED, IPV6, OPTIONAL, PARTIAL, PROTOCOL, SEGMENTS, TRANSITIVE, UNICAST, known,
};
use crate::{Error, Object, Value};

/// What stands for an AS number that two bytes cannot hold (RFC 6793).
pub(super) const AS_TRANS: u16 = 23456;

pub(super) fn wrong(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::unencodable(PROTOCOL, reason)
}

pub(super) fn number<T: TryFrom<i64>>(of: &Value, key: &str, default: i64) -> Result<T, Error> {
    of.get(key)
        .map_or(Some(default), Value::as_int)
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| wrong(format!("{key} is no number, or out of range")))
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn ip(value: Option<&Value>, what: &str) -> Result<Ipv4Addr, Error> {
    let text = text(value);
    text.parse().map_err(|_| wrong(format!("{what} {text:?} is not an IPv4 address")))
}

/// Writes prefixes such as `10.0.0.0/8` or `2001:db8::/32`. Bits beyond the prefix are zero.
pub(super) fn prefixes(value: Option<&Value>, v6: bool) -> Result<BytesMut, Error> {
    let mut bytes = BytesMut::new();
    for prefix in value.and_then(Value::as_array).unwrap_or_default() {
        let text = prefix.as_str().unwrap_or_default();
        let (address, bits) = text.split_once('/').unwrap_or((text, if v6 { "128" } else { "32" }));
        let example = if v6 { "2001:db8::/32" } else { "10.0.0.0/8" };
        let bad = || wrong(format!("{text:?} is no prefix such as {example}"));
        let bits: u8 = bits.parse().map_err(|_| bad())?;
        match address.parse().map_err(|_| bad())? {
            IpAddr::V4(address) if !v6 && bits <= 32 => {
                let kept = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                put_prefix(&mut bytes, bits, &(u32::from(address) & kept).to_be_bytes());
            }
            IpAddr::V6(address) if v6 && bits <= 128 => {
                let kept = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                put_prefix(&mut bytes, bits, &(u128::from(address) & kept).to_be_bytes());
            }
            _ => return Err(bad()),
        }
    }
    Ok(bytes)
}

fn put_prefix(bytes: &mut BytesMut, bits: u8, address: &[u8]) {
    bytes.put_u8(bits);
    bytes.put_slice(address.get(..usize::from(bits.div_ceil(8))).unwrap_or_default());
}

fn as_number(value: &Value) -> Result<u32, Error> {
    // As keys of an object numbers are text.
    let number = value.as_int().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    number
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| wrong("an AS is no number, or out of range"))
}

fn put_as(bytes: &mut BytesMut, number: u32, as4: bool) {
    if as4 { bytes.put_u32(number) } else { bytes.put_u16(u16::try_from(number).unwrap_or(AS_TRANS)) }
}

/// Writes all attributes. Where AS numbers have two bytes, and one of them does not fit, an attribute that has it is added
/// (RFC 6793 section 4.2.2).
pub(super) fn attributes(value: Option<&Value>, as4: bool) -> Result<BytesMut, Error> {
    let mut bytes = BytesMut::new();
    let all = value.and_then(Value::as_array).unwrap_or_default();
    let has = |name: &str| {
        all.iter().any(|one| coded(one).is_ok_and(|(_, of)| of.is_some_and(|of| of.name == name)))
    };
    for attribute in all {
        let (code, of) = coded(attribute)?;
        let (content, whole) = content(attribute, of.map_or("", |of| of.name), as4)?;
        put(&mut bytes, attribute, code, of, &content)?;
        let added = match of.map(|of| of.name) {
            Some("AS_PATH") => "AS4_PATH",
            Some("AGGREGATOR") => "AS4_AGGREGATOR",
            _ => continue,
        };
        let added = ATTRIBUTES.iter().find(|of| of.name == added && !whole && !has(added));
        if let Some(of) = added {
            let value = attribute.get("value").cloned().unwrap_or_default();
            let same = Object::new().with("value", value).into();
            let (content, _) = self::content(&same, of.name, true)?;
            put(&mut bytes, &same, of.code, Some(of), &content)?;
        }
    }
    Ok(bytes)
}

/// The code of an attribute, by its name or as it is given.
fn coded(attribute: &Value) -> Result<(u8, Option<&'static Attribute>), Error> {
    let named = text(attribute.get("name"));
    if let Some(of) = ATTRIBUTES.iter().find(|of| of.name == named) {
        return Ok((of.code, Some(of)));
    }
    match number(attribute, "code", 0)? {
        0 => Err(wrong(format!("there is no attribute {named:?}"))),
        code => Ok((code, known(code))),
    }
}

fn put(
    bytes: &mut BytesMut,
    attribute: &Value,
    code: u8,
    of: Option<&Attribute>,
    content: &[u8],
) -> Result<(), Error> {
    let (optional, transitive) = of.map_or((true, true), |of| (of.optional, of.transitive));
    let flag = |key: &str, default: bool| attribute.get(key).map_or(default, Value::is_truthy);
    let mut flags = if flag("optional", optional) { OPTIONAL } else { 0 };
    flags |= if flag("transitive", transitive) { TRANSITIVE } else { 0 };
    flags |= if flag("partial", false) { PARTIAL } else { 0 };
    match u8::try_from(content.len()) {
        Ok(length) => bytes.put_slice(&[flags, code, length]),
        Err(_) => {
            bytes.put_slice(&[flags | EXTENDED, code]);
            bytes.put_u16(u16::try_from(content.len()).map_err(|_| wrong("an attribute is too long"))?);
        }
    }
    bytes.put_slice(content);
    Ok(())
}

/// The bytes of a value, and whether every AS number in it is there whole.
fn content(attribute: &Value, name: &str, as4: bool) -> Result<(BytesMut, bool), Error> {
    let null = Value::Null;
    let value = attribute.get("value").unwrap_or(&null);
    let list = || value.as_array().unwrap_or_default();
    let mut content = BytesMut::new();
    let mut whole = true;
    if let Value::Bytes(bytes) = value {
        content.put_slice(bytes);
        return Ok((content, whole));
    }
    match name {
        "ORIGIN" => content.put_u8(number(attribute, "value", 0)?),
        "AS_PATH" | "AS4_PATH" => whole = path(&mut content, list(), as4 || name == "AS4_PATH")?,
        "NEXT_HOP" | "ORIGINATOR_ID" => content.put_slice(&ip(Some(value), name)?.octets()),
        "CLUSTER_LIST" => {
            for one in list() {
                content.put_slice(&ip(Some(one), name)?.octets());
            }
        }
        "MULTI_EXIT_DISC" | "LOCAL_PREF" => content.put_u32(number(attribute, "value", 0)?),
        "AGGREGATOR" | "AS4_AGGREGATOR" => {
            let (number, address) = match value {
                Value::Array(pair) => (pair.first(), pair.get(1)),
                value => (value.get("as"), value.get("ip")),
            };
            let number = as_number(number.unwrap_or(&null))?;
            let as4 = as4 || name == "AS4_AGGREGATOR";
            put_as(&mut content, number, as4);
            content.put_slice(&ip(address, name)?.octets());
            whole = as4 || number <= u16::MAX.into();
        }
        "COMMUNITIES" => communities::<u16>(&mut content, list(), 2, |content, part| content.put_u16(part))?,
        "LARGE_COMMUNITY" => {
            communities::<u32>(&mut content, list(), 3, |content, part| content.put_u32(part))?
        }
        "MP_REACH_NLRI" => {
            let v6 = family(&mut content, value)?;
            let hops = match value.get("nextHop") {
                Some(Value::Array(hops)) => hops.iter().map(|hop| text(Some(hop))).collect(),
                hop => vec![text(hop)],
            };
            let mut next_hop = BytesMut::new();
            for hop in hops {
                match hop.parse().map_err(|_| wrong(format!("nextHop {hop:?} is not an IP address")))? {
                    IpAddr::V4(hop) => next_hop.put_slice(&Ipv4Addr::octets(&hop)),
                    IpAddr::V6(hop) => next_hop.put_slice(&Ipv6Addr::octets(&hop)),
                }
            }
            content.put_u8(u8::try_from(next_hop.len()).map_err(|_| wrong("too many next hops"))?);
            content.put_slice(&next_hop);
            content.put_u8(0);
            content.put_slice(&prefixes(value.get("destinations"), v6)?);
        }
        "MP_UNREACH_NLRI" => {
            let v6 = family(&mut content, value)?;
            content.put_slice(&prefixes(value.get("withdrawnRoutes"), v6)?);
        }
        _ => content.put_slice(&value.to_bytes().unwrap_or_default()),
    }
    Ok((content, whole))
}

/// Writes the family of addresses; says whether it is IPv6, which it is unless said otherwise.
fn family(content: &mut BytesMut, value: &Value) -> Result<bool, Error> {
    let afi: u16 = number(value, "afi", IPV6.into())?;
    content.put_u16(afi);
    content.put_u8(number(value, "safi", UNICAST.into())?);
    Ok(afi == IPV6)
}

/// A segment is a list of numbers, which is a sequence; an object `{type, path}`; or one whose keys are the set.
fn path(content: &mut BytesMut, segments: &[Value], as4: bool) -> Result<bool, Error> {
    let mut whole = true;
    for segment in segments {
        let named = text(segment.get("type"));
        let (kind, numbers) = match (segment, segment.get("path")) {
            (Value::Array(path), _) => ("AS_SEQUENCE", path.clone()),
            (_, Some(path)) => {
                let kind = if named.is_empty() { "AS_SEQUENCE" } else { named };
                (kind, path.as_array().unwrap_or_default().to_vec())
            }
            (segment, None) => {
                let keys = segment.as_object().into_iter().flat_map(Object::iter);
                ("AS_SET", keys.map(|(key, _)| key.to_owned().into()).collect())
            }
        };
        let code = SEGMENTS.iter().position(|known| *known == kind).and_then(|at| u8::try_from(at + 1).ok());
        content.put_u8(code.ok_or_else(|| wrong(format!("there is no segment {kind:?}")))?);
        content.put_u8(u8::try_from(numbers.len()).map_err(|_| wrong("a segment of more than 255 AS"))?);
        for number in &numbers {
            let number = as_number(number)?;
            whole &= as4 || number <= u16::MAX.into();
            put_as(content, number, as4);
        }
    }
    Ok(whole)
}

/// Numbers with colons between them.
fn communities<T: std::str::FromStr>(
    content: &mut BytesMut,
    all: &[Value],
    parts: usize,
    put: impl Fn(&mut BytesMut, T),
) -> Result<(), Error> {
    for one in all {
        let one = one.as_str().unwrap_or_default();
        let bad = || wrong(format!("{one:?} is no community of {parts} numbers"));
        if one.split(':').count() != parts {
            return Err(bad());
        }
        for part in one.split(':') {
            put(content, part.parse().map_err(|_| bad())?);
        }
    }
    Ok(())
}
