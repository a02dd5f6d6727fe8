//! What holds for every input: splits change nothing, nothing panics, what was encoded decodes to itself.

use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rgunicorn_http::{HeadLimits, HeaderMap, Policy, ResponseFacts, ResponseHead, Version};

use super::corpus::{Case, all_cases, cases};
use super::support::run;

/// The valid cases that are not about limits.
static SMALL_CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    cases("valid").into_iter().filter(|case| (1..SMALL_BYTES_MAX).contains(&case.bytes.len())).collect()
});
/// Longer files are about limits; byte by byte says enough about them.
const SMALL_BYTES_MAX: usize = 2000;

/// Cuts `bytes` at these places, in any order.
fn cut<'a>(bytes: &'a [u8], places: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = places.iter().map(|position| position.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

#[test]
fn every_corpus_file_split_at_every_byte_gives_the_same() {
    for case in all_cases() {
        let expected = run(&case.policy, case.trusted, [&case.bytes[..]]);
        let one_by_one = run(&case.policy, case.trusted, case.bytes.chunks(1));
        assert_eq!(one_by_one, expected, "{} byte by byte", case.path.display());
        for at in (0..case.bytes.len()).filter(|_| case.bytes.len() < SMALL_BYTES_MAX) {
            let (left, right) = case.bytes.split_at(at);
            let outcome = run(&case.policy, case.trusted, [left, right]);
            assert_eq!(outcome, expected, "{} split at {at}", case.path.display());
        }
    }
}

#[test]
fn valid_requests_may_follow_each_other() {
    // Requests that close are followed here too: whether to read on is the worker's decision.
    let plain: Vec<_> = cases("valid").into_iter().filter(|case| case.policy == Policy::default()).collect();
    for pair in plain.windows(2).filter(|pair| pair[0].trusted == pair[1].trusted) {
        let apart: String = pair.iter().map(|case| &*case.expected).collect();
        let run_together = [&pair[0].bytes[..], &pair[1].bytes[..]].concat();
        let outcome = run(&pair[0].policy, pair[0].trusted, [&run_together[..]]);
        assert_eq!(outcome.transcript, apart, "{} {}", pair[0].path.display(), pair[1].path.display());
    }
}

/// Pieces from which a request, or something near one, can be put together.
const FRAGMENTS: [&str; 22] = [
    "GET / HTTP/1.1\r\nHost: h\r\n",
    "POST /p?q#f HTTP/1.0\r\n",
    "GET /loooooooooooooooooooooooooooooooong HTTP/1.1\r\n",
    "Host: h\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close, x\r\n",
    "Expect: 100-continue\r\n",
    "Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
    "A_b: c\r\n",
    "Name : v\r\n",
    " folded\r\n",
    "\r\n",
    "\n",
    "\r",
    ":",
    "\0",
    "abc",
    "3\r\nabc\r\n",
    "a;b=\"c\"\r\n",
    "0\r\n\r\n",
    "0\r\nX: y\r\n\r\n",
];

fn fragments() -> impl Strategy<Value = Vec<u8>> {
    // Mostly with a request line in front, else hardly any input would get beyond it.
    let first = prop_oneof![1 => Just(""), 4 => select(&FRAGMENTS[..2])];
    let end = prop_oneof![1 => Just(""), 2 => Just("\r\n")];
    (first, vec(select(&FRAGMENTS[3..]), 0..6), end, vec(select(&FRAGMENTS[..]), 0..8)).prop_map(
        |(first, fields, end, rest)| [first, &fields.concat(), end, &rest.concat()].concat().into_bytes(),
    )
}

/// Small limits, so that short inputs cross them, and every switch.
fn policies() -> impl Strategy<Value = Policy> {
    (20usize..50, 1usize..6, 12usize..40, any::<[bool; 6]>()).prop_map(|(line, fields, bytes, on)| Policy {
        permit_obsolete_folding: on[0],
        strip_header_spaces: on[1],
        permit_unconventional_http_method: on[2],
        permit_unconventional_http_version: on[3],
        casefold_http_method: on[4],
        header_map: if on[5] { HeaderMap::Drop } else { HeaderMap::Refuse },
        ..Policy::new(HeadLimits::new(line, fields, bytes))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn splits_change_nothing(bytes in fragments(), places in vec(any::<Index>(), 0..12), policy in policies()) {
        let expected = run(&policy, false, [&bytes[..]]);
        prop_assert_eq!(run(&policy, false, cut(&bytes, &places)), expected.clone());
        prop_assert_eq!(run(&policy, false, bytes.chunks(1)), expected);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..200), places in vec(any::<Index>(), 0..6), policy in policies()) {
        let expected = run(&policy, true, [&bytes[..]]);
        prop_assert_eq!(run(&policy, true, cut(&bytes, &places)), expected);
    }

    #[test]
    fn a_damaged_request_is_judged_the_same_however_it_is_split(
        at in any::<Index>(), byte in any::<u8>(), places in vec(any::<Index>(), 1..6), which in any::<Index>(),
    ) {
        let case = &SMALL_CASES[which.index(SMALL_CASES.len())];
        let mut bytes = case.bytes.clone();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let expected = run(&case.policy, case.trusted, [&bytes[..]]);
        prop_assert_eq!(run(&case.policy, case.trusted, cut(&bytes, &places)), expected);
    }

    /// A response in chunks, read back by the request parser: both sides agree on the grammar.
    #[test]
    fn what_the_response_chunks_the_parser_joins(items in vec(vec(any::<u8>(), 0..80), 0..8), places in vec(any::<Index>(), 0..8)) {
        let facts = ResponseFacts { version: Version::HTTP_11, head_request: false, connect: false, keep_alive: true };
        let mut response = ResponseHead::new();
        response.status(b"200 OK").unwrap();
        let mut framing = response.finish(&facts, b"s", &[b'd'; 29], &mut Vec::new());
        let mut wire = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for item in &items {
            let frame = framing.frame(item.len());
            wire.extend_from_slice(frame.prefix.as_bytes());
            wire.extend_from_slice(&item[..frame.take]);
            wire.extend_from_slice(frame.suffix);
        }
        wire.extend_from_slice(framing.last());
        let outcome = run(&Policy::default(), false, cut(&wire, &places));
        let body = items.concat();
        let data = if body.is_empty() { String::new() } else { format!("data {}\n", body.escape_ascii()) };
        prop_assert!(outcome.transcript.ends_with(&format!("chunked\n{data}end\n")), "{}", outcome.transcript);
        prop_assert_eq!(outcome.error, None);
    }

    #[test]
    fn a_length_is_never_exceeded(length in 0u64..200, items in vec(0usize..60, 0..8)) {
        let facts = ResponseFacts { version: Version::HTTP_11, head_request: false, connect: false, keep_alive: true };
        let mut response = ResponseHead::new();
        response.status(b"200 OK").unwrap();
        response.header(b"Content-Length", length.to_string().as_bytes()).unwrap();
        let mut framing = response.finish(&facts, b"s", &[b'd'; 29], &mut Vec::new());
        let sent: u64 = items.iter().map(|&len| framing.frame(len).take as u64).sum();
        let given: u64 = items.iter().map(|&len| len as u64).sum();
        prop_assert_eq!(sent, given.min(length));
        prop_assert_eq!(framing.complete(), given >= length);
        prop_assert_eq!(framing.left(), Some(length - sent));
    }

    #[test]
    fn percent_encoding_round_trips(path in vec(any::<u8>(), 0..60)) {
        let encoded: String = path.iter().map(|byte| format!("%{byte:02x}")).collect();
        prop_assert_eq!(&rgunicorn_http::percent_decode_path(encoded.as_bytes())[..], &path[..]);
    }
}
