//! Seeds of what operators and peers write.

use super::{Seed, long};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, SanType};

pub(super) fn config() -> Vec<Seed> {
    let files = [
        ("limits", "[limits]\nheartbeat_s = 30\nmemory_high_watermark = 0.5\nframe_max_bytes = 1e3\n"),
        (
            "listeners",
            "[listeners.amqp]\nbind = \"0.0.0.0:5672\"\nproxy_protocol = true\nproxy_networks = [\"10.0.0.0/8\"]\n",
        ),
        (
            "users",
            "[[users]]\nname = \"app\"\npassword = \"p\"\ntags = [\"monitoring\"]\n[[permissions]]\nuser = \"app\"\nconfigure = \"^a\"\nwrite = \".*\"\nread = \"(\"\n",
        ),
        (
            "topology",
            "[[exchanges]]\nname = \"x\"\ntype = \"topic\"\narguments = { alternate-exchange = \"y\" }\n[[queues]]\nname = \"q\"\narguments = { x-max-length = 5, x = [1, [2.5]] }\n[[bindings]]\nsource = \"x\"\ndestination = \"q\"\nrouting_key = \"a.#\"\n",
        ),
        (
            "policies",
            "[[vhosts]]\nname = \"v\"\n[[policies]]\nname = \"p\"\nvhost = \"v\"\npattern = \"^q\"\ndefinition = { max-length = 1, queue-mode = \"lazy\" }\n[[operator_policies]]\nname = \"o\"\npattern = \"\"\n",
        ),
        (
            "wrong",
            "data_dir = 5\nlimts = {}\n[limits]\nheartbeat_s = -1\nheartbeat_s = 2\n\"a.b\" = 1979-05-27\n[[queues]]\n",
        ),
        (
            "url",
            "[tls]\ncertificate = \"amqp://u:s@h/\"\nlogin_from = \"subject_alternative_name\"\n[store]\ndurability = \"fsync\"\n[log]\nlevel = \"debug\"\n",
        ),
    ];
    files.map(|(name, text)| ("config", name.to_owned(), text.as_bytes().to_vec())).into()
}

pub(super) fn patterns() -> Vec<Seed> {
    let patterns = [
        ("lookahead", 0, "^(?!amq[.]).*", "orders"),
        ("back-reference", 0, r"^(a+)(a+)\2\1[0-9]?$", "aaaaaaab"),
        ("permission", 1, "", "x"),
        ("variables", 2, r"^{username}[.]{vhost}\{{x}a{2,3}\p{Lu}\x{e9}", "a.b*"),
        ("classes", 0, r"[[:alpha:]&&[^a-c]]\b\Ba*?b+?(?i:C)(?<n>d)\k<n>", "xbcdd"),
        ("large", 0, "(?:(?:a{100}){100}){100}|(?=.*b)(?<=a)b", "ab"),
    ];
    let seed = |(name, kind, pattern, text): (&str, u8, &str, &str)| {
        let data = [&[kind][..], &long(pattern.as_bytes()), text.as_bytes()].concat();
        ("pattern", name.to_owned(), data)
    };
    patterns.map(seed).into()
}

pub(super) fn proxy_headers() -> Vec<Seed> {
    let v2 = |command: u8, family: u8, rest: &[u8]| {
        [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &long(rest), b"AMQP"].concat()
    };
    let headers = [
        ("v1-tcp4", b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 5672\r\nAMQP".to_vec()),
        ("v1-tcp6", b"PROXY TCP6 2001:db8::7 ::ffff:192.0.2.1 40000 5672\r\nAMQP".to_vec()),
        ("v1-unknown", b"PROXY UNKNOWN\r\nAMQP".to_vec()),
        ("v2-tcp4", v2(0x21, 0x11, &[203, 0, 113, 7, 192, 0, 2, 1, 0x9c, 0x40, 0x16, 0x28])),
        ("v2-tcp6", v2(0x21, 0x21, &[[0; 10].as_slice(), &[0xff, 0xff, 1, 2, 3, 4], &[0x20; 20]].concat())),
        ("v2-more", v2(0x21, 0x11, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 3, 0, 4, 1, 2, 3, 4])),
        ("v2-unix", v2(0x21, 0x31, &[b'/'; 216])),
        ("v2-local", v2(0x20, 0, &[])),
    ];
    headers.map(|(name, header)| ("proxy_header", name.to_owned(), [&[7][..], &header].concat())).into()
}

/// Certificates have new keys each time: these are to be written once.
pub(super) fn certificates() -> Vec<Seed> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, text) in [
        (DnType::CountryName, "DE"),
        (DnType::OrganizationName, " Shop, \"Ltd\" + <Söhne>; "),
        (DnType::CustomDnType(vec![1, 2, 3, 4]), "#odd"),
        (DnType::CommonName, "worker\\1"),
    ] {
        params.distinguished_name.push(kind, text);
    }
    params.subject_alt_names = vec![
        SanType::DnsName("one.example".try_into().unwrap()),
        SanType::Rfc822Name("a@example".try_into().unwrap()),
        SanType::IpAddress("192.0.2.1".parse().unwrap()),
        SanType::IpAddress("2001:db8::1".parse().unwrap()),
        SanType::URI("urn:worker".try_into().unwrap()),
    ];
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0])];
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    // A common name in UTF-16, one in T.61, and two names in one part.
    let name = |kind: u8, tag: u8, text: &[u8]| {
        let length = text.len() as u8;
        [&[0x30, 7 + length, 6, 3, 0x55, 4, kind, tag, length], text].concat()
    };
    let set = |values: &[Vec<u8>]| {
        let content = values.concat();
        [&[0x31, content.len() as u8][..], &content].concat()
    };
    let subject = [
        set(&[name(3, 30, b"\0a\xd8\x00")]),
        set(&[name(3, 20, b"\xe9,"), name(10, 12, b"\xc3\xa4 ")]),
        set(&[name(6, 19, b"")]),
    ];
    let names = b"\x82\x03a.b\x81\x01@\x86\x02u:\x87\x04\x01\x02\x03\x04\x87\x01\x01\x88\x03\x2a\x03\x04";
    let built = [&[1][..], &long(&subject.concat()), names].concat();
    vec![
        ("certificate", "whole".to_owned(), [&[2][..], &der].concat()),
        ("certificate", "built".to_owned(), built),
    ]
}
