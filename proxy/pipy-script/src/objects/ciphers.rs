//! Natives of `crypto.Cipher` and `crypto.Decipher`: AES in its modes, and ChaCha20-Poly1305.
//!
//! INVARIANT: what is authenticated (GCM, Poly1305) is given out only when its tag was right; the others say nothing about who
//! wrote what they read.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    self, DecryptionContext, EncryptionContext, StreamingDecryptingKey, StreamingEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use bytes::Bytes;
use rquickjs::class::Trace;
use rquickjs::{Class, Ctx, Function, JsLifetime, Object, Result, Value};

use super::keys::refused;
use crate::data::Data;

const NAMES: &str = "aes-{128,192,256}-{cbc,ctr,cfb,ecb,gcm}, chacha20-poly1305";

/// What is authenticated is gathered, for it counts as a whole.
struct Sealed {
    key: LessSafeKey,
    nonce: [u8; 12],
    aad: Bytes,
    gathered: Vec<u8>,
    /// What a reader expects.
    tag: Vec<u8>,
    encrypts: bool,
}

enum Work {
    Encrypt(Box<StreamingEncryptingKey>),
    Decrypt(Box<StreamingDecryptingKey>),
    Sealed(Box<Sealed>),
    Over,
}

/// A cipher at work.
#[derive(Trace, JsLifetime)]
#[rquickjs::class]
struct Machine {
    #[qjs(skip_trace)]
    work: Work,
    #[qjs(skip_trace)]
    tag: Vec<u8>,
}

/// Bytes that a block may add.
const BLOCK: usize = 16;

type Failed<T> = std::result::Result<T, String>;

fn broken<E>(_: E) -> String {
    "the cipher failed: is this the right key, iv and padding?".into()
}

fn make(name: &str, encrypts: bool, key: &[u8], iv: &[u8], aad: Bytes, tag: &[u8]) -> Failed<Work> {
    let name = name.to_ascii_lowercase();
    let unknown = || format!("unknown cipher: {name}; there are {NAMES}");
    let sealed: Option<&'static aead::Algorithm> = match name.as_str() {
        "aes-128-gcm" => Some(&aead::AES_128_GCM),
        "aes-192-gcm" => Some(&aead::AES_192_GCM),
        "aes-256-gcm" => Some(&aead::AES_256_GCM),
        "chacha20-poly1305" => Some(&aead::CHACHA20_POLY1305),
        _ => None,
    };
    if let Some(algorithm) = sealed {
        let length = algorithm.key_len();
        let key =
            UnboundKey::new(algorithm, key).map_err(|_| format!("{name} takes a key of {length} bytes"))?;
        let nonce = iv.try_into().map_err(|_| format!("{name} takes an iv of 12 bytes"))?;
        let (key, tag) = (LessSafeKey::new(key), tag.to_vec());
        return Ok(Work::Sealed(Box::new(Sealed { key, nonce, aad, gathered: Vec::new(), tag, encrypts })));
    }
    let (algorithm, length, mode) = match name.strip_prefix("aes-").and_then(|rest| rest.split_once('-')) {
        Some(("128", mode)) => (&cipher::AES_128, 16, mode),
        Some(("192", mode)) => (&cipher::AES_192, 24, mode),
        Some(("256", mode)) => (&cipher::AES_256, 32, mode),
        _ => return Err(unknown()),
    };
    if key.len() != length {
        return Err(format!("{name} takes a key of {length} bytes, this has {}", key.len()));
    }
    let key = UnboundCipherKey::new(algorithm, key).map_err(broken)?;
    let iv = || -> Failed<[u8; 16]> {
        iv.try_into().map_err(|_| format!("{name} takes an iv of 16 bytes, this has {}", iv.len()))
    };
    let (into, from) = (
        |iv| EncryptionContext::Iv128(FixedLength::from(iv)),
        |iv| DecryptionContext::Iv128(FixedLength::from(iv)),
    );
    let made = match (mode, encrypts) {
        ("cbc", true) => StreamingEncryptingKey::less_safe_cbc_pkcs7(key, into(iv()?)).map(Ok),
        ("ctr", true) => StreamingEncryptingKey::less_safe_ctr(key, into(iv()?)).map(Ok),
        ("cfb", true) => StreamingEncryptingKey::less_safe_cfb128(key, into(iv()?)).map(Ok),
        ("ecb", true) => StreamingEncryptingKey::ecb_pkcs7(key).map(Ok),
        ("cbc", false) => StreamingDecryptingKey::cbc_pkcs7(key, from(iv()?)).map(Err),
        ("ctr", false) => StreamingDecryptingKey::ctr(key, from(iv()?)).map(Err),
        ("cfb", false) => StreamingDecryptingKey::cfb128(key, from(iv()?)).map(Err),
        ("ecb", false) => StreamingDecryptingKey::ecb_pkcs7(key, DecryptionContext::None).map(Err),
        _ => return Err(unknown()),
    };
    Ok(match made.map_err(broken)? {
        Ok(key) => Work::Encrypt(Box::new(key)),
        Err(key) => Work::Decrypt(Box::new(key)),
    })
}

impl Machine {
    fn feed(&mut self, data: &[u8]) -> Failed<Vec<u8>> {
        let mut out = vec![0; data.len() + BLOCK];
        let written = match &mut self.work {
            Work::Encrypt(key) => key.update(data, &mut out).map_err(broken)?.written().len(),
            Work::Decrypt(key) => key.update(data, &mut out).map_err(broken)?.written().len(),
            Work::Sealed(sealed) => {
                sealed.gathered.extend_from_slice(data);
                0
            }
            Work::Over => return Err("final() was called before".into()),
        };
        out.truncate(written);
        Ok(out)
    }

    fn end(&mut self) -> Failed<Vec<u8>> {
        let mut out = vec![0; BLOCK];
        let written = match std::mem::replace(&mut self.work, Work::Over) {
            Work::Encrypt(key) => key.finish(&mut out).map_err(broken)?.1.written().len(),
            Work::Decrypt(key) => key.finish(&mut out).map_err(broken)?.written().len(),
            Work::Sealed(sealed) => {
                let Sealed { key, nonce, aad, mut gathered, tag, encrypts } = *sealed;
                let nonce = Nonce::assume_unique_for_key(nonce);
                if encrypts {
                    let made = key.seal_in_place_separate_tag(nonce, Aad::from(&aad), &mut gathered);
                    self.tag = made.map_err(broken)?.as_ref().to_vec();
                    return Ok(gathered);
                }
                if !tag.is_empty() {
                    gathered.extend_from_slice(&tag);
                }
                let opened = key.open_in_place(nonce, Aad::from(&aad), &mut gathered);
                let length =
                    opened.map_err(|_| "the tag is wrong: this was changed, or the key is another")?.len();
                gathered.truncate(length);
                return Ok(gathered);
            }
            Work::Over => return Err("final() was called before".into()),
        };
        out.truncate(written);
        Ok(out)
    }
}

#[rquickjs::methods]
impl Machine {
    fn update<'js>(&mut self, ctx: Ctx<'js>, data: Value<'js>) -> Result<Value<'js>> {
        let data = Data::body_of(&data)?;
        let out = self.feed(&data).map_err(|error| refused(&ctx, &error))?;
        Data::new_js(&ctx, out.into())
    }

    fn finish<'js>(&mut self, ctx: Ctx<'js>) -> Result<Value<'js>> {
        let out = self.end().map_err(|error| refused(&ctx, &error))?;
        Data::new_js(&ctx, out.into())
    }

    fn tag<'js>(&self, ctx: Ctx<'js>) -> Result<Value<'js>> {
        Data::new_js(&ctx, self.tag.clone().into())
    }
}

/// Gives them to the JavaScript of this folder.
pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    let cipher =
        |ctx: Ctx<'js>, name: String, encrypts: bool, options: Object<'js>| -> Result<Class<'js, Machine>> {
            let bytes = |name: &str| -> Result<Bytes> { Data::body_of(&options.get(name)?) };
            let work = make(&name, encrypts, &bytes("key")?, &bytes("iv")?, bytes("aad")?, &bytes("tag")?);
            let work = work.map_err(|error| refused(&ctx, &error))?;
            Class::instance(ctx, Machine { work, tag: Vec::new() })
        };
    native.set("cipher", Function::new(ctx.clone(), cipher)?)
}
