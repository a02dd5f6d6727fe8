//! The command line, and the bounds that keep a slip of the finger from hurting anyone.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// More than one process can have open files for on most machines.
const CONNECTIONS_MAX: i64 = 100_000;
/// Within 127.0.0.0/8, with all that follow.
const SOURCE_MAX: i64 = 1_000_000;
/// Far above what one thread can send.
const RATE_MAX: i64 = 1_000_000;
/// More requests in one write than any server is asked by a browser.
const PIPELINE_MAX: i64 = 1_024;
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;
const DURATION_S_MAX: f64 = 3_600.0;

/// Loads a server on this machine with HTTP/1.1 requests over keep-alive connections.
///
/// Progress goes to stderr once a second, one JSON object to stdout at the end. The status is 0 when every request
/// was answered, 1 when there were errors, 2 for a wrong command line.
///
/// Each connection is an open file. Where the limit of one process is too low, several processes share the
/// connections: one makes the requests, others hold idle crowds (-c 0 --idle N).
#[derive(Clone, Debug, Parser)]
#[command(name = "loadgen", version)]
pub(crate) struct Args {
    /// http://127.0.0.1:8000/path, http://[::1]:8000/path or unix:/run/app.sock (the path is then --path).
    #[arg(value_parser = target)]
    pub target: Target,
    /// Path of a unix target's requests.
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Connections kept open side by side, which ask; 0 only beside idle ones.
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=CONNECTIONS_MAX))]
    pub connections: u32,
    /// As many more connections that ask once, before the run begins, and are only kept open after that.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=CONNECTIONS_MAX))]
    pub idle: u32,
    /// Seconds after which the run ends.
    #[arg(short, long, default_value = "10", value_name = "S", value_parser = seconds)]
    pub duration: Duration,
    /// End after so many answered requests, if that is earlier.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,
    /// Open the connections evenly over so many seconds.
    #[arg(long, default_value = "0", value_name = "S", value_parser = seconds)]
    pub ramp: Duration,
    /// Seconds between the starts of two requests of a connection; 0 sends the next one at once. Latencies are then
    /// taken from the planned start, so that a slow server cannot hide behind requests that were never sent.
    #[arg(long, default_value = "0", value_name = "S", value_parser = seconds)]
    pub interval: Duration,
    /// The first address that connections come from, counted from 127.0.0.1; each has 10,000 of them. Several processes
    /// that hold crowds at one server begin at different ones: 0, 2, 4.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=SOURCE_MAX))]
    pub source: u32,
    /// Open loop: so many requests are due each second, evenly, whether or not earlier ones were answered. Each is sent
    /// on a connection that is free, or waits for one. Latencies are taken from the moment at which it was due.
    #[arg(long, value_name = "N", conflicts_with_all = ["interval", "pipeline", "close", "ramp"],
          value_parser = clap::value_parser!(u32).range(1..=RATE_MAX))]
    pub rate: Option<u32>,
    /// Send so many requests in one write, and the next ones when all are answered.
    #[arg(long, default_value_t = 1, value_name = "N", conflicts_with = "close",
          value_parser = clap::value_parser!(u32).range(1..=PIPELINE_MAX))]
    pub pipeline: u32,
    /// Seconds until a request without an answer counts as an error and its connection is replaced.
    #[arg(long, default_value = "10", value_name = "S", value_parser = seconds)]
    pub timeout: Duration,
    /// Send POST requests with a body of so many bytes instead of GET.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(0..=BODY_BYTES_MAX))]
    pub body_bytes: Option<u64>,
    /// A header of every request, "Name: value"; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header)]
    pub headers: Vec<String>,
    /// Ask the server to close after every request: one connection per request.
    #[arg(long)]
    pub close: bool,
    /// Print "started" when all connections are open and the run begins, for a caller who takes the time.
    #[arg(long)]
    pub announce: bool,
    /// No progress lines.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Where the requests go: this machine, always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Address, and the path with its query.
    Tcp(SocketAddr, String),
    /// A unix socket in the file system.
    Unix(PathBuf),
}

impl Args {
    /// Returns how many connections there are in all, each of them an open file.
    pub(crate) fn files(&self) -> u32 {
        self.connections.saturating_add(self.idle)
    }

    /// Renders the bytes of the one request that every connection repeats.
    pub(crate) fn request(&self) -> Vec<u8> {
        let (path, host) = match &self.target {
            Target::Tcp(address, path) => (path.as_str(), address.to_string()),
            Target::Unix(_) => (self.path.as_str(), "localhost".to_owned()),
        };
        let method = if self.body_bytes.is_some() { "POST" } else { "GET" };
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        for header in self.headers.iter().map(String::as_str).chain(self.close.then_some("Connection: close"))
        {
            request.push_str(header);
            request.push_str("\r\n");
        }
        if let Some(length) = self.body_bytes {
            request.push_str(&format!("Content-Length: {length}\r\n"));
        }
        request.push_str("\r\n");
        let body = usize::try_from(self.body_bytes.unwrap_or(0)).unwrap_or(0); // at most BODY_BYTES_MAX
        let mut request = request.into_bytes();
        request.resize(request.len() + body, b'x');
        request
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.0..=DURATION_S_MAX).contains(&seconds) {
        return Err(format!("must be between 0 and {DURATION_S_MAX} seconds"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn header(text: &str) -> Result<String, String> {
    let clean =
        !text.contains(['\r', '\n']) && text.split_once(':').is_some_and(|(name, _)| !name.is_empty());
    if clean { Ok(text.to_owned()) } else { Err("must be one line 'Name: value'".to_owned()) }
}

/// Reads a target and refuses every address that is not this machine's: a load generator must not be aimed at
/// others by accident.
fn target(text: &str) -> Result<Target, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() {
            Err("unix: needs a path".to_owned())
        } else {
            Ok(Target::Unix(path.into()))
        };
    }
    let rest = text.strip_prefix("http://").ok_or("must start with http:// or unix:")?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = authority.rsplit_once(':').ok_or("needs a port, as in http://127.0.0.1:8000/")?;
    let port: u16 = port.parse().map_err(|_| format!("'{port}' is not a port"))?;
    let address: IpAddr = match host.trim_start_matches('[').trim_end_matches(']') {
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        literal => literal.parse().map_err(|_| format!("'{host}' is neither an IP address nor localhost"))?,
    };
    if !address.is_loopback() {
        return Err(format!("{address} is not a loopback address; only this machine may be loaded"));
    }
    Ok(Target::Tcp(SocketAddr::new(address, port), path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        let words = std::iter::once("loadgen").chain(line.split_whitespace());
        Args::try_parse_from(words).map_err(|error| error.to_string())
    }

    #[test]
    fn targets_on_this_machine_are_taken() {
        let tcp = |address: &str, path: &str| Target::Tcp(address.parse().unwrap(), path.to_owned());
        let table = [
            ("http://127.0.0.1:80/a?b=/c", tcp("127.0.0.1:80", "/a?b=/c")),
            ("http://127.9.9.9:80", tcp("127.9.9.9:80", "/")),
            ("http://[::1]:8000/", tcp("[::1]:8000", "/")),
            ("http://localhost:8000/", tcp("127.0.0.1:8000", "/")),
            ("unix:/tmp/x", Target::Unix("/tmp/x".into())),
        ];
        for (text, expected) in table {
            assert_eq!(target(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        let table = [
            ("http://192.0.2.1:80/", "not a loopback address"),
            ("http://[2001:db8::1]:80/", "not a loopback address"),
            ("http://0.0.0.0:80/", "not a loopback address"),
            ("http://example.org:80/", "neither an IP address"),
            ("http://127.0.0.1/", "needs a port"),
            ("https://127.0.0.1:80/", "must start with"),
            ("http://127.0.0.1:80 -c 100001", "100001 is not in"),
            ("http://127.0.0.1:80 -d 3601", "between 0 and"),
            ("http://127.0.0.1:80 -d NaN", "between 0 and"),
            ("http://127.0.0.1:80 -H nonsense", "Name: value"),
            ("http://127.0.0.1:80 --rate 1000 --pipeline 16", "cannot be used with"),
            ("http://127.0.0.1:80 --rate 0", "0 is not in"),
            ("unix:", "needs a path"),
        ];
        for (line, reason) in table {
            let error = parse(line).expect_err(line);
            assert!(error.contains(reason), "{line}: {error}");
        }
    }

    #[test]
    fn the_request_is_complete() {
        let get = parse("unix:/tmp/x --path /a -H X:1 --close").unwrap().request();
        assert_eq!(get, b"GET /a HTTP/1.1\r\nHost: localhost\r\nX:1\r\nConnection: close\r\n\r\n");
        let post = parse("http://127.0.0.1:80/ --body-bytes 3").unwrap().request();
        assert_eq!(post, b"POST / HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Length: 3\r\n\r\nxxx");
    }
}
