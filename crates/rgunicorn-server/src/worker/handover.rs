//! The message that goes with a connection from worker to worker: what its next owner cannot ask the kernel.
//!
//! Both ends are of one server, forked by one master, so a layout of fixed fields will do; it has a version all the
//! same.

use std::net::{IpAddr, SocketAddr};

use rgunicorn_http::proxy::{Addresses, Protocol, ProxyHeader};
use rgunicorn_io::driver::PeerAddr;
use rgunicorn_io::sys::clock::Instant;

use super::conn::proxy_header::ProxyHeaderState;

/// The first byte of a message.
const VERSION: u8 = 1;

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
    /// Returns the message.
    pub(crate) fn encode(&self) -> Vec<u8> {
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
        if let Some(ProxyHeader { protocol, addresses }) = self.proxied {
            message.push(protocol_code(protocol));
            for end in addresses.iter().flat_map(|Addresses { source, destination }| [source, destination]) {
                put_address(&mut message, end.ip(), end.port());
            }
        }
        message
    }

    /// Reads a message; `None` if it is none, or one of another version.
    pub(crate) fn decode(message: &[u8]) -> Option<Self> {
        let mut fields = Fields(message);
        if fields.byte()? != VERSION {
            return None;
        }
        let [trusted, served] = [fields.flag()?, fields.flag()?];
        let proxy_state = proxy_state(fields.byte()?)?;
        let [listener, requests, deadline] = [fields.number()?, fields.number()?, fields.number()?];
        let peer = fields.address()?.map_or(PeerAddr::Unix, PeerAddr::from);
        let proxied = if fields.is_empty() { None } else { Some(fields.proxy_header()?) };
        let deadline = Instant(deadline);
        let read = Self { listener, peer, trusted, served, proxy_state, proxied, requests, deadline };
        fields.is_empty().then_some(read)
    }
}

/// The rest of a message.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

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

    fn proxy_header(&mut self) -> Option<ProxyHeader> {
        let protocol = protocol(self.byte()?)?;
        if self.is_empty() {
            return Some(ProxyHeader { protocol, addresses: None });
        }
        let (source, destination) = (self.address()??, self.address()??);
        Some(ProxyHeader { protocol, addresses: Some(Addresses { source, destination }) })
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
    use rgunicorn_io::sys::handoff::HANDOFF_MESSAGE_BYTES_MAX;

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

    proptest! {
        #[test]
        fn what_is_written_is_read(handover in handover()) {
            let message = handover.encode();
            prop_assert!(message.len() <= HANDOFF_MESSAGE_BYTES_MAX);
            prop_assert_eq!(Handover::decode(&message), Some(handover));
        }

        #[test]
        fn a_message_that_is_cut_or_longer_is_another_one_or_none(handover in handover(), cut in 0_usize..100) {
            let mut message = handover.encode();
            let cut = cut % message.len();
            prop_assert_ne!(Handover::decode(&message[..cut]), Some(handover));
            message.push(0);
            prop_assert_ne!(Handover::decode(&message), Some(handover));
        }

        #[test]
        fn any_bytes_are_read_or_refused(message in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(handover) = Handover::decode(&message) {
                prop_assert_eq!(handover.encode(), message);
            }
        }
    }

    #[test]
    fn another_version_is_refused() {
        assert_eq!(Handover::decode(&[]), None);
        assert_eq!(Handover::decode(&[VERSION + 1, 0, 0, 0]), None);
    }
}
