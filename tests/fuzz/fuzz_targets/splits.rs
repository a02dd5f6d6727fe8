//! One split of the input changes nothing: each event, each body byte and each fault is the same.
#![no_main]
use rgunicorn_http::{ParseEvent, Policy, RequestParser};

libfuzzer_sys::fuzz_target!(|input: (u16, &[u8])| {
    let (left, right) = input.1.split_at(usize::from(input.0).min(input.1.len()));
    assert_eq!(transcript(&[left, right]), transcript(&[input.1]));
});

fn transcript(pieces: &[&[u8]]) -> String {
    let (policy, mut parser, mut text) = (Policy::default(), RequestParser::new(), String::new());
    for mut piece in pieces.iter().copied() {
        loop {
            match parser.advance(&policy, true, &mut piece) {
                Ok(ParseEvent::NeedMore) => break,
                Ok(ParseEvent::Data(data)) => text += &data.escape_ascii().to_string(),
                Err(error) => return text + &error.to_string(),
                Ok(other) => text += &format!("{other:?}"),
            }
        }
    }
    text
}
