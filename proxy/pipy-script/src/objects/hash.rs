//! Hashes and identifiers: natives of `algo.hash`, `algo.uuid`, `crypto.Hash` and `crypto.Hmac`.

use aws_lc_rs::{digest, hmac, rand};
use rquickjs::{Ctx, Exception, Function, Object, Result, Value};

use crate::data::Data;

fn algorithm(name: &str) -> Option<&'static digest::Algorithm> {
    Some(match name.to_ascii_lowercase().replace('-', "").as_str() {
        "sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        "sha224" => &digest::SHA224,
        "sha256" => &digest::SHA256,
        "sha384" => &digest::SHA384,
        "sha512" => &digest::SHA512,
        _ => return None,
    })
}

fn hmac_algorithm(name: &str) -> Option<hmac::Algorithm> {
    Some(match name.to_ascii_lowercase().replace('-', "").as_str() {
        "sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        "sha224" => hmac::HMAC_SHA224,
        "sha256" => hmac::HMAC_SHA256,
        "sha384" => hmac::HMAC_SHA384,
        "sha512" => hmac::HMAC_SHA512,
        _ => return None,
    })
}

fn unknown(ctx: &Ctx<'_>, name: &str) -> rquickjs::Error {
    Exception::throw_type(
        ctx,
        &format!("unknown hash: {name}; there are sha1, sha224, sha256, sha384, sha512"),
    )
}

/// A number of 53 bits, the same in every worker.
fn hash(text: String) -> f64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mixed = text.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fold);
    // The high bits of FNV are the well mixed ones.
    (mixed >> 11) as f64
}

/// A random UUID, version 4.
fn uuid(ctx: Ctx<'_>) -> Result<String> {
    let mut bytes = [0u8; 16];
    rand::fill(&mut bytes)
        .map_err(|_| Exception::throw_internal(&ctx, "the system gives no random numbers"))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([&hex[..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..]].map(<[String]>::concat).join("-"))
}

fn digest<'js>(ctx: Ctx<'js>, name: String, data: Value<'js>) -> Result<Value<'js>> {
    let algorithm = algorithm(&name).ok_or_else(|| unknown(&ctx, &name))?;
    let made = digest::digest(algorithm, &Data::body_of(&data)?);
    Data::new_js(&ctx, bytes::Bytes::copy_from_slice(made.as_ref()))
}

fn hmac<'js>(ctx: Ctx<'js>, name: String, key: Value<'js>, data: Value<'js>) -> Result<Value<'js>> {
    let algorithm = hmac_algorithm(&name).ok_or_else(|| unknown(&ctx, &name))?;
    let key = hmac::Key::new(algorithm, &Data::body_of(&key)?);
    let made = hmac::sign(&key, &Data::body_of(&data)?);
    Data::new_js(&ctx, bytes::Bytes::copy_from_slice(made.as_ref()))
}

/// Gives them to the JavaScript of this folder.
pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    native.set("hash", Function::new(ctx.clone(), hash)?)?;
    native.set("uuid", Function::new(ctx.clone(), uuid)?)?;
    native.set("digest", Function::new(ctx.clone(), digest)?)?;
    native.set("hmac", Function::new(ctx.clone(), hmac)?)
}
