//! A PROXY header is read the same however it is cut, takes nothing of what follows it, and a header that a proxy would
//! write is read as what was written.
//!
//! The first byte of the input chooses the versions and whether the peer may send a header, the second the cut.
#![no_main]
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rgunicorn_http::proxy::{Addresses, Protocol, ProxyHeader, ProxyMode, ProxyReader, ProxyStep};

const MODES: [ProxyMode; 4] = [ProxyMode::Auto, ProxyMode::V1, ProxyMode::V2, ProxyMode::Off];
/// Extensions may fill what the two bytes of the length can say.
const EXTENSION_BYTES_MAX: usize = 300;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let [choice, cut, bytes @ ..] = input else { return };
    let (mode, allowed) = (MODES[usize::from(*choice) % 4], choice & 4 == 0);
    let (left, right) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    let whole = read(mode, allowed, &[bytes]);
    assert_eq!(whole, read(mode, allowed, &[left, right]));
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(whole, read(mode, allowed, &single));
    if mode == ProxyMode::Off {
        assert_eq!(whole, Some(Ok((None, bytes.to_vec()))).filter(|_| !bytes.is_empty()));
    }
    if let Some((header, rest)) = written_header(bytes) {
        for (version, text) in
            [(ProxyMode::V1, version_1(&header)), (ProxyMode::V2, version_2(&header, rest))]
        {
            let sent = [&text, rest].concat();
            let (left, right) = sent.split_at(usize::from(*cut).min(sent.len()));
            for mode in [version, ProxyMode::Auto] {
                let expected = Some(Ok((Some(header), rest.to_vec())));
                assert_eq!(read(mode, true, &[left, right]), expected);
            }
        }
    }
});

/// What came: the header, if there is one, and what is left for the requests; or the fault.
type Outcome = Result<(Option<ProxyHeader>, Vec<u8>), String>;

/// Reads pieces as a connection does. `None`: more is needed.
fn read(mode: ProxyMode, allowed: bool, pieces: &[&[u8]]) -> Option<Outcome> {
    let mut reader = ProxyReader::default();
    for (at, piece) in pieces.iter().enumerate() {
        let mut rest = *piece;
        let later = || pieces[at + 1..].concat();
        // An empty piece is no arrival.
        if rest.is_empty() {
            continue;
        }
        match reader.advance(mode, allowed, &mut rest) {
            Ok(ProxyStep::NeedMore) => assert!(rest.is_empty()),
            Ok(ProxyStep::Absent(held)) => {
                assert_eq!(rest, *piece);
                return Some(Ok((None, [&held, rest, &later()].concat())));
            }
            Ok(ProxyStep::Header(header)) => return Some(Ok((Some(header), [rest, &later()].concat()))),
            Err(error) => return Some(Err(error.to_string())),
        }
    }
    None
}

/// Makes a header of two addresses out of the first bytes, and what is left of them.
fn written_header(bytes: &[u8]) -> Option<(ProxyHeader, &[u8])> {
    let (block, rest) = bytes.split_at_checked(37)?;
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    let (protocol, source, destination) = if block[36] % 2 == 0 {
        let ip = |at: usize| Ipv4Addr::new(block[at], block[at + 1], block[at + 2], block[at + 3]).into();
        (Protocol::Tcp4, ip(0), ip(4))
    } else {
        let ip = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&block[at..at + 16]).unwrap()).into();
        (Protocol::Tcp6, ip(0), ip(16))
    };
    let source = SocketAddr::new(source, port(32));
    let destination = SocketAddr::new(destination, port(34));
    Some((ProxyHeader { protocol, addresses: Some(Addresses { source, destination }) }, rest))
}

fn version_1(header: &ProxyHeader) -> Vec<u8> {
    let Addresses { source, destination } = header.addresses.unwrap();
    let (from, to) = (source.ip(), destination.ip());
    let (from_port, to_port) = (source.port(), destination.port());
    format!("PROXY {} {from} {to} {from_port} {to_port}\r\n", header.protocol.name()).into_bytes()
}

/// With some extensions, whose contents do not matter.
fn version_2(header: &ProxyHeader, extensions: &[u8]) -> Vec<u8> {
    let Addresses { source, destination } = header.addresses.unwrap();
    let octets = |address: SocketAddr| match address {
        SocketAddr::V4(address) => address.ip().octets().to_vec(),
        SocketAddr::V6(address) => address.ip().octets().to_vec(),
    };
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let extensions = &extensions[..extensions.len().min(EXTENSION_BYTES_MAX)];
    let block = [&octets(source), &octets(destination), &ports, extensions].concat();
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    bytes.push(family);
    bytes.extend((block.len() as u16).to_be_bytes());
    bytes.extend(block);
    bytes
}
