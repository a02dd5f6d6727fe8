//! Feeds bytes to a parser in pieces and writes down what happened, one line an event.

use std::fmt::Write as _;

use rgunicorn_http::{BodyKind, Fields, HttpError, ParseEvent, Policy, Repeat, RequestHead, RequestParser};

/// What a byte stream came to: a readable transcript, with adjacent body pieces joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub transcript: String,
    pub error: Option<HttpError>,
}

/// Feeds `pieces` in turn, then closes.
pub(crate) fn run<'a>(policy: &Policy, trusted: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    run_repeated(policy, trusted, None, pieces)
}

/// Does the same at this place for sections that come again.
pub(crate) fn run_repeated<'a>(
    policy: &Policy,
    trusted: bool,
    mut repeat: Option<&mut Repeat>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let mut parser = RequestParser::new();
    let mut transcript = String::new();
    let mut body: Vec<u8> = Vec::new();
    for piece in pieces {
        let mut input = piece;
        loop {
            match parser.advance_repeated(policy, trusted, repeat.as_deref_mut(), &mut input) {
                Err(error) => {
                    assert_eq!(
                        parser.advance(policy, trusted, &mut &b"GET"[..]),
                        Err(error),
                        "a fault is final"
                    );
                    assert_eq!(parser.eof(), Err(error));
                    flush(&mut body, &mut transcript);
                    writeln!(transcript, "error {error:?} {}", error.status()).unwrap();
                    return Outcome { transcript, error: Some(error) };
                }
                Ok(ParseEvent::NeedMore) => break,
                Ok(ParseEvent::Head(head)) => {
                    assert!(parser.in_body() && !parser.is_idle() && !parser.in_head());
                    describe(&head, &mut transcript);
                }
                Ok(ParseEvent::Data(data)) => {
                    assert!(!data.is_empty());
                    body.extend_from_slice(data);
                }
                Ok(ParseEvent::End) => {
                    assert!(parser.is_idle() && !parser.in_body());
                    flush(&mut body, &mut transcript);
                    if let Some(trailers) = parser.take_trailers() {
                        fields("trailer", trailers.fields(), &mut transcript);
                    }
                    assert!(parser.take_trailers().is_none());
                    transcript.push_str("end\n");
                }
            }
        }
        assert!(input.is_empty(), "NeedMore means that all input was consumed");
    }
    flush(&mut body, &mut transcript);
    let error = parser.eof().err();
    if error.is_some() {
        transcript.push_str("closed early\n");
    }
    Outcome { transcript, error }
}

/// All bytes at once under the default policy, from an untrusted peer.
pub(crate) fn whole(bytes: impl AsRef<[u8]>) -> Outcome {
    run(&Policy::default(), false, [bytes.as_ref()])
}

/// The verdict on one request whose input ends with it.
pub(crate) fn verdict(policy: &Policy, trusted: bool, bytes: &[u8]) -> Result<(), HttpError> {
    run(policy, trusted, [bytes]).error.map_or(Ok(()), Err)
}

/// The head of the first request.
pub(crate) fn head_with(policy: &Policy, trusted: bool, bytes: &[u8]) -> Result<RequestHead, HttpError> {
    match RequestParser::new().advance(policy, trusted, &mut &*bytes)? {
        ParseEvent::Head(head) => Ok(head),
        other => panic!("no head but {other:?}"),
    }
}

/// The head of the first request under the default policy.
pub(crate) fn head(bytes: impl AsRef<[u8]>) -> Result<RequestHead, HttpError> {
    head_with(&Policy::default(), false, bytes.as_ref())
}

fn flush(body: &mut Vec<u8>, transcript: &mut String) {
    if !body.is_empty() {
        writeln!(transcript, "data {}", body.escape_ascii()).unwrap();
        body.clear();
    }
}

fn fields(label: &str, fields: Fields<'_>, transcript: &mut String) {
    for field in fields {
        writeln!(transcript, "{label} {}: {}", field.name.escape_ascii(), field.value.escape_ascii())
            .unwrap();
    }
}

fn describe(head: &RequestHead, transcript: &mut String) {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let (method, target, version) = (text(head.method()), text(head.target()), text(head.version_text()));
    writeln!(transcript, "head {method} {target} {version}").unwrap();
    writeln!(transcript, "path {}", text(head.path())).unwrap();
    if !head.query().is_empty() {
        writeln!(transcript, "query {}", text(head.query())).unwrap();
    }
    if !head.fragment().is_empty() {
        writeln!(transcript, "fragment {}", text(head.fragment())).unwrap();
    }
    fields("field", head.fields(), transcript);
    match head.body() {
        BodyKind::None => {}
        BodyKind::Length(length) => writeln!(transcript, "length {length}").unwrap(),
        BodyKind::Chunked => transcript.push_str("chunked\n"),
    }
    let marks = [
        (head.expects_continue(), "expects continue"),
        (
            head.scheme().is_some(),
            if format!("{:?}", head.scheme()).contains("Https") { "https" } else { "http" },
        ),
        (!head.keep_alive(), "close"),
        (head.close_after(), "close after"),
    ];
    for (_, mark) in marks.iter().filter(|(set, _)| *set) {
        writeln!(transcript, "{mark}").unwrap();
    }
}
