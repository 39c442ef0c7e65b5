//! Natives of `crypto`'s keys: making and reading them, signatures and their verification.
//!
//! Keys come as PEM (PKCS #8, PKCS #1, SEC 1; SubjectPublicKeyInfo, PKCS #1, or a certificate's) and leave as PKCS #8 and
//! SubjectPublicKeyInfo. RSA, ECDSA on P-256, P-384 and P-521, Ed25519.
//!
//! INVARIANT: a key that was made is one that signs: what is malformed or too small is refused when it is read.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use bytes::Bytes;
use rquickjs::class::Trace;
use rquickjs::{Class, Ctx, Exception, Function, JsLifetime, Object, Result, Value};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::data::Data;

/// How a signature is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(super) fn named(name: &str) -> Option<Self> {
        // OpenSSL's names of whole algorithms mean their hash.
        let name = name.to_ascii_lowercase().replace("rsa-", "").replace('-', "");
        Some(match name.as_str() {
            "sha1" => Hash::Sha1,
            "sha256" => Hash::Sha256,
            "sha384" => Hash::Sha384,
            "sha512" => Hash::Sha512,
            _ => return None,
        })
    }
}

enum Signer {
    Rsa(rsa::KeyPair),
    /// The curve's bits, the key as DER, the public point.
    Ec(u16, Vec<u8>),
    Ed(Ed25519KeyPair),
}

type Failed<T> = std::result::Result<T, String>;

fn ec_algorithms(
    bits: u16,
    hash: Hash,
    fixed: bool,
) -> Option<(&'static sig::EcdsaSigningAlgorithm, &'static dyn sig::VerificationAlgorithm)> {
    use Hash::{Sha256, Sha384, Sha512};
    Some(match (bits, hash, fixed) {
        (256, Sha256, true) => (&sig::ECDSA_P256_SHA256_FIXED_SIGNING, &sig::ECDSA_P256_SHA256_FIXED),
        (256, Sha256, false) => (&sig::ECDSA_P256_SHA256_ASN1_SIGNING, &sig::ECDSA_P256_SHA256_ASN1),
        (384, Sha384, true) => (&sig::ECDSA_P384_SHA384_FIXED_SIGNING, &sig::ECDSA_P384_SHA384_FIXED),
        (384, Sha384, false) => (&sig::ECDSA_P384_SHA384_ASN1_SIGNING, &sig::ECDSA_P384_SHA384_ASN1),
        (521, Sha256, false) => (&sig::ECDSA_P521_SHA256_ASN1_SIGNING, &sig::ECDSA_P521_SHA256_ASN1),
        (521, Sha384, false) => (&sig::ECDSA_P521_SHA384_ASN1_SIGNING, &sig::ECDSA_P521_SHA384_ASN1),
        (521, Sha512, true) => (&sig::ECDSA_P521_SHA512_FIXED_SIGNING, &sig::ECDSA_P521_SHA512_FIXED),
        (521, Sha512, false) => (&sig::ECDSA_P521_SHA512_ASN1_SIGNING, &sig::ECDSA_P521_SHA512_ASN1),
        _ => return None,
    })
}

const NO_CURVE: &str =
    "this curve is not signed with this hash: P-256 takes sha256, P-384 sha384, P-521 sha512";

fn curve(bits: u16) -> Option<&'static sig::EcdsaSigningAlgorithm> {
    let hash = match bits {
        256 => Hash::Sha256,
        384 => Hash::Sha384,
        521 => Hash::Sha512,
        _ => return None,
    };
    ec_algorithms(bits, hash, false).map(|(signing, _)| signing)
}

/// A private key.
#[derive(Trace, JsLifetime)]
#[rquickjs::class]
pub(super) struct Private {
    #[qjs(skip_trace)]
    pem: String,
    #[qjs(skip_trace)]
    public: Vec<u8>,
    #[qjs(skip_trace)]
    kind: &'static str,
    #[qjs(skip_trace)]
    signer: Signer,
}

fn unspecified<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

fn spki(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Failed<Vec<u8>> {
    Ok(key.as_der().map_err(unspecified)?.as_ref().to_vec())
}

fn private_of(signer: Signer, pkcs8: &[u8]) -> Failed<Private> {
    let (kind, public) = match &signer {
        Signer::Rsa(key) => ("rsa", spki(key.public_key())?),
        Signer::Ec(bits, der) => {
            let algorithm = curve(*bits).ok_or(NO_CURVE)?;
            let key = EcdsaKeyPair::from_private_key_der(algorithm, der).map_err(unspecified)?;
            ("ec", spki(key.public_key())?)
        }
        Signer::Ed(key) => ("ed25519", spki(key.public_key())?),
    };
    Ok(Private { pem: pem("PRIVATE KEY", pkcs8), public, kind, signer })
}

fn generate(kind: &str, size: u32) -> Failed<Private> {
    match (kind, size) {
        ("rsa", bits) => {
            let size = match bits {
                2048 => KeySize::Rsa2048,
                3072 => KeySize::Rsa3072,
                4096 => KeySize::Rsa4096,
                8192 => KeySize::Rsa8192,
                other => {
                    return Err(format!("an RSA key of {other} bits is not made: 2048, 3072, 4096 or 8192"));
                }
            };
            let key = rsa::KeyPair::generate(size).map_err(unspecified)?;
            let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).map_err(unspecified)?.as_ref().to_vec();
            private_of(Signer::Rsa(key), &der)
        }
        ("ec", bits) => {
            let bits = u16::try_from(bits).unwrap_or_default();
            let algorithm = curve(bits).ok_or("curves are P-256, P-384 and P-521")?;
            let key = EcdsaKeyPair::generate(algorithm).map_err(unspecified)?;
            let der = key.to_pkcs8v1().map_err(unspecified)?.as_ref().to_vec();
            private_of(Signer::Ec(bits, der.clone()), &der)
        }
        ("ed25519", _) => {
            let key = Ed25519KeyPair::generate().map_err(unspecified)?;
            let der = key.to_pkcs8v1().map_err(unspecified)?.as_ref().to_vec();
            private_of(Signer::Ed(key), &der)
        }
        (other, _) => Err(format!("unknown type of key: {other}; there are rsa, ec and ed25519")),
    }
}

fn read_private(text: &[u8]) -> Failed<Private> {
    let der = PrivateKeyDer::from_pem_slice(text).map_err(|_| "no PrivateKey in this PEM".to_owned())?;
    let bytes = der.secret_der();
    let rsa = match &der {
        PrivateKeyDer::Pkcs1(_) => rsa::KeyPair::from_der(bytes).ok(),
        PrivateKeyDer::Pkcs8(_) => rsa::KeyPair::from_pkcs8(bytes).ok(),
        _ => None,
    };
    if let Some(key) = rsa {
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).map_err(unspecified)?.as_ref().to_vec();
        return private_of(Signer::Rsa(key), &der);
    }
    for bits in [256, 384, 521] {
        let Some(algorithm) = curve(bits) else { continue };
        if let Ok(key) = EcdsaKeyPair::from_private_key_der(algorithm, bytes) {
            let der = key.to_pkcs8v1().map_err(unspecified)?.as_ref().to_vec();
            return private_of(Signer::Ec(bits, der.clone()), &der);
        }
    }
    match Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes) {
        Ok(key) => private_of(Signer::Ed(key), bytes),
        Err(_) => {
            Err("this private key is none of RSA (2048 bits or more), P-256, P-384, P-521, Ed25519".into())
        }
    }
}

impl Private {
    fn signature(&self, hash: Hash, pss: bool, fixed: bool, message: &[u8]) -> Failed<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.signer {
            Signer::Rsa(key) => {
                let encoding: &'static dyn sig::RsaEncoding = match (hash, pss) {
                    (Hash::Sha256, false) => &sig::RSA_PKCS1_SHA256,
                    (Hash::Sha384, false) => &sig::RSA_PKCS1_SHA384,
                    (Hash::Sha512, false) => &sig::RSA_PKCS1_SHA512,
                    (Hash::Sha256, true) => &sig::RSA_PSS_SHA256,
                    (Hash::Sha384, true) => &sig::RSA_PSS_SHA384,
                    (Hash::Sha512, true) => &sig::RSA_PSS_SHA512,
                    (Hash::Sha1, _) => return Err("nothing is signed with sha1 any more".into()),
                };
                let mut made = vec![0; key.public_modulus_len()];
                key.sign(encoding, &random, message, &mut made).map_err(unspecified)?;
                Ok(made)
            }
            Signer::Ec(bits, der) => {
                let (algorithm, _) = ec_algorithms(*bits, hash, fixed).ok_or(NO_CURVE)?;
                let key = EcdsaKeyPair::from_private_key_der(algorithm, der).map_err(unspecified)?;
                Ok(key.sign(&random, message).map_err(unspecified)?.as_ref().to_vec())
            }
            Signer::Ed(key) => Ok(key.try_sign(message).map_err(unspecified)?.as_ref().to_vec()),
        }
    }
}

#[rquickjs::methods]
impl Private {
    fn pem(&self) -> String {
        self.pem.clone()
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn public(&self) -> Public {
        Public { spki: self.public.clone() }
    }

    fn sign<'js>(
        &self,
        ctx: Ctx<'js>,
        hash: String,
        pss: bool,
        fixed: bool,
        data: Value<'js>,
    ) -> Result<Value<'js>> {
        let message = Data::body_of(&data)?;
        let hash = known(&ctx, &hash)?;
        let made = self.signature(hash, pss, fixed, &message).map_err(|error| refused(&ctx, &error))?;
        Data::new_js(&ctx, Bytes::from(made))
    }
}

/// A public key.
#[derive(Trace, JsLifetime)]
#[rquickjs::class]
pub(super) struct Public {
    #[qjs(skip_trace)]
    pub(super) spki: Vec<u8>,
}

impl Public {
    fn algorithm(
        &self,
        hash: Hash,
        pss: bool,
        fixed: bool,
    ) -> Failed<(&'static dyn sig::VerificationAlgorithm, Vec<u8>)> {
        let (_, info) = SubjectPublicKeyInfo::from_der(&self.spki).map_err(unspecified)?;
        let key = info.subject_public_key.data.to_vec();
        let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        let bits = match curve.map(|oid| oid.to_id_string()).as_deref() {
            Some("1.2.840.10045.3.1.7") => 256,
            Some("1.3.132.0.34") => 384,
            Some("1.3.132.0.35") => 521,
            _ => 0,
        };
        let algorithm: &'static dyn sig::VerificationAlgorithm =
            match info.algorithm.algorithm.to_id_string().as_str() {
                "1.2.840.113549.1.1.1" => match (hash, pss) {
                    (Hash::Sha1, false) => &sig::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
                    (Hash::Sha256, false) => &sig::RSA_PKCS1_2048_8192_SHA256,
                    (Hash::Sha384, false) => &sig::RSA_PKCS1_2048_8192_SHA384,
                    (Hash::Sha512, false) => &sig::RSA_PKCS1_2048_8192_SHA512,
                    (Hash::Sha256, true) => &sig::RSA_PSS_2048_8192_SHA256,
                    (Hash::Sha384, true) => &sig::RSA_PSS_2048_8192_SHA384,
                    (Hash::Sha512, true) => &sig::RSA_PSS_2048_8192_SHA512,
                    (Hash::Sha1, true) => return Err("PSS with sha1 is not verified".into()),
                },
                "1.2.840.10045.2.1" => ec_algorithms(bits, hash, fixed).ok_or(NO_CURVE)?.1,
                "1.3.101.112" => &sig::ED25519,
                other => return Err(format!("a public key of the unknown type {other}")),
            };
        Ok((algorithm, key))
    }
}

#[rquickjs::methods]
impl Public {
    fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki)
    }

    fn der<'js>(&self, ctx: Ctx<'js>) -> Result<Value<'js>> {
        Data::new_js(&ctx, Bytes::from(self.spki.clone()))
    }

    /// `rsa`, `ec` or `ed25519`.
    fn kind(&self) -> &'static str {
        let Ok((_, info)) = SubjectPublicKeyInfo::from_der(&self.spki) else { return "" };
        match info.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.1" => "rsa",
            "1.2.840.10045.2.1" => "ec",
            "1.3.101.112" => "ed25519",
            _ => "",
        }
    }

    fn verify<'js>(
        &self,
        ctx: Ctx<'js>,
        hash: String,
        pss: bool,
        fixed: bool,
        data: Value<'js>,
        signature: Value<'js>,
    ) -> Result<bool> {
        let hash = known(&ctx, &hash)?;
        let (algorithm, key) = self.algorithm(hash, pss, fixed).map_err(|error| refused(&ctx, &error))?;
        let (message, signature) = (Data::body_of(&data)?, Data::body_of(&signature)?);
        Ok(UnparsedPublicKey::new(algorithm, key).verify(&message, &signature).is_ok())
    }
}

fn read_public(text: &[u8]) -> Failed<Public> {
    if let Ok(der) = SubjectPublicKeyInfoDer::from_pem_slice(text) {
        let good = SubjectPublicKeyInfo::from_der(&der).is_ok();
        return if good { Ok(Public { spki: der.to_vec() }) } else { Err("no PublicKey in this PEM".into()) };
    }
    if let Ok(der) = CertificateDer::from_pem_slice(text) {
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).map_err(unspecified)?;
        return Ok(Public { spki: certificate.public_key().raw.to_vec() });
    }
    match read_private(text) {
        Ok(private) => Ok(Public { spki: private.public }),
        Err(_) => Err("no PublicKey in this PEM".into()),
    }
}

/// DER in PEM.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = crate::data::base64(der);
    let lines: Vec<String> =
        text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(super) fn refused(ctx: &Ctx<'_>, error: &str) -> rquickjs::Error {
    Exception::throw_message(ctx, &format!("crypto: {error}"))
}

fn known(ctx: &Ctx<'_>, hash: &str) -> Result<Hash> {
    Hash::named(hash).ok_or_else(|| {
        Exception::throw_type(ctx, &format!("unknown hash: {hash}; there are sha1, sha256, sha384, sha512"))
    })
}

/// Gives them to the JavaScript of this folder.
pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    let keys = Object::new(ctx.clone())?;
    let make = |ctx: Ctx<'js>, kind: String, size: u32| -> Result<Class<'js, Private>> {
        let key = generate(&kind, size).map_err(|error| refused(&ctx, &error))?;
        Class::instance(ctx, key)
    };
    keys.set("generate", Function::new(ctx.clone(), make)?)?;
    let private = |ctx: Ctx<'js>, text: Value<'js>| -> Result<Class<'js, Private>> {
        let key = read_private(&Data::body_of(&text)?).map_err(|error| refused(&ctx, &error))?;
        Class::instance(ctx, key)
    };
    keys.set("private", Function::new(ctx.clone(), private)?)?;
    let public = |ctx: Ctx<'js>, text: Value<'js>| -> Result<Class<'js, Public>> {
        let key = read_public(&Data::body_of(&text)?).map_err(|error| refused(&ctx, &error))?;
        Class::instance(ctx, key)
    };
    keys.set("public", Function::new(ctx.clone(), public)?)?;
    let der = |ctx: Ctx<'js>, der: Value<'js>| -> Result<Class<'js, Public>> {
        let spki = Data::body_of(&der)?.to_vec();
        if SubjectPublicKeyInfo::from_der(&spki).is_err() {
            return Err(refused(&ctx, "this is no public key"));
        }
        Class::instance(ctx, Public { spki })
    };
    keys.set("publicDer", Function::new(ctx.clone(), der)?)?;
    native.set("keys", keys)
}
