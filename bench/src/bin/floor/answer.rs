//! The bytes of the answers, made once a second, as their dates change.

use bytes::Bytes;
use rgunicorn_http::{DateCache, ResponseFacts, ResponseHead, Version};

/// The body of the hello application of the benches.
pub(crate) const HELLO: &[u8] = b"Hello, world!";
/// A larger body is sent from where it lies, as rgunicorn does it, and not copied behind the head.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// The answers of one second: one that keeps its connection and one that closes it.
#[derive(Debug)]
pub(crate) struct Answers {
    body: Bytes,
    dates: DateCache,
    second: u64,
    keeping: Vec<u8>,
    closing: Vec<u8>,
}

impl Answers {
    /// Makes answers with a body of so many bytes.
    pub(crate) fn new(body_bytes: usize) -> Self {
        let body: Vec<u8> = HELLO.iter().copied().cycle().take(body_bytes).collect();
        let dates = DateCache::new();
        let mut this = Self { body: body.into(), dates, second: 0, keeping: Vec::new(), closing: Vec::new() };
        this.render();
        this
    }

    /// Learns the time, in seconds since the epoch.
    pub(crate) fn tick(&mut self, second: u64) {
        if second != self.second {
            self.second = second;
            self.render();
        }
    }

    /// Returns the head of an answer, with the body behind it if that is small.
    pub(crate) fn head(&self, keep_alive: bool) -> &[u8] {
        if keep_alive { &self.keeping } else { &self.closing }
    }

    /// Returns the body, if it is not behind the head.
    pub(crate) fn apart(&self) -> Option<Bytes> {
        (self.body.len() > COPIED_BYTES_MAX).then(|| self.body.clone())
    }

    fn render(&mut self) {
        self.keeping = self.rendered(true);
        self.closing = self.rendered(false);
    }

    fn rendered(&mut self, keep_alive: bool) -> Vec<u8> {
        let mut head = ResponseHead::new();
        let length = self.body.len().to_string();
        let fields = [("Content-Type", "text/plain"), ("Content-Length", length.as_str())];
        let mut taken = head.status(b"200 OK").is_ok();
        for (name, value) in fields {
            taken &= head.header(name.as_bytes(), value.as_bytes()).is_ok();
        }
        debug_assert!(taken, "they are a status, names and values");
        let facts =
            ResponseFacts { version: Version::HTTP_11, head_request: false, connect: false, keep_alive };
        let mut out = Vec::new();
        head.finish(&facts, b"rgunicorn", self.dates.at(self.second), &mut out);
        if self.apart().is_none() {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_that_of_the_hello_application() {
        let mut answers = Answers::new(HELLO.len());
        answers.tick(784_111_777);
        let expected = "HTTP/1.1 200 OK\r\nServer: rgunicorn\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                        Connection: keep-alive\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n\
                        Hello, world!";
        assert_eq!(String::from_utf8_lossy(answers.head(true)), expected);
        let closing = expected.replace("keep-alive", "close");
        assert_eq!(String::from_utf8_lossy(answers.head(false)), closing);
        assert_eq!(answers.apart(), None);
    }

    #[test]
    fn a_large_body_is_apart() {
        let answers = Answers::new(100_000);
        assert!(answers.head(true).ends_with(b"Content-Length: 100000\r\n\r\n"));
        assert_eq!(answers.apart().map(|body| body.len()), Some(100_000));
    }
}
