//! `Data`: bytes, as scripts see them.
//!
//! Encodings: utf8, utf16be, utf16le, latin1, hex, base64, base64url. INVARIANT: slices of what came from a socket share its
//! memory; what is pushed to again and again grows in place.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use rquickjs::class::Trace;
use rquickjs::function::Opt;
use rquickjs::{Class, Coerced, Ctx, Exception, Function, JsLifetime, Result, Value};

/// LIMIT: bytes of one `Data`, as many as the engine's heap may have: they are not of that heap, and would be limited by
/// nothing.
const BYTES_MAX: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };

/// Bytes. Slices of what came from a socket share its memory.
#[derive(Trace, JsLifetime)]
#[rquickjs::class]
pub(crate) struct Data {
    #[qjs(skip_trace)]
    bytes: RefCell<Bytes>,
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Data { bytes: RefCell::new(bytes) }
    }
}

impl Data {
    pub(crate) fn new_js<'js>(ctx: &Ctx<'js>, bytes: Bytes) -> Result<Value<'js>> {
        Ok(Class::instance(ctx.clone(), Data { bytes: RefCell::new(bytes) })?.into_value())
    }

    /// The bytes, if the value is a `Data`.
    pub(crate) fn of(value: &Value<'_>) -> Option<Bytes> {
        let class = Class::<Data>::from_value(value).ok()?;
        let bytes = class.borrow().bytes.borrow().clone();
        Some(bytes)
    }

    /// Puts other bytes into a `Data`; nothing happens where the value is none.
    pub(crate) fn put(value: &Value<'_>, bytes: Bytes) {
        if let Ok(class) = Class::<Data>::from_value(value) {
            class.borrow().bytes.replace(bytes);
        }
    }

    /// The bytes of whatever can stand for a body: `Data`, a string, nothing.
    pub(crate) fn body_of(value: &Value<'_>) -> Result<Bytes> {
        if value.is_null() || value.is_undefined() {
            return Ok(Bytes::new());
        }
        if value.is_string() {
            return Ok(Bytes::from(value.get::<String>()?));
        }
        match Data::of(value) {
            Some(bytes) => Ok(bytes),
            None => Ok(Bytes::from(value.get::<rquickjs::Coerced<String>>()?.0)),
        }
    }
}

fn encode(ctx: &Ctx<'_>, text: String, encoding: Option<&str>) -> Result<Bytes> {
    let encoding = encoding.unwrap_or("utf8");
    if encoding == "utf8" {
        return Ok(Bytes::from(text));
    }
    let bad = |what: &str| Exception::throw_type(ctx, &format!("the text is not {what}"));
    Ok(match encoding {
        "utf16be" => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        "utf16le" | "utf16" | "ucs2" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "latin1" => text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect(),
        "hex" => {
            let digits: Option<Vec<u32>> =
                text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect();
            let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or_else(|| bad("hexadecimal"))?;
            digits
                .chunks(2)
                .map(|pair| pair.iter().fold(0u8, |byte, digit| byte << 4 | *digit as u8))
                .collect()
        }
        "base64" => base64::decode(&text, false).ok_or_else(|| bad("base64"))?.into(),
        "base64url" => base64::decode(&text, true).ok_or_else(|| bad("base64url"))?.into(),
        other => return Err(Exception::throw_type(ctx, &format!("unknown encoding: {other}"))),
    })
}

#[rquickjs::methods]
impl Data {
    #[qjs(constructor)]
    fn new<'js>(ctx: Ctx<'js>, from: Opt<Value<'js>>, encoding: Opt<String>) -> Result<Self> {
        let bytes = match from.0 {
            None => Bytes::new(),
            Some(value) if value.is_null() || value.is_undefined() => Bytes::new(),
            Some(value) if value.is_string() => encode(&ctx, value.get::<String>()?, encoding.0.as_deref())?,
            Some(value) => match (Data::of(&value), value.as_array()) {
                (Some(bytes), _) => bytes,
                (_, Some(array)) => {
                    array.iter::<u32>().map(|byte| byte.map(|b| b as u8)).collect::<Result<_>>()?
                }
                _ => return Err(Exception::throw_type(&ctx, "Data is made of a string, an array or Data")),
            },
        };
        Ok(Data { bytes: RefCell::new(bytes) })
    }

    /// Data of a text in an encoding; `null` where the text is not in it.
    #[qjs(static)]
    fn from<'js>(ctx: Ctx<'js>, text: Value<'js>, encoding: Opt<String>) -> Result<Value<'js>> {
        match Data::new(ctx.clone(), Opt(Some(text)), encoding) {
            Ok(data) => Ok(Class::instance(ctx, data)?.into_value()),
            Err(_) => {
                // The exception is the answer.
                drop(ctx.catch());
                Ok(Value::new_null(ctx))
            }
        }
    }

    /// How many bytes there are.
    #[qjs(get)]
    fn size(&self) -> usize {
        self.bytes.borrow().len()
    }

    /// The bytes as text; `undefined` where they are none in that encoding.
    #[qjs(rename = "toString")]
    fn text(&self, ctx: Ctx<'_>, encoding: Opt<String>) -> Result<Option<String>> {
        let bytes = self.bytes.borrow();
        let units = |read: fn([u8; 2]) -> u16| -> Option<String> {
            let (pairs, rest) = (bytes.chunks_exact(2), bytes.len() % 2);
            let units: Vec<u16> = pairs.map(|pair| read([pair[0], pair[1]])).collect();
            String::from_utf16(&units).ok().filter(|_| rest == 0)
        };
        Ok(Some(match encoding.0.as_deref().unwrap_or("utf8") {
            "utf8" => return Ok(std::str::from_utf8(&bytes).ok().map(str::to_owned)),
            "utf16be" => return Ok(units(u16::from_be_bytes)),
            "utf16le" | "utf16" | "ucs2" => return Ok(units(u16::from_le_bytes)),
            "latin1" => bytes.iter().map(|byte| char::from(*byte)).collect(),
            "hex" => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            "base64" => base64::encode(&bytes, false),
            "base64url" => base64::encode(&bytes, true),
            other => return Err(Exception::throw_type(&ctx, &format!("unknown encoding: {other}"))),
        }))
    }

    /// The bytes as numbers.
    #[qjs(rename = "toArray")]
    fn array(&self) -> Vec<u8> {
        self.bytes.borrow().to_vec()
    }

    /// Adds bytes at the end.
    fn push<'js>(
        ctx: Ctx<'js>,
        this: rquickjs::function::This<Class<'js, Data>>,
        more: Value<'js>,
    ) -> Result<Class<'js, Data>> {
        let more = Data::body_of(&more)?;
        {
            let data = this.0.borrow();
            if data.bytes.borrow().len().saturating_add(more.len()) > BYTES_MAX {
                return Err(Exception::throw_range(&ctx, &format!("Data of more than {BYTES_MAX} bytes")));
            }
            let mut joined = match data.bytes.take().try_into_mut() {
                Ok(own) => own,
                Err(shared) => BytesMut::from(&shared[..]),
            };
            joined.extend_from_slice(&more);
            data.bytes.replace(joined.freeze());
        }
        Ok(this.0)
    }

    /// Takes bytes from the front.
    fn shift(&self, count: usize) -> Self {
        let mut bytes = self.bytes.borrow_mut();
        let count = count.min(bytes.len());
        Data { bytes: RefCell::new(bytes.split_to(count)) }
    }

    /// Takes bytes from the end.
    fn pop(&self, count: usize) -> Self {
        let mut bytes = self.bytes.borrow_mut();
        let left = bytes.len() - count.min(bytes.len());
        Data { bytes: RefCell::new(bytes.split_off(left)) }
    }

    /// Takes bytes from the front, up to and with the first for which the callback holds.
    #[qjs(rename = "shiftTo")]
    fn shift_to(&self, until: Function<'_>) -> Result<Self> {
        let bytes = self.bytes.borrow().clone();
        for (index, byte) in bytes.iter().enumerate() {
            if until.call::<_, Coerced<bool>>((*byte,))?.0 {
                return Ok(self.shift(index + 1));
            }
        }
        Ok(self.shift(bytes.len()))
    }

    /// Takes bytes from the front, for as long as the callback holds.
    #[qjs(rename = "shiftWhile")]
    fn shift_while(&self, holds: Function<'_>) -> Result<Self> {
        let bytes = self.bytes.borrow().clone();
        for (index, byte) in bytes.iter().enumerate() {
            if !holds.call::<_, Coerced<bool>>((*byte,))?.0 {
                return Ok(self.shift(index));
            }
        }
        Ok(self.shift(bytes.len()))
    }
}

/// Base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::encode(bytes, false)
}

/// Base64 as in RFC 4648, sections 4 and 5.
mod base64 {
    const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    pub(super) fn encode(bytes: &[u8], url: bool) -> String {
        let alphabet = if url { URL } else { STANDARD };
        let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
        for chunk in bytes.chunks(3) {
            let bits =
                chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for place in 0..4 {
                match alphabet.get((bits >> (18 - 6 * place) & 63) as usize) {
                    Some(letter) if place <= chunk.len() => out.push(char::from(*letter)),
                    _ if url => {}
                    _ => out.push('='),
                }
            }
        }
        out
    }

    pub(super) fn decode(text: &str, url: bool) -> Option<Vec<u8>> {
        let alphabet = if url { URL } else { STANDARD };
        let (mut out, mut bits, mut have) = (Vec::with_capacity(text.len() / 4 * 3), 0u32, 0);
        for letter in text.trim_end_matches('=').bytes().filter(|byte| !byte.is_ascii_whitespace()) {
            let value = alphabet.iter().position(|known| *known == letter)?;
            bits = (bits << 6 | u32::try_from(value).ok()?) & 0xfff_ffff;
            have += 6;
            if have >= 8 {
                have -= 8;
                out.push((bits >> have & 255) as u8);
            }
        }
        Some(out)
    }
}
