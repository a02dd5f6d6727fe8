//! A finished request head.

use std::ops::Range;

use super::block::{Block, FIELDS_ON_STACK, FieldCheck, Fields, rewrite};
use super::error::HttpError;
use super::line::RequestLine;
use super::policy::{HeadLimits, Policy};
use super::rules::{BodyKind, HeadFacts, Scheme};
use super::section::SectionRepeat;
use super::target;
use super::version::Version;

/// Offsets into the head's text, which is shorter than [`HeadLimits::HEAD_BYTES_CAP`].
type Span = (u32, u32);

/// A request head that passed every rule. It owns its bytes in one allocation, and every getter is a slice of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    block: Block,
    method_len: u32,
    target: Span,
    authority: Span,
    path: Span,
    query: Span,
    fragment: Span,
    version: Version,
    body: BodyKind,
    facts: HeadFacts,
    /// See [`RequestHead::section`].
    section: usize,
    /// See [`RequestHead::whole`].
    whole: usize,
}

impl RequestHead {
    /// Tries to read a whole head from the front of `input`, in one pass of httparse and one of ours. `None`
    /// means only that this way did not succeed (incomplete, invalid or unusual): the scanner then finds out
    /// why.
    pub(super) fn parse_fast(
        policy: &Policy,
        trusted: bool,
        input: &[u8],
        sections: Option<&mut SectionRepeat>,
    ) -> Option<Self> {
        if policy.rewrites() {
            return None;
        }
        let line_end = memchr::memchr(b'\n', input)?;
        let mut scratch = [httparse::EMPTY_HEADER; FIELDS_ON_STACK];
        Self::parse(policy, trusted, input, line_end, &mut scratch, sections).ok()
    }

    /// Reads a head of which the scanner has found that it is complete and has `fields` field lines.
    ///
    /// # Errors
    /// The fault of the head.
    pub(super) fn parse_scanned(
        policy: &Policy,
        trusted: bool,
        text: &[u8],
        fields: usize,
    ) -> Result<Self, HttpError> {
        let line_end = memchr::memchr(b'\n', text).ok_or(HttpError::RequestLine)?;
        let rewritten = policy.rewrites().then(|| rewrite(text, line_end + 1, policy));
        let mut scratch = vec![httparse::EMPTY_HEADER; fields];
        Self::parse(policy, trusted, rewritten.as_deref().unwrap_or(text), line_end, &mut scratch, None)
    }

    /// Makes a head of what can be read of one that is refused: its request line, if that is valid, else at most the
    /// method. What is not known is `-`.
    pub(super) fn of_refused(policy: &Policy, text: &[u8]) -> Self {
        let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(request_line) = RequestLine::parse(line, policy) else {
            return Self::unread_with(RequestLine::method(line, policy).unwrap_or(b"-"));
        };
        let RequestLine { method_len, target_len, .. } = request_line;
        let target = &line[method_len + 1..][..target_len];
        let parts = target::split(target).unwrap_or_else(|_| target::Parts::only_path(target_len));
        let mut block = Block::bare(line.to_vec());
        if policy.casefold_http_method {
            block.make_uppercase(method_len);
        }
        Self::new(block, request_line, parts, HeadFacts::default(), BodyKind::None)
    }

    /// Counts the memory that its text and its fields take.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.block.held_bytes()
    }

    /// Makes the head of a request of which nothing is known.
    #[must_use]
    pub fn unread() -> Self {
        Self::unread_with(b"-")
    }

    fn unread_with(method: &[u8]) -> Self {
        let line = RequestLine { method_len: method.len(), target_len: 1, version: Version::HTTP_11 };
        let parts = target::Parts::only_path(line.target_len);
        let block = Block::bare([method, b" - -"].concat());
        Self::new(block, line, parts, HeadFacts::default(), BodyKind::None)
    }

    fn parse<'a>(
        policy: &Policy,
        trusted: bool,
        text: &'a [u8],
        line_end: usize,
        scratch: &mut [httparse::Header<'a>],
        mut sections: Option<&mut SectionRepeat>,
    ) -> Result<Self, HttpError> {
        let line = text[..line_end].strip_suffix(b"\r").ok_or(HttpError::BareLineFeed)?;
        if line.len() > policy.limits.request_line_bytes_max {
            return Err(HttpError::RequestLineTooLong);
        }
        let request_line = RequestLine::parse(line, policy)?;
        let RequestLine { method_len, target_len, version } = request_line;
        let target_start = method_len + 1;
        let parts = target::split(&line[target_start..target_start + target_len])?;
        let fields_at = line_end + 1;
        let known = sections.as_deref().and_then(|sections| sections.find(trusted, &text[fields_at..]));
        let (mut block, facts, section) = if let Some(known) = known {
            let text = &text[..fields_at + known.text_len()];
            (Block::known(text, known.spans(fields_at)), known.facts, known.stamp)
        } else {
            let limits = limits_of_parse(policy);
            let mut facts = HeadFacts::default();
            let judge = |field: FieldCheck<'_>| facts.field(field, policy, trusted);
            let block = Block::parse(text, fields_at, scratch, &limits, judge)?;
            if let Some(sections) = &mut sections {
                sections.see(trusted, block.text(), fields_at, block.spans(), facts);
            }
            (block, facts, 0)
        };
        let body = facts.body(version)?;
        facts.check_complete(version)?;
        if !parts.authority.is_empty() {
            // RFC 9112 3.2.2: an absolute target overrules the Host field.
            block.point_value("host", target_start + parts.authority.start, parts.authority.len());
        }
        if policy.casefold_http_method {
            block.make_uppercase(method_len);
        }
        Ok(Self { section, ..Self::new(block, request_line, parts, facts, body) })
    }

    fn new(block: Block, line: RequestLine, parts: target::Parts, facts: HeadFacts, body: BodyKind) -> Self {
        let start = line.method_len + 1;
        let span = |range: Range<usize>| ((start + range.start) as u32, (start + range.end) as u32);
        Self {
            block,
            method_len: line.method_len as u32,
            target: span(0..line.target_len),
            authority: span(parts.authority),
            path: span(parts.path),
            query: span(parts.query),
            fragment: span(parts.fragment),
            version: line.version,
            body,
            facts,
            section: 0,
            whole: 0,
        }
    }

    /// Returns it with a stamp for [`whole`](Self::whole).
    pub(super) fn stamped(self, whole: usize) -> Self {
        Self { whole, ..self }
    }

    fn slice(&self, (start, end): Span) -> &[u8] {
        &self.block.text()[start as usize..end as usize]
    }

    /// Returns its text, to the empty line: as it came, or as a policy has it rewritten. The same policy makes the same
    /// head of it.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.block.text()
    }

    /// Returns how many bytes the head took from the wire. Not asked of rewritten heads.
    pub(super) fn wire_len(&self) -> usize {
        self.block.text().len()
    }

    /// Returns the method, a token, upper-cased when the policy says so.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        &self.block.text()[..self.method_len as usize]
    }

    /// Returns the request target exactly as sent (`RAW_URI`).
    #[must_use]
    pub fn target(&self) -> &[u8] {
        self.slice(self.target)
    }

    /// Returns the host, and perhaps the port, that the request is for: of an absolute target, else of the `Host`
    /// field.
    #[must_use]
    pub fn host(&self) -> Option<&[u8]> {
        self.absolute_host().or_else(|| self.header(b"host"))
    }

    /// Returns the host, and perhaps the port, that an absolute target names; `None` for the other forms. A `Host`
    /// field has got this value; in HTTP/1.0 there may be none.
    #[must_use]
    pub fn absolute_host(&self) -> Option<&[u8]> {
        Some(self.slice(self.authority)).filter(|authority| !authority.is_empty())
    }

    /// Returns the path as sent, before percent-decoding: of the absolute form the part behind the authority
    /// (may be empty), `*` for `OPTIONS *`, and empty for CONNECT. See
    /// [`percent_decode_path`](super::percent_decode_path).
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.slice(self.path)
    }

    /// Returns the part behind the first `?`; empty when there is none.
    #[must_use]
    pub fn query(&self) -> &[u8] {
        self.slice(self.query)
    }

    /// Returns the part behind the first `#`; empty when there is none. RFC 9112 3.2 forbids it, Gunicorn
    /// takes it.
    #[must_use]
    pub fn fragment(&self) -> &[u8] {
        self.slice(self.fragment)
    }

    /// Returns the version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the version as sent, such as `HTTP/1.1` (`SERVER_PROTOCOL`); `-` of a request that could not be read.
    #[must_use]
    pub fn version_text(&self) -> &[u8] {
        let text = &self.block.text()[self.target.1 as usize + 1..];
        text.get(..b"HTTP/1.1".len()).unwrap_or(text)
    }

    /// Returns the fields in order, after the rules for names with `_`.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        self.block.fields()
    }

    /// Returns the stamp of the field section, if it is one of [`Repeats`](super::Repeats): heads with the same one
    /// have the same fields, but for the `Host` of an absolute target, and the same scheme. 0: nothing is known.
    #[must_use]
    pub fn section(&self) -> usize {
        self.section
    }

    /// Returns the stamp of the whole head, if it is one of [`Repeats`](super::Repeats): heads with the same one are
    /// equal. 0: nothing is known.
    #[must_use]
    pub fn whole(&self) -> usize {
        self.whole
    }

    /// Returns the value of the first field of this name, whatever the case.
    #[must_use]
    pub fn header(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let name = name.as_ref();
        self.fields().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Returns how the body is framed.
    #[must_use]
    pub fn body(&self) -> BodyKind {
        self.body
    }

    /// Returns whether the client waits for [`continue_response`](super::continue_response) before it sends
    /// the body (RFC 9110 10.1.1). False for HTTP/1.0, where the field means nothing.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.facts.expects_continue && self.version > Version::HTTP_10
    }

    /// Returns whether the client wants to keep the connection (RFC 9112 9.3): all `Connection` fields are
    /// read as one list of options, `close` wins, HTTP/1.0 needs `keep-alive`. See also
    /// [`close_after`](Self::close_after).
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        !self.facts.close
            && (self.version > Version::HTTP_10 || self.version == Version::HTTP_10 && self.facts.keep_alive)
    }

    /// Returns whether the connection cannot be used again whatever the client asked: after CONNECT, and
    /// after a body with a transfer coding besides `chunked`.
    #[must_use]
    pub fn close_after(&self) -> bool {
        self.facts.coded() || self.is_connect()
    }

    /// Returns whether the method is CONNECT.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.method() == b"CONNECT"
    }

    /// Returns the scheme that a trusted peer named in one of the `secure_scheme_headers`; `None` when it
    /// named none or is not trusted.
    #[must_use]
    pub fn scheme(&self) -> Option<Scheme> {
        self.facts.scheme
    }

    /// Returns the value of the last `SCRIPT_NAME` field that the policy let pass, without slashes at its end.
    #[must_use]
    pub fn script_name(&self) -> Option<&[u8]> {
        if !self.facts.underscored {
            return None;
        }
        self.fields()
            .filter(|field| field.name.eq_ignore_ascii_case(b"SCRIPT_NAME"))
            .last()
            .map(|field| trim_script_name(field.value))
    }

    /// Returns the path behind `script_name`, which ends in no slash, not decoded: PATH_INFO is made of it. The two are
    /// compared byte by byte, as sent.
    ///
    /// # Errors
    /// [`HttpError::ScriptName`] when the path does not lie under it: PATH_INFO is empty or begins with a slash (RFC
    /// 3875 4.1.5, on which PEP 3333 builds).
    pub fn path_after(&self, script_name: &[u8]) -> Result<&[u8], HttpError> {
        match self.path().strip_prefix(script_name) {
            Some(rest @ ([] | [b'/', ..])) => Ok(rest),
            _ if script_name.is_empty() => Ok(self.path()),
            _ => Err(HttpError::ScriptName),
        }
    }
}

/// Returns a SCRIPT_NAME without the slashes at its end: that which separates it from the rest of a path is
/// PATH_INFO's.
#[must_use]
pub fn trim_script_name(mut name: &[u8]) -> &[u8] {
    while let [rest @ .., b'/'] = name {
        name = rest;
    }
    name
}

/// Returns the limits for httparse. A rewritten field has another length than on the wire, where the scanner
/// has measured it already.
fn limits_of_parse(policy: &Policy) -> HeadLimits {
    let field_bytes_max =
        if policy.rewrites() { HeadLimits::HEAD_BYTES_CAP } else { policy.limits.field_bytes_max };
    HeadLimits { field_bytes_max, ..policy.limits }
}
