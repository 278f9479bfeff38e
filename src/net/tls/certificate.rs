//! Reads certificates, and writes their names as RabbitMQ does.

use crate::broker::observe::connections::CertificateFacts;
use crate::config::{LoginFrom, SanType};
use crate::steps;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The types of a name's parts that have a short name, as RabbitMQ writes them.
const ATTRIBUTES: [(&str, &str); 17] = [
    ("2.5.4.4", "SN"),
    ("2.5.4.42", "GIVENNAME"),
    ("2.5.4.43", "INITIALS"),
    ("2.5.4.44", "GENERATIONQUALIFIER"),
    (COMMON_NAME, "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "TITLE"),
    ("2.5.4.6", "C"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.65", "PSEUDONYM"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "EMAILADDRESS"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

const COMMON_NAME: &str = "2.5.4.3";

/// What a client's certificate says; `None` when it can't be read.
pub fn read(der: &[u8], login_from: LoginFrom) -> Option<CertificateFacts> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    Some(CertificateFacts {
        subject: distinguished_name(certificate.subject()),
        issuer: distinguished_name(certificate.issuer()),
        validity: format!("{} - {}", time(validity.not_before), time(validity.not_after)),
        login: login(&certificate, login_from),
    })
}

/// When a certificate ends, in seconds since the epoch; `None` when it can't be read.
pub fn expires_at_s(der: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// When the list after this one is due, in seconds since the epoch; `None` when it does not say.
pub fn list_expires_at_s(der: &[u8]) -> Option<i64> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    Some(list.next_update()?.timestamp())
}

fn time(time: ASN1Time) -> String {
    let time = time.to_datetime();
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", time.hour(), time.minute(), time.second())
}

fn login(certificate: &X509Certificate<'_>, login_from: LoginFrom) -> Option<String> {
    match login_from {
        LoginFrom::DistinguishedName => Some(distinguished_name(certificate.subject())),
        LoginFrom::CommonName => {
            let names: Vec<_> = certificate
                .subject()
                .iter_attributes()
                .filter(|attribute| attribute.attr_type().to_id_string() == COMMON_NAME)
                .map(value)
                .collect();
            (!names.is_empty()).then(|| names.join(","))
        }
        LoginFrom::SubjectAlternativeName(san_type, index) => {
            let names = certificate.subject_alternative_name().ok()??;
            names.value.general_names.iter().filter_map(|name| general_name(name, san_type)).nth(index)
        }
    }
    .filter(|name| !name.is_empty())
}

fn general_name(name: &GeneralName<'_>, san_type: SanType) -> Option<String> {
    match (san_type, name) {
        (SanType::Dns, GeneralName::DNSName(name))
        | (SanType::Email, GeneralName::RFC822Name(name))
        | (SanType::Uri, GeneralName::URI(name)) => Some((*name).to_owned()),
        (SanType::Ip, GeneralName::IPAddress(bytes)) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(|bytes| Ipv6Addr::from(bytes).to_string())).ok()
        }
        _ => None,
    }
}

/// The last part comes first, as in LDAP.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<String> =
        name.iter_rdn().map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    steps::count(ATTRIBUTES.len() + attribute.attr_value().data.len() / 8);
    let id = attribute.attr_type().to_id_string();
    let name = ATTRIBUTES.iter().find(|(known, _)| *known == id).map_or(id.as_str(), |(_, name)| name);
    format!("{name}={}", escape(&value(attribute)))
}

fn value(attribute: &AttributeTypeAndValue<'_>) -> String {
    match attribute.as_str() {
        Ok(text) => text.to_owned(),
        Err(_) => other_text(attribute),
    }
}

/// Old types of text: two bytes to a character, or one.
fn other_text(attribute: &AttributeTypeAndValue<'_>) -> String {
    const BMP_STRING: u32 = 30;
    let bytes = attribute.attr_value().data;
    if attribute.attr_value().tag().0 == BMP_STRING {
        let units: Vec<u16> =
            bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        return String::from_utf16_lossy(&units);
    }
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Escapes what has a meaning in a distinguished name, and what is not printable ASCII.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b' ' if index == 0 || index == last => escaped.push_str("\\ "),
            b'#' if index == 0 => escaped.push_str("\\#"),
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                escaped.push('\\');
                escaped.push(byte.into());
            }
            b' '..=b'~' => escaped.push(byte.into()),
            _ => write!(escaped, "\\{byte:02X}").expect("a String takes everything"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType as Alternative};

    fn certificate(parts: &[(DnType, &str)], alternatives: Vec<Alternative>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, text) in parts {
            params.distinguished_name.push(kind.clone(), *text);
        }
        params.subject_alt_names = alternatives;
        params.not_before = rcgen::date_time_ymd(2024, 1, 2);
        params.not_after = rcgen::date_time_ymd(2051, 3, 4);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_times_are_written_as_rabbitmq_does() {
        let parts = [
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, " Shop, \"Ltd\" + <Söhne>; "),
            (DnType::CustomDnType(vec![2, 5, 4, 65]), "p"),
            (DnType::CustomDnType(vec![2, 5, 4, 12]), "#1"),
            (DnType::CustomDnType(vec![1, 2, 3, 4]), "odd"),
            (DnType::CommonName, "worker\\1"),
        ];
        let der = certificate(&parts, Vec::new());
        let read = read(&der, LoginFrom::DistinguishedName).unwrap();
        let expected =
            r#"CN=worker\\1,1.2.3.4=odd,TITLE=\#1,PSEUDONYM=p,O=\ Shop\, \"Ltd\" \+ \<S\C3\B6hne\>\;\ ,C=DE"#;
        assert_eq!(read.subject, expected);
        assert_eq!(read.issuer, expected);
        assert_eq!(read.login.as_deref(), Some(expected));
        assert_eq!(read.validity, "2024-01-02T00:00:00Z - 2051-03-04T00:00:00Z");
    }

    #[test]
    fn the_login_is_the_part_that_is_asked_for() {
        let alternatives = vec![
            Alternative::DnsName("one.example".try_into().unwrap()),
            Alternative::Rfc822Name("a@example".try_into().unwrap()),
            Alternative::DnsName("two.example".try_into().unwrap()),
            Alternative::IpAddress("192.0.2.1".parse().unwrap()),
            Alternative::IpAddress("2001:db8::1".parse().unwrap()),
            Alternative::URI("urn:worker".try_into().unwrap()),
        ];
        let der = certificate(&[(DnType::CommonName, "worker, 1")], alternatives);
        let san = LoginFrom::SubjectAlternativeName;
        for (from, expected) in [
            (LoginFrom::CommonName, Some("worker, 1")),
            (LoginFrom::DistinguishedName, Some("CN=worker\\, 1")),
            (san(SanType::Dns, 0), Some("one.example")),
            (san(SanType::Dns, 1), Some("two.example")),
            (san(SanType::Dns, 2), None),
            (san(SanType::Email, 0), Some("a@example")),
            (san(SanType::Ip, 0), Some("192.0.2.1")),
            (san(SanType::Ip, 1), Some("2001:db8::1")),
            (san(SanType::Uri, 0), Some("urn:worker")),
        ] {
            assert_eq!(read(&der, from).unwrap().login.as_deref(), expected, "{from:?}");
        }
        let nameless = certificate(&[], Vec::new());
        for from in [LoginFrom::CommonName, LoginFrom::DistinguishedName, san(SanType::Dns, 0)] {
            assert_eq!(read(&nameless, from).unwrap().login, None, "{from:?}");
        }
        assert_eq!(read(b"no certificate", LoginFrom::CommonName), None);
    }
}
