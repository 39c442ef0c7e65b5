//! Natives of `crypto.Certificate`: issuing certificates, and telling what stands in one.
//!
//! INVARIANTS: a certificate is signed by the key that is given, whether or not that fits the issuer: who verifies it finds out.
//! Serial numbers are random where none is given.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo, date_time_ymd,
};
use rquickjs::{Array, Class, Ctx, Exception, Function, Object, Result, Value};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::x509::X509Name;

use super::keys::{Public, refused};
use crate::data::Data;

type Failed<T> = std::result::Result<T, String>;

/// What is to be in a certificate; the JavaScript of this folder has made it of what the script said.
struct Wanted {
    subject: Vec<(String, String)>,
    alternatives: Vec<String>,
    ca: bool,
    path_length: Option<u8>,
    usages: Vec<String>,
    extended: Vec<String>,
    /// Seconds since 1970.
    from: f64,
    until: f64,
    serial: Option<Vec<u8>>,
    spki: Vec<u8>,
    key: String,
    /// The issuer's certificate, or else its name.
    issuer: Option<String>,
    issuer_name: Vec<(String, String)>,
}

fn name(parts: &[(String, String)]) -> Failed<DistinguishedName> {
    let mut name = DistinguishedName::new();
    for (kind, value) in parts {
        let kind = match kind.as_str() {
            "CN" | "commonName" => DnType::CommonName,
            "O" | "organizationName" => DnType::OrganizationName,
            "OU" | "organizationalUnitName" => DnType::OrganizationalUnitName,
            "C" | "countryName" => DnType::CountryName,
            "ST" | "stateOrProvinceName" => DnType::StateOrProvinceName,
            "L" | "localityName" => DnType::LocalityName,
            "emailAddress" => DnType::from_oid(&[1, 2, 840, 113_549, 1, 9, 1]),
            "serialNumber" => DnType::from_oid(&[2, 5, 4, 5]),
            "UID" => DnType::from_oid(&[0, 9, 2342, 19_200_300, 100, 1, 1]),
            "DC" => DnType::from_oid(&[0, 9, 2342, 19_200_300, 100, 1, 25]),
            other => {
                return Err(format!(
                    "unknown part of a name: {other}; there are CN, O, OU, C, ST, L and others"
                ));
            }
        };
        name.push(kind, value.clone());
    }
    Ok(name)
}

fn alternative(text: &str) -> Failed<SanType> {
    let bad = |error: rcgen::Error| format!("{text:?} is no alternative name: {error}");
    let (kind, value) = match text.split_once(':') {
        Some((kind @ ("DNS" | "IP" | "URI" | "email"), value)) => (kind, value),
        _ if text.parse::<IpAddr>().is_ok() => ("IP", text),
        _ if text.contains("://") => ("URI", text),
        _ => ("DNS", text),
    };
    Ok(match kind {
        "IP" => SanType::IpAddress(value.parse().map_err(|_| format!("{value:?} is no IP address"))?),
        "URI" => SanType::URI(value.try_into().map_err(bad)?),
        "email" => SanType::Rfc822Name(value.try_into().map_err(bad)?),
        _ => SanType::DnsName(value.try_into().map_err(bad)?),
    })
}

fn usage(text: &str) -> Failed<KeyUsagePurpose> {
    Ok(match text {
        "digitalSignature" => KeyUsagePurpose::DigitalSignature,
        "nonRepudiation" | "contentCommitment" => KeyUsagePurpose::ContentCommitment,
        "keyEncipherment" => KeyUsagePurpose::KeyEncipherment,
        "dataEncipherment" => KeyUsagePurpose::DataEncipherment,
        "keyAgreement" => KeyUsagePurpose::KeyAgreement,
        "keyCertSign" => KeyUsagePurpose::KeyCertSign,
        "cRLSign" => KeyUsagePurpose::CrlSign,
        other => return Err(format!("unknown keyUsage: {other}")),
    })
}

fn extended(text: &str) -> Failed<ExtendedKeyUsagePurpose> {
    Ok(match text {
        "serverAuth" => ExtendedKeyUsagePurpose::ServerAuth,
        "clientAuth" => ExtendedKeyUsagePurpose::ClientAuth,
        "codeSigning" => ExtendedKeyUsagePurpose::CodeSigning,
        "emailProtection" => ExtendedKeyUsagePurpose::EmailProtection,
        "timeStamping" => ExtendedKeyUsagePurpose::TimeStamping,
        "OCSPSigning" => ExtendedKeyUsagePurpose::OcspSigning,
        other => return Err(format!("unknown extendedKeyUsage: {other}")),
    })
}

fn issue(wanted: &Wanted) -> Failed<String> {
    let said = |error: rcgen::Error| error.to_string();
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&wanted.subject)?;
    params.subject_alt_names =
        wanted.alternatives.iter().map(|text| alternative(text)).collect::<Failed<_>>()?;
    params.key_usages = wanted.usages.iter().map(|text| usage(text)).collect::<Failed<_>>()?;
    params.extended_key_usages = wanted.extended.iter().map(|text| extended(text)).collect::<Failed<_>>()?;
    if wanted.ca {
        params.is_ca = IsCa::Ca(match wanted.path_length {
            Some(length) => BasicConstraints::Constrained(length),
            None => BasicConstraints::Unconstrained,
        });
    }
    let time = |seconds: f64| {
        let since =
            Duration::try_from_secs_f64(seconds.floor()).map_err(|_| "the time is before 1970".to_owned())?;
        // RFC 5280 §4.1.2.5: years have four digits.
        if since > Duration::from_secs(253_402_300_799) {
            return Err("the time is after the year 9999".to_owned());
        }
        Ok(date_time_ymd(1970, 1, 1) + since)
    };
    (params.not_before, params.not_after) = (time(wanted.from)?, time(wanted.until)?);
    if params.not_after < params.not_before {
        return Err("the certificate ends before it begins".into());
    }
    let serial = match &wanted.serial {
        Some(serial) => serial.clone(),
        None => {
            let mut bytes = [0; 16];
            rand::fill(&mut bytes).map_err(|_| "the system gives no random numbers")?;
            // Positive, and without a zero in front.
            bytes[0] = bytes[0] & 0x7f | 0x40;
            bytes.to_vec()
        }
    };
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let public = SubjectPublicKeyInfo::from_der(&wanted.spki).map_err(said)?;
    let key = KeyPair::from_pem(&wanted.key).map_err(said)?;
    let issuer = match &wanted.issuer {
        Some(pem) => {
            params.use_authority_key_identifier_extension = true;
            Issuer::from_ca_cert_pem(pem, key).map_err(|error| format!("issuer: {error}"))?
        }
        None => {
            let mut own = params.clone();
            if !wanted.issuer_name.is_empty() {
                own.distinguished_name = name(&wanted.issuer_name)?;
            }
            Issuer::new(own, key)
        }
    };
    Ok(params.signed_by(&public, &issuer).map_err(said)?.pem())
}

fn pairs(object: Option<Object<'_>>) -> Result<Vec<(String, String)>> {
    let Some(object) = object else { return Ok(Vec::new()) };
    object
        .props::<String, Value<'_>>()
        .map(|pair| {
            let (name, value) = pair?;
            Ok((name, value.get::<rquickjs::Coerced<String>>()?.0))
        })
        .collect()
}

fn make(ctx: Ctx<'_>, from: Object<'_>) -> Result<String> {
    let serial = match from.get::<_, Value<'_>>("serial")? {
        value if value.is_undefined() || value.is_null() => None,
        value => Some(Data::body_of(&value)?.to_vec()),
    };
    let wanted = Wanted {
        subject: pairs(from.get("subject")?)?,
        alternatives: from.get("alternatives")?,
        ca: from.get("ca")?,
        path_length: from.get("pathLength")?,
        usages: from.get("usages")?,
        extended: from.get("extended")?,
        from: from.get("from")?,
        until: from.get("until")?,
        serial,
        spki: from.get::<_, Class<'_, Public>>("publicKey")?.borrow().spki.clone(),
        key: from.get("key")?,
        issuer: from.get("issuer")?,
        issuer_name: pairs(from.get("issuerName")?)?,
    };
    issue(&wanted).map_err(|error| refused(&ctx, &format!("Certificate: {error}")))
}

/// The short names of the parts of a name.
fn parts<'js>(ctx: &Ctx<'js>, name: &X509Name<'_>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    for attribute in name.iter_attributes() {
        let oid = attribute.attr_type().to_id_string();
        let short = match oid.as_str() {
            "2.5.4.3" => "CN",
            "2.5.4.5" => "serialNumber",
            "2.5.4.6" => "C",
            "2.5.4.7" => "L",
            "2.5.4.8" => "ST",
            "2.5.4.10" => "O",
            "2.5.4.11" => "OU",
            "1.2.840.113549.1.9.1" => "emailAddress",
            other => other,
        };
        object.set(short, attribute.as_str().unwrap_or_default())?;
    }
    Ok(object)
}

fn address(bytes: &[u8]) -> String {
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(four), _) => IpAddr::from(four).to_string(),
        (_, Ok(sixteen)) => IpAddr::from(sixteen).to_string(),
        _ => String::new(),
    }
}

fn read<'js>(ctx: Ctx<'js>, pem: String) -> Result<Object<'js>> {
    let bad =
        |why: String| Exception::throw_message(&ctx, &format!("crypto: no Certificate in this PEM: {why}"));
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| bad(format!("{error:?}")))?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(&der).map_err(|error| bad(error.to_string()))?;
    let found = Object::new(ctx.clone())?;
    found.set("subject", parts(&ctx, certificate.subject())?)?;
    found.set("issuer", parts(&ctx, certificate.issuer())?)?;
    #[allow(clippy::cast_precision_loss)] // seconds of some thousand years
    let milliseconds = |seconds: i64| seconds as f64 * 1000.0;
    found.set("notBefore", milliseconds(certificate.validity().not_before.timestamp()))?;
    found.set("notAfter", milliseconds(certificate.validity().not_after.timestamp()))?;
    found.set(
        "serial",
        certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    )?;
    found.set("ca", certificate.is_ca())?;
    found.set(
        "publicKey",
        Class::instance(ctx.clone(), Public { spki: certificate.public_key().raw.to_vec() })?,
    )?;
    let names = Array::new(ctx.clone())?;
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(alternatives) = extension.parsed_extension() else {
            continue;
        };
        for alternative in &alternatives.general_names {
            let text = match alternative {
                GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => {
                    (*text).to_owned()
                }
                GeneralName::IPAddress(bytes) => address(bytes),
                _ => continue,
            };
            names.set(names.len(), text)?;
        }
    }
    found.set("subjectAltNames", names)?;
    Ok(found)
}

/// Gives them to the JavaScript of this folder.
pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    let certificates = Object::new(ctx.clone())?;
    certificates.set("make", Function::new(ctx.clone(), make)?)?;
    certificates.set("read", Function::new(ctx.clone(), read)?)?;
    native.set("certificates", certificates)
}
