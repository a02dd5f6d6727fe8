//! Heads that come again: one that is read by what was read before is what it is without.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use rgunicorn_http::{ParseEvent, Policy, Repeats, RequestHead, RequestParser};

use super::corpus::{Case, all_cases};
use super::support::{run, run_repeated};

/// Reads a head at the place of a connection.
fn head_of(repeats: &mut Repeats, connection: u32, trusted: bool, bytes: &[u8]) -> RequestHead {
    let repeat = Some(repeats.of(connection));
    match RequestParser::new().advance_repeated(&Policy::default(), trusted, repeat, &mut &*bytes) {
        Ok(ParseEvent::Head(head)) => head,
        other => panic!("no head but {other:?}"),
    }
}

fn request(line: &str, fields: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\n{fields}\r\n").into_bytes()
}

const SHOP: &str = "Host: shop.test\r\nAccept: */*\r\nCookie: a=b; c=d\r\nUser-Agent: test\r\n";

#[test]
fn a_section_is_known_the_third_time() {
    let mut repeats = Repeats::new();
    let bytes = request("GET /a", SHOP);
    let sections: Vec<_> = (0..4).map(|_| head_of(&mut repeats, 7, false, &bytes).section()).collect();
    assert_eq!(sections[..2], [0, 0]);
    assert!(sections[2] != 0 && sections[3] == sections[2], "{sections:?}");
    assert_eq!(sections[2] % Repeats::places(), 7);
}

#[test]
fn another_request_line_has_the_same_section() {
    let mut repeats = Repeats::new();
    for _ in 0..2 {
        head_of(&mut repeats, 0, false, &request("GET /a", SHOP));
    }
    let plain = head_of(&mut Repeats::new(), 0, false, &request("POST /other?q", SHOP));
    let head = head_of(&mut repeats, 0, false, &request("POST /other?q", SHOP));
    assert!(head.section() != 0);
    assert_eq!((head.method(), head.path(), head.query()), (&b"POST"[..], &b"/other"[..], &b"q"[..]));
    assert!(head.fields().eq(plain.fields()));
    let absolute = head_of(&mut repeats, 0, false, &request("GET http://other.test/a", SHOP));
    assert_eq!(absolute.host(), Some(&b"other.test"[..]));
    assert_eq!(absolute.header("host"), Some(&b"other.test"[..]));
}

#[test]
fn what_differs_is_read_anew_and_gets_another_stamp() {
    let mut repeats = Repeats::new();
    let (one, other) = (request("GET /", SHOP), request("GET /", &SHOP.replace("c=d", "c=e")));
    let mut stamp = |bytes: &[u8], trusted: bool| {
        (0..3).map(|_| head_of(&mut repeats, 0, trusted, bytes).section()).last()
    };
    let first = stamp(&one, false);
    assert!(first != stamp(&other, false) && first != stamp(&one, false), "of the same place");
    let again = stamp(&one, false);
    assert_ne!(again, stamp(&one, true), "of a peer that is trusted");
}

#[test]
fn a_head_is_known_the_fifth_time() {
    let mut repeats = Repeats::new();
    let bytes = request("GET /a?b=c", SHOP);
    let plain = head_of(&mut Repeats::new(), 7, false, &bytes);
    let heads: Vec<_> = (0..6).map(|_| head_of(&mut repeats, 7, false, &bytes)).collect();
    assert_eq!(heads.iter().map(RequestHead::whole).filter(|whole| *whole == 0).count(), 4);
    let last = &heads[5];
    assert!(last.whole() != 0 && last == &heads[4] && last.section() == heads[3].section());
    assert_eq!(last.whole() % Repeats::places(), 7);
    assert_eq!((last.method(), last.target(), last.text()), (plain.method(), plain.target(), plain.text()));
    assert!(last.fields().eq(plain.fields()));
}

#[test]
fn a_head_that_differs_is_read_anew_and_gets_another_stamp() {
    let mut repeats = Repeats::new();
    let mut whole = |line: &str, trusted: bool| {
        let bytes = request(line, SHOP);
        let heads: Vec<_> = (0..4).map(|_| head_of(&mut repeats, 0, trusted, &bytes)).collect();
        assert!(heads.iter().all(|head| head.target() == line.split_once(' ').unwrap().1.as_bytes()));
        heads[3].whole()
    };
    whole("GET /a", false);
    let a = whole("GET /a", false);
    let b = whole("GET /b", false);
    assert!(a != 0 && b != 0 && a != b);
    // The longer one begins with the same bytes.
    assert_ne!(b, whole("GET /bb", false));
    let again = whole("GET /a", false);
    assert!(again != 0 && again != a);
    whole("GET /a", true);
    assert!(whole("GET /a", true) > again, "of a peer that is trusted");
}

#[test]
fn a_method_that_is_folded_is_read_each_time() {
    let policy =
        Policy { casefold_http_method: true, permit_unconventional_http_method: true, ..Policy::default() };
    let mut repeats = Repeats::new();
    let bytes = request("get /a", SHOP);
    for _ in 0..6 {
        let repeat = Some(repeats.of(0));
        let head = match RequestParser::new().advance_repeated(&policy, false, repeat, &mut &bytes[..]) {
            Ok(ParseEvent::Head(head)) => head,
            other => panic!("no head but {other:?}"),
        };
        assert_eq!((head.method(), head.whole()), (&b"GET"[..], 0));
    }
}

#[test]
fn changing_sections_and_long_ones_are_not_kept() {
    let mut repeats = Repeats::new();
    for number in 0..10 {
        let fields = format!("{SHOP}Referer: /{number}{number}{number}\r\n");
        assert_eq!(head_of(&mut repeats, 0, false, &request("GET /", &fields)).section(), 0);
    }
    let long = format!("{SHOP}Long: {}\r\n", "x".repeat(5000));
    for _ in 0..4 {
        assert_eq!(head_of(&mut repeats, 0, false, &request("GET /", &long)).section(), 0);
    }
}

#[test]
fn each_case_of_the_corpus_is_the_same_each_time() {
    for case in all_cases() {
        let mut repeats = Repeats::new();
        let expected = run(&case.policy, case.trusted, [&case.bytes[..]]);
        // The section is known the third time, the head the fifth.
        for time in 0..6 {
            let outcome = run_repeated(&case.policy, case.trusted, Some(repeats.of(0)), [&case.bytes[..]]);
            assert_eq!(outcome, expected, "{} time {time}", case.path.display());
        }
    }
}

/// Cases of the default policy.
fn plain_cases() -> Vec<Case> {
    all_cases().filter(|case| case.policy == Policy::default()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_is_read_as_without(
        // Few, so that they come again; some damaged at a byte.
        choice in vec(any::<Index>(), 1..4),
        order in vec((any::<Index>(), any::<bool>(), any::<Option<(Index, u8)>>()), 1..30),
    ) {
        let cases = plain_cases();
        let mut repeats = Repeats::new();
        for (which, trusted, damage) in order {
            let case = &cases[choice[which.index(choice.len())].index(cases.len())];
            let mut bytes = case.bytes.clone();
            if let Some((at, byte)) = damage.filter(|(at, _)| !bytes.is_empty() && at.index(4) == 0) {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let expected = run(&case.policy, trusted, [&bytes[..]]);
            let outcome = run_repeated(&case.policy, trusted, Some(repeats.of(0)), [&bytes[..]]);
            prop_assert_eq!(outcome, expected);
        }
    }
}
