//! Tests of the logs, by question.

mod access;
mod errors;
mod exclude;
mod formats;
mod json;
mod record_queue;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{AtomSource, AtomText};

/// A directory of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rgunicorn-logging-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// A request whose every atom can be told from the others.
#[derive(Clone)]
struct Request {
    raw_uri: Vec<u8>,
    path: Vec<u8>,
    query: Vec<u8>,
    user_agent: Option<Vec<u8>>,
    authorization: Option<Vec<u8>>,
    status: u16,
    bytes_sent: Option<u64>,
    elapsed: Duration,
    unix_time: Duration,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            raw_uri: b"/a%20b?x=\"1\"".to_vec(),
            path: b"/a b\xe9".to_vec(),
            query: b"x=\"1\"".to_vec(),
            user_agent: Some(b"Mozilla \"5.0\" \xfc".to_vec()),
            // zoë "z", the colon and a password.
            authorization: Some(b"Basic em/DqyAieiI6cGFzcw==".to_vec()),
            status: 200,
            bytes_sent: Some(1234),
            elapsed: Duration::from_micros((86_400 + 3725) * 1_000_000 + 45_678),
            unix_time: Duration::from_secs(1_795_334_501),
        }
    }
}

impl AtomSource for Request {
    fn remote_addr(&self) -> &[u8] {
        b"192.0.2.7"
    }
    fn method(&self) -> &[u8] {
        b"GET"
    }
    fn raw_uri(&self) -> &[u8] {
        &self.raw_uri
    }
    fn protocol(&self) -> &[u8] {
        b"HTTP/1.1"
    }
    fn path_info(&self) -> &[u8] {
        &self.path
    }
    fn query(&self) -> &[u8] {
        &self.query
    }
    fn status(&self) -> u16 {
        self.status
    }
    fn bytes_sent(&self) -> Option<u64> {
        self.bytes_sent
    }
    fn request_header(&self, name: &str) -> Option<&[u8]> {
        match name {
            "authorization" => self.authorization.as_deref(),
            "host" => Some(b"example.org"),
            "user-agent" => self.user_agent.as_deref(),
            "referer" => Some(b"r2"),
            "x-q" => Some(b"\""),
            "x}y" => Some(b"brace"),
            _ => None,
        }
    }
    fn joined_request_header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let joined = (name == "referer").then_some(&b"r1,r2"[..]);
        joined.or_else(|| self.request_header(name)).map(Cow::Borrowed)
    }
    fn response_header(&self, name: &str) -> Option<&[u8]> {
        (name == "content-type").then_some(b"text/plain")
    }
    fn environ(&self, name: &str) -> Option<AtomText<'_>> {
        (name == "wsgi.url_scheme").then_some(AtomText::Utf8(Cow::Borrowed("http")))
    }
    fn elapsed(&self) -> Duration {
        self.elapsed
    }
    fn unix_time(&self) -> Duration {
        self.unix_time
    }
    fn pid(&self) -> u32 {
        77
    }
}
