//! Lists of trusted peers (`forwarded_allow_ips`): IP networks in strict notation, as Python's
//! `ipaddress.ip_network` reads them.

use std::net::{IpAddr, Ipv4Addr};

use super::raw::python_repr;

/// A block of IP addresses: all that share the first `prefix_bits` bits with `base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix_bits: u32,
}

impl Network {
    /// Reads `ADDRESS`, `ADDRESS/BITS` or `IPV4/MASK`.
    ///
    /// # Errors
    /// The text is no address, has a bad prefix, or has host bits set; the message says which.
    pub fn parse(text: &str) -> Result<Self, String> {
        let not_one = || format!("{} does not appear to be an IPv4 or IPv6 network", python_repr(text));
        let (address, mask) = text.split_once('/').map_or((text, None), |(a, m)| (a, Some(m)));
        let base: IpAddr = address.parse().map_err(|_| not_one())?;
        let width = width_bits(base);
        let prefix_bits = match mask {
            None => width,
            Some(bits) if !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= width).ok_or_else(not_one)?
            }
            Some(mask) => dotted_mask(base, mask).ok_or_else(not_one)?,
        };
        let network = Self { base, prefix_bits };
        if network.masked(base) == bits_of(base) {
            Ok(network)
        } else {
            Err(format!("{text} has host bits set"))
        }
    }

    /// Returns whether `peer` lies in the network. An IPv4 peer seen through an IPv6 socket
    /// (`::ffff:a.b.c.d`) is another address family and does not, as in Gunicorn.
    pub fn contains(&self, peer: IpAddr) -> bool {
        peer.is_ipv4() == self.base.is_ipv4() && self.masked(peer) == bits_of(self.base)
    }

    fn masked(&self, address: IpAddr) -> u128 {
        let host_bits = width_bits(self.base) - self.prefix_bits;
        // A shift by all 128 bits is not defined, and means "no bit counts".
        bits_of(address).checked_shr(host_bits).map_or(0, |high| high << host_bits)
    }
}

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn width_bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Reads a mask such as `255.255.0.0`, or the inverted form `0.0.255.255`.
fn dotted_mask(base: IpAddr, mask: &str) -> Option<u32> {
    if !base.is_ipv4() {
        return None;
    }
    let mask = mask.parse::<Ipv4Addr>().ok()?.to_bits();
    let ones = mask.leading_ones();
    if mask.checked_shl(ones).unwrap_or(0) == 0 {
        return Some(ones);
    }
    let zeros = mask.leading_zeros();
    (mask.count_ones() + zeros == 32).then_some(zeros)
}

/// A comma list of networks; `*` means every peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    any: bool,
    list: Vec<Network>,
}

impl Networks {
    /// Reads the items of a list that may contain `*`.
    ///
    /// # Errors
    /// The first item that is no network.
    pub fn parse<T: AsRef<str>>(items: &[T]) -> Result<Self, String> {
        let mut networks = Self::default();
        for item in items {
            match item.as_ref() {
                "*" => networks.any = true,
                text => networks.list.push(Network::parse(text)?),
            }
        }
        Ok(networks)
    }

    /// Returns whether a peer is on the list. `None` is a peer without an IP address (a unix socket): always
    /// trusted, because only processes of this machine with access to the path can reach it.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        self.any || peer.is_none_or(|peer| self.list.iter().any(|network| network.contains(peer)))
    }
}
