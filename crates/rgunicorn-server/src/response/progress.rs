//! How far one response is.

use std::sync::OnceLock;

use rgunicorn_http::{Framing, ResponseFacts, ResponseHead};

use super::pieces::{BodyItem, COPIED_ITEM_BYTES_MAX, Pieces};

/// The `Server` header's value, unless the configuration has another one.
const SERVER_NAME: &[u8] = b"rgunicorn";
/// The configuration's value.
static OWN_SERVER_NAME: OnceLock<Vec<u8>> = OnceLock::new();

/// Makes `name` the value of the `Server` header, once per process. A name that is no header value is not
/// taken.
pub fn set_server_name(name: &str) {
    if !name.is_empty() && name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        let _ = OWN_SERVER_NAME.set(name.as_bytes().to_vec());
    }
}

/// Returns the value of the `Server` header.
pub fn server_name() -> &'static [u8] {
    OWN_SERVER_NAME.get().map_or(SERVER_NAME, Vec::as_slice)
}

/// The worker's word about a response at the moment its head is made.
#[derive(Clone, Copy, Debug)]
pub struct HeadContext {
    /// The connection may serve another request after this one.
    pub keep_alive: bool,
    /// The `Date` header's value.
    pub date: [u8; 29],
}

/// The state of one response.
#[derive(Debug)]
pub struct Response {
    facts: ResponseFacts,
    head: ResponseHead,
    /// `start_response` was called (and not taken back by an error).
    started: bool,
    /// The framing of the body, once the head has been made into bytes.
    framing: Option<Framing>,
    /// Body bytes given to the connection, without chunk framing.
    sent_bytes: u64,
    /// Body bytes were dropped because the response may have none.
    dropped_body: bool,
    /// Nothing may be added any more: the connection may already carry the next response.
    over: bool,
}

impl Response {
    /// Makes a response that has not begun.
    #[must_use]
    pub fn new(facts: ResponseFacts) -> Self {
        Self {
            facts,
            head: ResponseHead::new(),
            started: false,
            framing: None,
            sent_bytes: 0,
            dropped_body: false,
            over: false,
        }
    }

    /// Begins anew for another request, and keeps the memory.
    pub fn reset(&mut self, facts: ResponseFacts) {
        self.facts = facts;
        self.head.clear();
        self.started = false;
        self.framing = None;
        self.sent_bytes = 0;
        self.dropped_body = false;
        self.over = false;
    }

    /// Takes the head out, to fill it where the response may not be held; [`Self::start`] or
    /// [`Self::put_head`] puts it back.
    pub fn take_head(&mut self) -> ResponseHead {
        std::mem::take(&mut self.head)
    }

    /// Puts a head back.
    pub fn put_head(&mut self, head: ResponseHead) {
        self.head = head;
    }

    /// Puts the head back that `start_response` has filled. `complete`: it may be sent.
    pub fn start(&mut self, head: ResponseHead, complete: bool) {
        self.head = head;
        self.started = complete;
    }

    /// Returns whether `start_response` was called.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// Returns whether the head has been made into bytes; nothing of it can change any more.
    #[must_use]
    pub fn is_head_sent(&self) -> bool {
        self.framing.is_some()
    }

    /// Ends it: nothing may be added any more.
    pub fn close(&mut self) {
        self.over = true;
    }

    /// Returns whether it is complete, or will never be.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.over
    }

    /// Returns the application's status and header fields.
    #[must_use]
    pub fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// Returns how many body bytes were given to the connection, without chunk framing.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Appends the head, if it has not left yet.
    fn begin(&mut self, context: impl FnOnce() -> HeadContext, pieces: &mut Pieces) {
        if self.framing.is_none() && self.started {
            let context = context();
            let facts =
                ResponseFacts { keep_alive: self.facts.keep_alive && context.keep_alive, ..self.facts };
            self.framing = Some(self.head.finish(&facts, server_name(), &context.date, pieces.tail()));
        }
    }

    /// Appends one item of the body, and the head before it if that has not left; only then is `context`
    /// asked. `false`: there is no head, because the application has not called `start_response`.
    pub fn append<I: BodyItem + ?Sized>(
        &mut self,
        context: impl FnOnce() -> HeadContext,
        pieces: &mut Pieces,
        item: &I,
    ) -> bool {
        let data = item.bytes();
        if data.is_empty() {
            return true;
        }
        self.begin(context, pieces);
        let Some(framing) = &mut self.framing else {
            return false;
        };
        let frame = framing.frame(data.len());
        if frame.take == 0 {
            self.dropped_body |= !framing.body_allowed();
            return true;
        }
        self.sent_bytes += frame.take as u64;
        let tail = pieces.tail();
        tail.extend_from_slice(frame.prefix.as_bytes());
        if frame.take <= COPIED_ITEM_BYTES_MAX {
            tail.extend_from_slice(&data[..frame.take]);
        } else {
            pieces.push_shared(item.share().slice(..frame.take));
        }
        pieces.tail().extend_from_slice(frame.suffix);
        true
    }

    /// Appends the head and the framing of a file's part of `rest` bytes. Returns how many of them to send
    /// and what follows them.
    pub fn append_file(
        &mut self,
        context: impl FnOnce() -> HeadContext,
        pieces: &mut Pieces,
        rest: u64,
    ) -> (u64, Vec<u8>) {
        self.begin(context, pieces);
        let Some(framing) = &mut self.framing else {
            return (0, Vec::new());
        };
        let frame = framing.frame(usize::try_from(rest).unwrap_or(usize::MAX));
        let len = frame.take as u64;
        pieces.tail().extend_from_slice(frame.prefix.as_bytes());
        self.sent_bytes += len;
        let mut suffix = frame.suffix.to_vec();
        suffix.extend_from_slice(framing.last());
        (len, suffix)
    }

    /// Appends what ends the response: the head if there was no body, and the last chunk. `false` as
    /// [`Self::append`].
    pub fn end(&mut self, context: impl FnOnce() -> HeadContext, pieces: &mut Pieces) -> bool {
        self.begin(context, pieces);
        if let Some(framing) = &mut self.framing {
            pieces.tail().extend_from_slice(framing.last());
        }
        self.framing.is_some()
    }

    /// Returns whether the body is sent in chunks.
    #[must_use]
    pub fn is_chunked(&self) -> bool {
        self.framing.as_ref().is_some_and(Framing::is_chunked)
    }

    /// Returns whether the connection may serve another request.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        self.framing.as_ref().is_some_and(|framing| framing.keep_alive() && framing.complete())
    }

    /// Returns what the application did wrong without an exception, for the log.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        if self.framing.as_ref().is_some_and(|framing| !framing.complete()) {
            return Some("the body is shorter than its Content-Length; closing the connection".to_owned());
        }
        // HEAD is often answered with the body of GET; that is no fault.
        (self.dropped_body && !self.facts.head_request)
            .then(|| format!("the body was dropped, a {} response has none", self.head.status_code()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::response::Outgoing;
    use rgunicorn_http::Version;

    struct Item(Vec<u8>);

    impl BodyItem for Item {
        fn bytes(&self) -> &[u8] {
            &self.0
        }
        fn share(&self) -> Bytes {
            Bytes::from(self.0.clone())
        }
    }

    const FACTS: ResponseFacts =
        ResponseFacts { version: Version::HTTP_11, head_request: false, connect: false, keep_alive: true };

    fn context(keep_alive: bool) -> HeadContext {
        HeadContext { keep_alive, date: *b"Mon, 30 Nov 2026 06:00:00 GMT" }
    }

    fn started(fields: &[(&[u8], &[u8])]) -> Response {
        let mut response = Response::new(FACTS);
        let mut head = response.take_head();
        head.status(b"200 OK").unwrap();
        fields.iter().for_each(|(name, value)| head.header(name, value).unwrap());
        response.start(head, true);
        response
    }

    fn text(pieces: Pieces) -> String {
        let (ready, tail) = pieces.into_parts();
        let mut all = Vec::new();
        for piece in ready {
            let Outgoing::Bytes { head, body } = piece else { panic!("bytes only") };
            all.extend_from_slice(&head);
            all.extend_from_slice(&body);
        }
        all.extend_from_slice(&tail);
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn a_response_without_start_response_has_no_bytes() {
        let mut response = Response::new(FACTS);
        let mut pieces = Pieces::new(Vec::new());
        assert!(!response.append(|| context(true), &mut pieces, &Item(b"x".to_vec())));
        assert!(!response.end(|| context(true), &mut pieces));
        assert!(pieces.is_empty() && !response.is_head_sent());
    }

    #[test]
    fn the_worker_has_the_last_word_about_keep_alive() {
        for (willing, header) in [(true, "Connection: keep-alive"), (false, "Connection: close")] {
            let mut response = started(&[(b"Content-Length", b"2")]);
            let mut pieces = Pieces::new(Vec::new());
            assert!(response.append(|| context(willing), &mut pieces, &Item(b"ok".to_vec())));
            assert!(response.end(|| panic!("asked once"), &mut pieces));
            let text = text(pieces);
            assert!(text.contains(header) && text.ends_with("\r\n\r\nok"), "{text}");
            assert_eq!((response.keeps_alive(), response.sent_bytes()), (willing, 2));
        }
    }

    #[test]
    fn large_items_are_shared_and_small_ones_copied() {
        let mut response = started(&[]);
        let mut pieces = Pieces::new(Vec::new());
        response.append(|| context(true), &mut pieces, &Item(vec![b'a'; COPIED_ITEM_BYTES_MAX]));
        assert!(!pieces.has_foreign() && !pieces.is_large());
        response.append(|| context(true), &mut pieces, &Item(vec![b'b'; COPIED_ITEM_BYTES_MAX + 1]));
        assert!(pieces.has_foreign() && pieces.is_large());
        assert!(response.end(|| context(true), &mut pieces) && response.is_chunked());
        assert!(text(pieces).ends_with("b\r\n0\r\n\r\n"));
    }

    #[test]
    fn faults_of_the_application_are_told_once_it_has_ended() {
        let mut short = started(&[(b"Content-Length", b"3")]);
        let mut pieces = Pieces::new(Vec::new());
        short.append(|| context(true), &mut pieces, &Item(b"ok".to_vec()));
        assert!(short.fault().is_some_and(|fault| fault.contains("Content-Length")) && !short.keeps_alive());
        let mut empty = Response::new(FACTS);
        let mut head = empty.take_head();
        head.status(b"204 No Content").unwrap();
        empty.start(head, true);
        empty.append(|| context(true), &mut Pieces::new(Vec::new()), &Item(b"body".to_vec()));
        assert!(empty.fault().is_some_and(|fault| fault.contains("204")));
    }
}
