//! The message that goes with a connection from worker to worker: what its next owner cannot ask the kernel.
//!
//! Both ends are of one server, forked by one master, so a layout of fixed fields will do; it has a version all the
//! same.

use std::net::{IpAddr, SocketAddr};

use rgunicorn_http::proxy::{Addresses, Protocol, ProxyHeader};
use rgunicorn_io::driver::PeerAddr;
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::handoff::HANDOFF_MESSAGE_BYTES_MAX;

use super::conn::proxy_header::ProxyHeaderState;

/// The first byte of a message.
const VERSION: u8 = 2;
/// Bytes of fields in a message at most.
const FIELDS_BYTES_MAX: usize = 256;
/// Bytes that may go with a connection: requests without a body, and with a small one. More stays where it is.
pub(crate) const HANDOVER_DATA_BYTES_MAX: usize = 7 * 1024;
const _: () = assert!(FIELDS_BYTES_MAX + HANDOVER_DATA_BYTES_MAX <= HANDOFF_MESSAGE_BYTES_MAX);

/// An established connection between two requests, as one worker describes it to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handover {
    /// [`ListenerSpec::key`](super::ListenerSpec::key) of the listener that it came from.
    pub(crate) listener: u64,
    pub(crate) peer: PeerAddr,
    /// See [`super::conn::Conn::trusted`].
    pub(crate) trusted: bool,
    /// See [`super::conn::Conn::served`].
    pub(crate) served: bool,
    /// Whether a PROXY header may come.
    pub(crate) proxy_state: ProxyHeaderState,
    /// The one that has come.
    pub(crate) proxied: Option<ProxyHeader>,
    /// Requests so far.
    pub(crate) requests: u64,
    /// When it is closed, if nothing comes.
    pub(crate) deadline: Instant,
}

impl Handover {
    /// Returns the message. `data`: what was received and not answered, at most [`HANDOVER_DATA_BYTES_MAX`].
    pub(crate) fn encode(&self, data: &[u8]) -> Vec<u8> {
        let mut message =
            vec![VERSION, self.trusted.into(), self.served.into(), proxy_state_code(self.proxy_state)];
        for number in [self.listener, self.requests, self.deadline.0] {
            message.extend(number.to_le_bytes());
        }
        match self.peer {
            PeerAddr::Unix => message.push(0),
            PeerAddr::V4 { addr, port } => put_address(&mut message, IpAddr::from(addr), port),
            PeerAddr::V6 { addr, port } => put_address(&mut message, IpAddr::from(addr), port),
        }
        match self.proxied {
            None => message.push(NO_PROXY_HEADER),
            Some(ProxyHeader { protocol, addresses: None }) => message.extend([protocol_code(protocol), 0]),
            Some(ProxyHeader { protocol, addresses: Some(Addresses { source, destination }) }) => {
                message.push(protocol_code(protocol));
                put_address(&mut message, source.ip(), source.port());
                put_address(&mut message, destination.ip(), destination.port());
            }
        }
        debug_assert!(message.len() <= FIELDS_BYTES_MAX, "{} bytes of fields", message.len());
        message.extend_from_slice(data);
        message
    }

    /// Reads a message and what came with it; `None` if it is none, or one of another version.
    pub(crate) fn decode(message: &[u8]) -> Option<(Self, &[u8])> {
        let mut fields = Fields(message);
        if fields.byte()? != VERSION {
            return None;
        }
        let [trusted, served] = [fields.flag()?, fields.flag()?];
        let proxy_state = proxy_state(fields.byte()?)?;
        let [listener, requests, deadline] = [fields.number()?, fields.number()?, fields.number()?];
        let peer = fields.address()?.map_or(PeerAddr::Unix, PeerAddr::from);
        let proxied = match fields.byte()? {
            NO_PROXY_HEADER => None,
            code => Some(fields.proxy_header(code)?),
        };
        let deadline = Instant(deadline);
        let read = Self { listener, peer, trusted, served, proxy_state, proxied, requests, deadline };
        Some((read, fields.0))
    }
}

/// The rest of a message.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        self.byte().filter(|byte| *byte <= 1).map(|byte| byte == 1)
    }

    fn number(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// Reads an address. `Some(None)`: there is none.
    #[expect(clippy::option_option, reason = "a message may say that there is no address")]
    fn address(&mut self) -> Option<Option<SocketAddr>> {
        let ip = match self.byte()? {
            0 => return Some(None),
            4 => IpAddr::from(self.bytes::<4>()?),
            6 => IpAddr::from(self.bytes::<16>()?),
            _ => return None,
        };
        Some(Some(SocketAddr::new(ip, self.bytes().map(u16::from_le_bytes)?)))
    }

    fn proxy_header(&mut self, code: u8) -> Option<ProxyHeader> {
        let protocol = protocol(code)?;
        let addresses = match self.address()? {
            None => None,
            Some(source) => Some(Addresses { source, destination: self.address()?? }),
        };
        Some(ProxyHeader { protocol, addresses })
    }
}

fn put_address(message: &mut Vec<u8>, ip: IpAddr, port: u16) {
    match ip {
        IpAddr::V4(ip) => {
            message.push(4);
            message.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            message.push(6);
            message.extend(ip.octets());
        }
    }
    message.extend(port.to_le_bytes());
}

const PROXY_STATES: [ProxyHeaderState; 3] =
    [ProxyHeaderState::Over, ProxyHeaderState::Allowed, ProxyHeaderState::Forbidden];

const PROTOCOLS: [Protocol; 5] =
    [Protocol::Tcp4, Protocol::Tcp6, Protocol::Local, Protocol::Unspec, Protocol::Unknown];

/// Stands for no PROXY header where the code of its protocol would be.
const NO_PROXY_HEADER: u8 = u8::MAX;

fn proxy_state_code(state: ProxyHeaderState) -> u8 {
    code(&PROXY_STATES, state)
}

fn proxy_state(code: u8) -> Option<ProxyHeaderState> {
    PROXY_STATES.get(usize::from(code)).copied()
}

fn protocol_code(protocol: Protocol) -> u8 {
    code(&PROTOCOLS, protocol)
}

fn protocol(code: u8) -> Option<Protocol> {
    PROTOCOLS.get(usize::from(code)).copied()
}

/// Returns the place of a value in a table of all of them.
fn code<T: PartialEq>(table: &[T], value: T) -> u8 {
    table.iter().zip(0..).find_map(|(each, code)| (*each == value).then_some(code)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
    }

    fn header() -> impl Strategy<Value = ProxyHeader> {
        let ends = proptest::option::of((address(), address()));
        (proptest::sample::select(PROTOCOLS.to_vec()), ends).prop_map(|(protocol, ends)| ProxyHeader {
            protocol,
            addresses: ends.map(|(source, destination)| Addresses { source, destination }),
        })
    }

    prop_compose! {
        fn handover()(
            listener in any::<u64>(),
            peer in proptest::option::of(address()),
            (trusted, served) in any::<(bool, bool)>(),
            proxy_state in proptest::sample::select(PROXY_STATES.to_vec()),
            proxied in proptest::option::of(header()),
            (requests, deadline) in any::<(u64, u64)>(),
        ) -> Handover {
            let peer = peer.map_or(PeerAddr::Unix, PeerAddr::from);
            Handover { listener, peer, trusted, served, proxy_state, proxied, requests, deadline: Instant(deadline) }
        }
    }

    fn data() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..50)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(handover in handover(), data in data()) {
            let message = handover.encode(&data);
            prop_assert!(message.len() <= FIELDS_BYTES_MAX + data.len());
            prop_assert_eq!(Handover::decode(&message), Some((handover, &*data)));
        }

        #[test]
        fn a_message_that_is_cut_is_another_one_or_none(handover in handover(), cut in 0_usize..100) {
            let message = handover.encode(&[]);
            let cut = cut % message.len();
            prop_assert_eq!(Handover::decode(&message[..cut]), None);
        }

        #[test]
        fn any_bytes_are_read_or_refused(message in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some((handover, data)) = Handover::decode(&message) {
                prop_assert_eq!(handover.encode(data), message);
            }
        }
    }

    #[test]
    fn another_version_is_refused() {
        assert_eq!(Handover::decode(&[]), None);
        assert_eq!(Handover::decode(&[VERSION + 1, 0, 0, 0]), None);
    }
}
