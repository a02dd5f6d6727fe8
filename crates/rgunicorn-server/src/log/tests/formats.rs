//! Is an access record what Python's `format % atoms` makes of it?

use proptest::prelude::*;

use super::Request;
use crate::log::base64::basic_user;
use crate::log::render::Renderer;
use crate::log::{AccessFormat, AtomSource};
use rgunicorn_io::sys::localtime::local;

/// Format strings and what CPython 3.11 made of them with Gunicorn's atoms of [`Request`] (`!`: an exception), one pair
/// a line, separated by a tab. The atom `t` was replaced by `[T]`.
const CPYTHON: &str = include_str!("percent.tsv");

fn render(format: &str, source: &impl AtomSource) -> String {
    let mut out = Vec::new();
    Renderer::default().render(&AccessFormat::compile(format).unwrap(), source, &mut out);
    let text = String::from_utf8(out).unwrap();
    text.strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn cpython_agrees() {
    let time = render("%(t)s", &Request::default());
    let mut compared = 0;
    for line in CPYTHON.lines() {
        let (format, expected) = line.split_once('\t').unwrap();
        // A precision may have cut the time short: its place is taken by another text.
        if format.contains("(t)") && !format.contains("%(t)s") {
            continue;
        }
        match AccessFormat::compile(format) {
            Err(error) => assert_eq!(expected, "!", "{format}: {error}"),
            Ok(_) => {
                assert_eq!(render(format, &Request::default()).replace(&time, "[T]"), expected, "{format}")
            }
        }
        compared += 1;
    }
    assert!(compared > 200, "{compared}");
}

#[test]
fn unknown_numbers_of_bytes() {
    let source = Request { bytes_sent: None, ..Request::default() };
    assert_eq!(render("%(b)s %(B)s", &source), "- None");
}

#[test]
fn repeated_headers_are_joined_where_gunicorn_reads_environ_and_last_where_it_reads_headers() {
    // `gunicorn` 27.0.1, asked with `Referer: r1` and `Referer: r2`.
    assert_eq!(render("%(f)s %({referer}i)s %({Referer}o)s", &Request::default()), "r1,r2 r2 -");
}

#[test]
fn times_are_local_with_their_offset() {
    let source = Request::default();
    let here = local(1_795_334_501);
    let expected =
        format!("[{:02}/Nov/2026:{:02}:{:02}:41 {}]", here.day, here.hour, here.minute, here.offset());
    assert_eq!(render("%(t)s", &source), expected);
}

#[test]
fn the_time_follows_the_clock() {
    let format = AccessFormat::compile("%(t)s").unwrap();
    let mut renderer = Renderer::default();
    let mut out = Vec::new();
    for second in [1_795_334_501, 1_795_334_501, 1_795_334_502, 1_795_334_501] {
        let unix_time = std::time::Duration::from_secs(second);
        renderer.render(&format, &Request { unix_time, ..Request::default() }, &mut out);
    }
    let text = String::from_utf8(out).unwrap();
    let seconds: Vec<&str> = text.lines().map(|line| &line[19..21]).collect();
    assert_eq!(seconds, ["41", "41", "42", "41"]);
}

#[test]
fn users_are_those_of_pythons_lenient_decoder() {
    for (header, user) in [
        ("Basic YWxpY2U6c2VjcmV0", Some("alice")),
        ("basic YWxpY2U6c2VjcmV0", Some("alice")),
        ("BASICxyz YWxpY2U6", Some("alice")),
        ("Bearer YWxpY2U6", None),
        ("", None),
        ("Basic", None),
        ("Basic ", None),
        ("Basic YWxpY2U", None),
        ("Basic YWxpY2U=", Some("alice")),
        ("Basic YQ==", Some("a")),
        ("Basic YQ=", None),
        ("Basic Y", None),
        ("Basic YWJj=ZGVm", Some("abcdef")),
        ("Basic YQ==ZGVm", Some("a")),
        ("Basic Y=W=J=j", Some("ab")),
        ("Basic Y!W@J#j", Some("abc")),
        ("Basic OnB3", None),
        ("Basic //79", None),
        ("Basic em/DqzpwYXNz", Some("zoë")),
        ("Basic em/Dqw", None),
        ("Basic  YWJj ", Some("abc")),
        ("Basic YW=I=j", Some("ab")),
        ("Basic =YWJj", Some("abc")),
        ("Basic YWI=j", Some("ab")),
        ("Basic YW=Jj", Some("abc")),
        ("Basic YW=J==", Some("ab")),
    ] {
        assert_eq!(basic_user(header.as_bytes()).as_deref(), user, "{header}");
    }
}

#[test]
fn refusals_say_where_and_why() {
    for (format, position, fault) in [
        ("é %(h", 2, "the parenthesis is not closed"),
        ("%s", 0, "%s has no name in parentheses"),
        ("%", 0, "the conversion is cut short"),
        ("%% %(h)5", 3, "the conversion is cut short"),
        ("%(h)q", 0, "unsupported conversion 'q'"),
        ("%(h)d", 0, "%(h)d demands a number and h is a text, use %(h)s"),
        ("%(h)*s", 0, "* takes its number from nowhere here"),
        ("%(h)99999999999999999999s", 0, "99999999999999999999 is more than 4096 characters"),
    ] {
        let error = AccessFormat::compile(format).unwrap_err();
        assert_eq!(error.position, position, "{format}");
        assert_eq!(
            error.to_string(),
            format!(
                "access_log_format: at character {position}: {fault} (allowed: %(NAME)s, %% and plain text)"
            )
        );
    }
}

/// Texts that are nearly formats.
fn formats() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("%(h)s".to_owned()),
        "%\\([hlutrsmUqHbBfaTMDLp]\\)[-+ 0#]{0,2}[0-9]{0,2}(\\.[0-9]?)?[sdxXof]",
        "%\\(\\{[a-zA-Z-]{0,5}\\}[ioe]\\)s",
        "[%()sdl{}0-9 é\"]{0,6}",
        any::<String>(),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_format_and_no_request_panics(format in formats(), path: Vec<u8>, user: Option<Vec<u8>>, status: u16) {
        let authorization = user.map(|user| [b"Basic ", user.as_slice()].concat());
        let source = Request { path, authorization, status, ..Request::default() };
        if AccessFormat::compile(&format).is_ok() {
            render(&format, &source);
        }
    }

    #[test]
    fn text_without_percent_is_itself(text in "[^%\n]*") {
        prop_assert_eq!(render(&text, &Request::default()), text);
    }

    #[test]
    fn clients_texts_are_escaped_and_latin_1_becomes_utf_8(path: Vec<u8>) {
        let escaped = |byte: &u8| match char::from(*byte) {
            special @ ('"' | '\\') => format!("\\{special}"),
            control if control.is_control() => format!("\\x{byte:02X}"),
            plain => plain.to_string(),
        };
        let expected: String = path.iter().map(escaped).collect();
        prop_assert_eq!(render("%(U)s", &Request { path, ..Request::default() }), expected);
    }

    #[test]
    fn widths_and_precisions_count_characters(path: Vec<u8>, width in 0usize..30, precision in 0usize..30) {
        let format = format!("%(U){width}.{precision}s");
        let whole = render("%(U)s", &Request { path: path.clone(), ..Request::default() });
        let cut: String = whole.chars().take(precision).collect();
        prop_assert_eq!(render(&format, &Request { path, ..Request::default() }), format!("{cut:>width$}"));
    }
}
