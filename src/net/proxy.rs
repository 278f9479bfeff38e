//! The PROXY protocol, versions 1 and 2: a load balancer says at the beginning of a connection where the client is.
//!
//! The header is read to its last byte and no further, since what follows belongs to AMQP or TLS.

use super::canonical;
use crate::steps;
use ppp::{HeaderResult, PartialResult, v1, v2};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The shortest header is the first of version 2 that says how long it is.
const V2_PREFIX_BYTES: usize = 16;

/// Longest header of version 1 with its line break, from the protocol.
const V1_BYTES_MAX: usize = 107;

/// Longest header of version 2 that is taken. Addresses take 36 bytes, and what balancers add to them some hundred.
const V2_BYTES_MAX: usize = 4096;

/// The two ends of a connection, as the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Address and port of the client, in front of the proxy.
    pub peer: SocketAddr,
    /// Where it connected to.
    pub local: SocketAddr,
}

/// Reads the header, and says what it does: nothing when the balancer speaks for itself, as in a health check of its own, or
/// does not know.
///
/// # Errors
/// When there is no header, or one that is wrong or too long.
pub async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Addresses>> {
    let mut header = vec![0; v2::PROTOCOL_PREFIX.len()];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        read_rest_of_v2(stream, &mut header).await?;
    } else if header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        read_rest_of_v1(stream, &mut header).await?;
    } else {
        return Err(refused("it does not begin with a header of the PROXY protocol"));
    }
    addresses(&header)
}

async fn read_rest_of_v2(stream: &mut (impl AsyncRead + Unpin), header: &mut Vec<u8>) -> io::Result<()> {
    let signature = header.len();
    header.resize(V2_PREFIX_BYTES, 0);
    stream.read_exact(&mut header[signature..]).await?;
    let rest = usize::from(u16::from_be_bytes([header[V2_PREFIX_BYTES - 2], header[V2_PREFIX_BYTES - 1]]));
    if V2_PREFIX_BYTES + rest > V2_BYTES_MAX {
        return Err(refused("its PROXY header is too long"));
    }
    header.resize(V2_PREFIX_BYTES + rest, 0);
    stream.read_exact(&mut header[V2_PREFIX_BYTES..]).await?;
    Ok(())
}

async fn read_rest_of_v1(stream: &mut (impl AsyncRead + Unpin), header: &mut Vec<u8>) -> io::Result<()> {
    while !header.ends_with(b"\n") {
        if header.len() == V1_BYTES_MAX {
            return Err(refused("its PROXY header is too long"));
        }
        steps::count(1);
        header.push(stream.read_u8().await?);
    }
    Ok(())
}

fn addresses(header: &[u8]) -> io::Result<Option<Addresses>> {
    steps::count(1 + header.len() / 8);
    let parsed = HeaderResult::parse(header);
    if parsed.is_incomplete() {
        return Err(refused("its PROXY header is cut short"));
    }
    let wrong = |error: &dyn std::fmt::Display| refused(&format!("its PROXY header is wrong: {error}"));
    match parsed {
        HeaderResult::V1(header) => Ok(v1_addresses(&header.map_err(|error| wrong(&error))?.addresses)),
        HeaderResult::V2(header) => {
            let header = header.map_err(|error| wrong(&error))?;
            Ok(match header.command {
                v2::Command::Local => None,
                v2::Command::Proxy => v2_addresses(&header.addresses),
            })
        }
    }
}

fn v1_addresses(addresses: &v1::Addresses) -> Option<Addresses> {
    match addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(ip) => {
            Some(pair((ip.source_address, ip.source_port), (ip.destination_address, ip.destination_port)))
        }
        v1::Addresses::Tcp6(ip) => {
            Some(pair((ip.source_address, ip.source_port), (ip.destination_address, ip.destination_port)))
        }
    }
}

fn v2_addresses(addresses: &v2::Addresses) -> Option<Addresses> {
    match addresses {
        v2::Addresses::IPv4(ip) => {
            Some(pair((ip.source_address, ip.source_port), (ip.destination_address, ip.destination_port)))
        }
        v2::Addresses::IPv6(ip) => {
            Some(pair((ip.source_address, ip.source_port), (ip.destination_address, ip.destination_port)))
        }
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    }
}

fn pair<I: Into<IpAddr>>(peer: (I, u16), local: (I, u16)) -> Addresses {
    let [peer, local] =
        [(peer.0.into(), peer.1), (local.0.into(), local.1)].map(|pair| canonical(pair.into()));
    Addresses { peer, local }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a header says, and what bytes were left behind it.
    async fn read(bytes: &[u8]) -> (Result<Option<Addresses>, String>, usize) {
        let mut stream = bytes;
        let result = read_header(&mut stream).await;
        (result.map_err(|error| error.to_string()), stream.len())
    }

    fn some(peer: &str, local: &str) -> Result<Option<Addresses>, String> {
        Ok(Some(Addresses { peer: peer.parse().unwrap(), local: local.parse().unwrap() }))
    }

    fn v2_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn version_1_names_both_ends_and_leaves_the_rest_alone() {
        let header = b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 5672\r\nAMQP";
        assert_eq!(read(header).await, (some("203.0.113.7:40000", "192.0.2.1:5672"), 4));
        let header = b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 5672\r\nAMQP";
        assert_eq!(read(header).await, (some("[2001:db8::7]:40000", "[2001:db8::1]:5672"), 4));
        assert_eq!(read(b"PROXY UNKNOWN\r\nAMQP").await, (Ok(None), 4));
    }

    #[tokio::test]
    async fn version_2_names_both_ends_and_leaves_the_rest_alone() {
        let v4 = [203, 0, 113, 7, 192, 0, 2, 1, 0x9c, 0x40, 0x16, 0x28];
        let plain = v2_header(0x21, 0x11, &v4);
        assert_eq!(
            read(&[&plain[..], b"AMQP"].concat()).await,
            (some("203.0.113.7:40000", "192.0.2.1:5672"), 4)
        );
        // Something that balancers add: type 3, a checksum of 4 bytes.
        let with_more = v2_header(0x21, 0x11, &[&v4[..], &[3, 0, 4, 1, 2, 3, 4]].concat());
        assert_eq!(
            read(&[&with_more[..], b"AMQP"].concat()).await,
            (some("203.0.113.7:40000", "192.0.2.1:5672"), 4)
        );
        assert_eq!(read(&v2_header(0x20, 0x00, &[])).await, (Ok(None), 0));
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let no_header = "it does not begin with a header of the PROXY protocol";
        assert_eq!(read(b"AMQP\x00\x00\x09\x01____").await.0, Err(no_header.to_owned()));
        let endless = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
        assert_eq!(read(&endless).await.0, Err("its PROXY header is too long".to_owned()));
        let long = v2_header(0x21, 0x11, &[0; 5000]);
        assert_eq!(read(&long).await.0, Err("its PROXY header is too long".to_owned()));
        for wrong in [
            &b"PROXY TCP4 203.0.113.7 192.0.2.1 40000\r\n"[..],
            b"PROXY TCP4 203.0.113.700 192.0.2.1 40000 5672\r\n",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 99999 5672\r\n",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 5672\n",
        ] {
            assert!(read(wrong).await.0.is_err_and(|text| text.starts_with("its PROXY header is")));
        }
        for wrong in
            [v2_header(0x31, 0x11, &[0; 12]), v2_header(0x2f, 0x11, &[0; 12]), v2_header(0x21, 0x11, &[0; 3])]
        {
            assert!(read(&wrong).await.0.is_err_and(|text| text.starts_with("its PROXY header is")));
        }
    }
}
