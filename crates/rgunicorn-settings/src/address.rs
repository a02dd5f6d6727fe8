//! The address texts of `bind`.

use std::fmt;

use super::raw::python_repr;

/// The port of an address that names none. Gunicorn's.
const PORT_DEFAULT: u16 = 8000;
/// That of a statsd server.
const STATSD_PORT_DEFAULT: u16 = 8125;

/// An address to listen at. Displayed as in the log: `http://HOST:PORT`, `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// A TCP address; the host is a literal or a name, lower case, IPv6 without brackets.
    Tcp {
        /// `0.0.0.0` when the text has none.
        host: String,
        /// 0 lets the kernel choose.
        port: u16,
    },
    /// A unix socket; relative paths are relative to the working directory.
    Unix(String),
    /// A socket in the abstract name space, without the leading NUL (a path that begins with NUL; unix(7)).
    Abstract(String),
    /// An inherited listener, by descriptor.
    Fd(u32),
}

/// A text that is no address. Display names the text, the fault and the allowed forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadAddress {
    text: String,
    fault: String,
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, fault } = self;
        write!(
            f,
            "{} is no address: {fault} (allowed: HOST:PORT, HOST, :PORT, [IPV6]:PORT, unix:PATH, fd://N)",
            python_repr(text)
        )
    }
}

impl std::error::Error for BadAddress {}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "http://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "http://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Abstract(name) => write!(f, "unix:@{name}"),
            Self::Fd(fd) => write!(f, "fd://{fd}"),
        }
    }
}

impl BindAddress {
    /// Reads one `bind` item. A bare path is taken for a host name, as Gunicorn does; `unix:` makes it a path.
    ///
    /// # Errors
    /// A port outside 0..65535, a descriptor that is no number, an empty path or one with a NUL byte, or an
    /// IPv6 literal without brackets.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        let fail = |fault: String| BadAddress { text: text.to_owned(), fault };
        if let Some(rest) = text.strip_prefix("unix:") {
            return unix(rest.strip_prefix("//").unwrap_or(rest)).map_err(|fault| fail(fault.to_owned()));
        }
        if let Some(number) = text.strip_prefix("fd://") {
            let fd = number.parse().ok().filter(|fd| i32::try_from(*fd).is_ok());
            return fd
                .map(Self::Fd)
                .ok_or_else(|| fail(format!("{} is no file descriptor", python_repr(number))));
        }
        let text = text.strip_prefix("tcp://").unwrap_or(text);
        let (host, port) = host_and_port(text, PORT_DEFAULT).map_err(fail)?;
        let host = if host.is_empty() { "0.0.0.0".to_owned() } else { host.to_lowercase() };
        Ok(Self::Tcp { host, port })
    }
}

/// Checks the address of a statsd server: HOST:PORT, HOST, [IPV6]:PORT, unix:PATH or unix://PATH.
///
/// # Errors
/// The reason for which it is none.
pub(super) fn check_statsd(text: &str) -> Result<(), String> {
    let checked = match text.strip_prefix("unix:") {
        // A host of that name, as under Gunicorn.
        Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            parse_port(port).map(drop)
        }
        Some(rest) => unix(rest.strip_prefix("//").unwrap_or(rest)).map(drop).map_err(str::to_owned),
        None => datagram(text),
    };
    checked.map_err(|fault| {
        format!(
            "{} is no address: {fault} (allowed: HOST:PORT, HOST, [IPV6]:PORT, unix:PATH, unix://PATH)",
            python_repr(text)
        )
    })
}

/// Checks an address to which metrics go over UDP.
fn datagram(text: &str) -> Result<(), String> {
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("{} is no scheme of a statsd server", python_repr(scheme)));
    }
    match host_and_port(text, STATSD_PORT_DEFAULT)? {
        ("", _) => Err("the host is missing".to_owned()),
        (_, 0) => Err("there is no port 0".to_owned()),
        _ => Ok(()),
    }
}

fn unix(path: &str) -> Result<BindAddress, &'static str> {
    match path.strip_prefix('\0') {
        Some(name) => Ok(BindAddress::Abstract(name.to_owned())),
        None if path.is_empty() => Err("the path is empty"),
        None if path.contains('\0') => Err("the path contains a NUL byte"),
        None => Ok(BindAddress::Unix(path.to_owned())),
    }
}

fn host_and_port(text: &str, default: u16) -> Result<(&str, u16), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, parse_port(port)?)),
            None if rest.is_empty() => Ok((host, default)),
            None => Err(format!("{} after the bracket", python_repr(rest))),
        };
    }
    match text.split_once(':') {
        None => Ok((text, default)),
        Some((_, port)) if port.contains(':') => Err("an IPv6 address needs brackets".to_owned()),
        Some((host, port)) => Ok((host, parse_port(port)?)),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| format!("{} is no port (0 to 65535)", python_repr(text)))
}
