//! What an operator or a peer writes that is neither AMQP nor HTTP: the configuration file, patterns, the header of the PROXY
//! protocol, names in certificates.

use super::input::Input;
use leveret::config::{Config, LoginFrom, SanType};
use leveret::net::proxy::{Addresses, read_header};
use leveret::net::tls::certificate;
use leveret::pattern::Pattern;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::AsyncReadExt;

/// The text of a configuration file. It is a configuration, or what is wrong is told with lines that it has.
pub(super) fn config(data: &[u8]) {
    const NO_VARIABLES: [(&str, &str); 0] = [];
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::load_from(text, "leveret.toml", NO_VARIABLES) {
        Ok(config) => {
            config.warnings();
            let again = Config::load_from(text, "leveret.toml", NO_VARIABLES).unwrap();
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
        }
        Err(errors) => {
            assert!(!errors.problems.is_empty());
            let lines = 1 + text.matches('\n').count();
            for problem in &errors.problems {
                assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem}");
                assert!(!problem.message.is_empty() && !problem.message.contains('\n'), "{problem:?}");
            }
        }
    }
}

/// Longest name that a pattern is tried on.
const NAME_BYTES_MAX: usize = 255;

/// A pattern and a name, behind a byte that says what the pattern is for. It is refused in a line, or says whether it is in the
/// name, and says the same each time.
pub(super) fn pattern(data: &[u8]) {
    let mut input = Input(data);
    let (Some(kind), written) = (input.byte(), input.long()) else { return };
    let (Ok(written), Ok(name)) = (std::str::from_utf8(written), std::str::from_utf8(input.0)) else {
        return;
    };
    let name = name.get(..NAME_BYTES_MAX.min(name.len())).unwrap_or_default();
    let pattern = match kind % 3 {
        0 => Pattern::new(written),
        1 => Pattern::of_permission(written),
        _ => Pattern::with_variables(written, &[("username", name), ("vhost", "a.b")]),
    };
    match pattern {
        Ok(pattern) => {
            assert_eq!(pattern.as_str(), written);
            let found = pattern.matches(name);
            assert_eq!(found, pattern.matches(name));
            if kind % 3 == 1 && written.is_empty() {
                assert_eq!(found, Ok(name.is_empty()));
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
        }
    }
}

/// What a load balancer says first, cut where the first byte says. The header is read to its end and no further, and the cut
/// makes no difference.
pub(super) fn proxy_header(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let (whole, used) = read(bytes, bytes.len());
    let (cut, used_cut) = read(bytes, usize::from(cut) % (bytes.len() + 1));
    assert_eq!((&whole, used), (&cut, used_cut), "the cut makes a difference");
    assert!(used <= 4096, "{used} bytes were read");
    if let Some(expected) = plain_v2(bytes) {
        assert_eq!(
            (whole, used),
            (Ok(Some(expected)), 16 + usize::from(u16::from_be_bytes([bytes[14], bytes[15]])))
        );
    }
}

/// What the header says, and how many bytes it has; they come in two pieces.
fn read(bytes: &[u8], cut: usize) -> (Result<Option<Addresses>, String>, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut first, mut second) = bytes.split_at(cut);
    let header = runtime.block_on(read_header(&mut (&mut first).chain(&mut second)));
    (header.map_err(|error| error.to_string()), bytes.len() - first.len() - second.len())
}

/// The addresses of a header of version 2 that says them and nothing beside.
fn plain_v2(bytes: &[u8]) -> Option<Addresses> {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let rest = bytes.strip_prefix(SIGNATURE)?.strip_prefix(&[0x21])?;
    let (&[family, high, low], rest) = rest.split_first_chunk()?;
    let addresses = rest.get(..usize::from(u16::from_be_bytes([high, low])))?;
    let port = |at: usize| Some(u16::from_be_bytes([*addresses.get(at)?, *addresses.get(at + 1)?]));
    let ends: [(IpAddr, u16); 2] = match (family, addresses.len()) {
        (0x11, 12) => {
            let ip = |at: usize| Some(Ipv4Addr::from(*addresses.get(at..)?.first_chunk::<4>()?).into());
            [(ip(0)?, port(8)?), (ip(4)?, port(10)?)]
        }
        (0x21, 36) => {
            let ip =
                |at: usize| Some(Ipv6Addr::from(*addresses.get(at..)?.first_chunk::<16>()?).to_canonical());
            [(ip(0)?, port(32)?), (ip(16)?, port(34)?)]
        }
        _ => return None,
    };
    let [peer, local] = ends.map(SocketAddr::from);
    Some(Addresses { peer, local })
}

/// A certificate: as it is, or, when the first byte is odd, one around a subject and around names beside it. Whatever it calls
/// its owner, the user's name is text that can be printed where it is a distinguished name, and never empty.
pub(super) fn certificate(data: &[u8]) {
    let mut input = Input(data);
    let Some(first) = input.byte() else { return };
    let der = if first & 1 == 1 { certificate_of(input.long(), input.0) } else { input.0.to_vec() };
    let san = LoginFrom::SubjectAlternativeName;
    let index = usize::from(first >> 1 & 3);
    let ways = [
        LoginFrom::DistinguishedName,
        LoginFrom::CommonName,
        san(SanType::Dns, index),
        san(SanType::Email, index),
        san(SanType::Uri, index),
        san(SanType::Ip, index),
    ];
    certificate::expires_at_s(&der);
    certificate::list_expires_at_s(&der);
    for login_from in ways {
        let Some(facts) = certificate::read(&der, login_from) else { continue };
        let is_plain = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        assert!(
            is_plain(&facts.subject) && is_plain(&facts.issuer) && is_plain(&facts.validity),
            "{facts:?}"
        );
        if let Some(login) = facts.login {
            assert!(!login.is_empty());
            assert!(login_from != LoginFrom::DistinguishedName || login == facts.subject);
            assert!(login_from != san(SanType::Ip, index) || login.parse::<IpAddr>().is_ok(), "{login}");
        }
    }
}

/// A certificate whose subject is the sequence of `subject`, and whose alternative names are those of `names`.
fn certificate_of(subject: &[u8], names: &[u8]) -> Vec<u8> {
    const SEQUENCE: u8 = 0x30;
    const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
    const VALIDITY: &[u8] = b"\x30\x1e\x17\x0d240102000000Z\x17\x0d340102000000Z";
    let name = der(SEQUENCE, &[subject]);
    let key = der(SEQUENCE, &[ED25519, &der(3, &[&[0; 33]])]);
    let alternative_names = der(4, &[&der(SEQUENCE, &[names])]);
    let extension = der(SEQUENCE, &[&[6, 3, 0x55, 0x1d, 0x11], &alternative_names]);
    let extensions = der(0xa3, &[&der(SEQUENCE, &[&extension])]);
    let version_and_serial: &[u8] = &[0xa0, 3, 2, 1, 2, 2, 1, 1];
    let facts = der(SEQUENCE, &[version_and_serial, ED25519, &name, VALIDITY, &name, &key, &extensions]);
    der(SEQUENCE, &[&facts, ED25519, &der(3, &[&[0; 65]])])
}

/// A value of DER.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let mut value = vec![tag];
    match content.len() {
        short @ 0..128 => value.push(short as u8),
        _ => {
            value.push(0x84);
            value.extend_from_slice(&length);
        }
    }
    [value, content].concat()
}
