//! Hashes, chance and identifiers: natives of `algo.hash`, `algo.uuid`, `crypto.Hash` and `crypto.Hmac`.
//!
//! INVARIANT: what is hashed is not kept, however much of it there is.

use aws_lc_rs::{digest, hmac, rand};
use bytes::Bytes;
use md5::Digest;
use rquickjs::class::Trace;
use rquickjs::{Class, Ctx, Exception, Function, JsLifetime, Object, Result, Value};

use crate::data::Data;

fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "")
}

fn algorithm(name: &str) -> Option<&'static digest::Algorithm> {
    Some(match plain(name).as_str() {
        "sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        "sha224" => &digest::SHA224,
        "sha256" => &digest::SHA256,
        "sha384" => &digest::SHA384,
        "sha512" => &digest::SHA512,
        "sha512256" | "sha512/256" => &digest::SHA512_256,
        "sha3256" => &digest::SHA3_256,
        "sha3384" => &digest::SHA3_384,
        "sha3512" => &digest::SHA3_512,
        _ => return None,
    })
}

fn hmac_algorithm(name: &str) -> Option<hmac::Algorithm> {
    Some(match plain(name).as_str() {
        "sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        "sha224" => hmac::HMAC_SHA224,
        "sha256" => hmac::HMAC_SHA256,
        "sha384" => hmac::HMAC_SHA384,
        "sha512" => hmac::HMAC_SHA512,
        _ => return None,
    })
}

fn unknown(ctx: &Ctx<'_>, name: &str, known: &str) -> rquickjs::Error {
    Exception::throw_type(ctx, &format!("unknown hash: {name}; there are {known}"))
}

/// A number of 53 bits, the same in every worker.
fn hash(text: String) -> f64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mixed = text.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fold);
    // The high bits of FNV are the well mixed ones.
    (mixed >> 11) as f64
}

fn chance(ctx: &Ctx<'_>, bytes: &mut [u8]) -> Result<()> {
    rand::fill(bytes).map_err(|_| Exception::throw_internal(ctx, "the system gives no random numbers"))
}

/// A random UUID, version 4.
fn uuid(ctx: Ctx<'_>) -> Result<String> {
    let mut bytes = [0u8; 16];
    chance(&ctx, &mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([&hex[..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..]].map(<[String]>::concat).join("-"))
}

fn random<'js>(ctx: Ctx<'js>, count: usize) -> Result<Value<'js>> {
    // LIMIT: a key has some bytes; who asks for millions has mistaken something.
    if count > 1 << 20 {
        return Err(Exception::throw_range(&ctx, "randomBytes() gives a mebibyte at most"));
    }
    let mut bytes = vec![0; count];
    chance(&ctx, &mut bytes)?;
    Data::new_js(&ctx, bytes.into())
}

// A context is as large as it must be; each is made for one hash and is on the heap of the engine anyway.
#[allow(clippy::large_enum_variant)]
enum Work {
    Digest(digest::Context),
    // What old protocols ask for, which the library leaves out.
    Md5(md5::Md5),
    Hmac(hmac::Context),
}

/// A hash at work.
#[derive(Trace, JsLifetime)]
#[rquickjs::class]
struct Hashing {
    #[qjs(skip_trace)]
    work: Work,
}

#[rquickjs::methods]
impl Hashing {
    fn update(&mut self, data: Value<'_>) -> Result<()> {
        let bytes = Data::body_of(&data)?;
        match &mut self.work {
            Work::Digest(context) => context.update(&bytes),
            Work::Md5(context) => context.update(&bytes),
            Work::Hmac(context) => context.update(&bytes),
        }
        Ok(())
    }

    /// Of what has come so far.
    fn digest<'js>(&self, ctx: Ctx<'js>) -> Result<Value<'js>> {
        let made = match &self.work {
            Work::Digest(context) => Bytes::copy_from_slice(context.clone().finish().as_ref()),
            Work::Md5(context) => Bytes::copy_from_slice(&context.clone().finalize()),
            Work::Hmac(context) => Bytes::copy_from_slice(context.clone().sign().as_ref()),
        };
        Data::new_js(&ctx, made)
    }
}

fn hashing(ctx: Ctx<'_>, name: String) -> Result<Class<'_, Hashing>> {
    let work = match plain(&name).as_str() {
        "md5" => Work::Md5(md5::Md5::new()),
        _ => match algorithm(&name) {
            Some(algorithm) => Work::Digest(digest::Context::new(algorithm)),
            None => {
                let known =
                    "md5, sha1, sha224, sha256, sha384, sha512, sha512-256, sha3-256, sha3-384, sha3-512";
                return Err(unknown(&ctx, &name, known));
            }
        },
    };
    Class::instance(ctx, Hashing { work })
}

fn authenticating<'js>(ctx: Ctx<'js>, name: String, key: Value<'js>) -> Result<Class<'js, Hashing>> {
    let Some(algorithm) = hmac_algorithm(&name) else {
        return Err(unknown(&ctx, &name, "sha1, sha224, sha256, sha384, sha512"));
    };
    let key = hmac::Key::new(algorithm, &Data::body_of(&key)?);
    Class::instance(ctx, Hashing { work: Work::Hmac(hmac::Context::with_key(&key)) })
}

/// Gives them to the JavaScript of this folder.
pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    native.set("hash", Function::new(ctx.clone(), hash)?)?;
    native.set("uuid", Function::new(ctx.clone(), uuid)?)?;
    native.set("random", Function::new(ctx.clone(), random)?)?;
    native.set("hashing", Function::new(ctx.clone(), hashing)?)?;
    native.set("authenticating", Function::new(ctx.clone(), authenticating)?)
}
