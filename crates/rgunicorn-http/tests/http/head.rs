//! Parity section 4.1 and 4.5, rule by rule, on both sides of each limit.

use rgunicorn_http::{
    HeadLimits, HeaderMap, HttpError, Policy, RequestParser, Scheme, percent_decode_path, trim_script_name,
};

use super::support::{head, head_with, run, verdict, whole};

fn limited(line: usize, fields: usize, field: usize) -> Policy {
    Policy::new(HeadLimits::new(line, fields, field))
}

/// A request whose fields are these and no others: HTTP/1.1 needs a Host.
fn bare(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.0\r\n{fields}\r\n").into_bytes()
}

#[test]
fn the_settings_are_normalised_as_gunicorn_does() {
    let rows = [
        ((4094, 100, 8190), (4094, 100, 8190)),
        ((0, 0, 0), (HeadLimits::REQUEST_LINE_BYTES_UNLIMITED, 32_768, 8190)),
        ((8191, 32_769, 8191), (8190, 32_768, 8191)),
        ((1, 1, 1), (1, 1, 1)),
        ((usize::MAX, usize::MAX, usize::MAX), (8190, 32_768, HeadLimits::FIELD_BYTES_CAP)),
    ];
    for ((line, fields, field), (line_max, fields_max, field_max)) in rows {
        let limits = HeadLimits::new(line, fields, field);
        assert_eq!(limits.request_line_bytes_max, line_max);
        assert_eq!(limits.fields_max, fields_max);
        assert_eq!(limits.field_bytes_max, field_max);
    }
    assert_eq!(HeadLimits::default(), HeadLimits::new(4094, 100, 8190));
}

#[test]
fn request_line_limit() {
    let line = |length: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(length - 14)).into_bytes();
    for limit in [14, 15, 100, 4094, 8190] {
        let policy = limited(limit, 100, 0);
        assert_eq!(verdict(&policy, false, &line(limit)), Ok(()), "{limit}");
        assert_eq!(verdict(&policy, false, &line(limit + 1)), Err(HttpError::RequestLineTooLong), "{limit}");
    }
    assert_eq!(verdict(&limited(0, 100, 0), false, &line(100_000)), Ok(()));
}

#[test]
fn a_request_line_without_end_is_refused_as_soon_as_it_is_too_long() {
    let policy = limited(20, 100, 0);
    for (bytes, refused) in [(&b"GET /567890123456789"[..], false), (b"GET /5678901234567890", true)] {
        assert_eq!(
            verdict(&policy, false, bytes),
            Err(if refused { HttpError::RequestLineTooLong } else { HttpError::PrematureEnd })
        );
    }
    // The byte over the limit may be the CR.
    assert_eq!(verdict(&policy, false, b"GET /567890123456789\r"), Err(HttpError::PrematureEnd));
    assert_eq!(verdict(&policy, false, b"GET /567890123456789\rx"), Err(HttpError::RequestLineTooLong));
}

#[test]
fn fields_limit() {
    for limit in [1, 2, 31, 32, 33, 100, 1000] {
        let policy = limited(0, limit, 0);
        assert_eq!(verdict(&policy, false, &bare(&"A: b\r\n".repeat(limit))), Ok(()), "{limit}");
        assert_eq!(
            verdict(&policy, false, &bare(&"A: b\r\n".repeat(limit + 1))),
            Err(HttpError::TooManyFields)
        );
        // Gunicorn does not count names that it drops. We do: parsing them costs the same.
        assert_eq!(
            verdict(&policy, false, &bare(&"A_: b\r\n".repeat(limit + 1))),
            Err(HttpError::TooManyFields)
        );
    }
}

#[test]
fn field_limit_counts_the_line_end() {
    let field = |bytes: usize| format!("A:{}\r\n", "v".repeat(bytes - 4));
    for limit in [4, 5, 60, 8190, 20_000] {
        let policy = limited(0, 100, limit);
        for before in ["", "B:\r\n"] {
            let at = |bytes| bare(&format!("{before}{}{before}", field(bytes)));
            assert_eq!(verdict(&policy, false, &at(limit)), Ok(()), "{limit}");
            assert_eq!(verdict(&policy, false, &at(limit + 1)), Err(HttpError::FieldTooLarge), "{limit}");
        }
        let unending = bare(&field(limit + 1));
        assert_eq!(verdict(&policy, false, &unending[..unending.len() - 4]), Err(HttpError::FieldTooLarge));
    }
}

#[test]
fn a_folded_field_is_measured_as_a_whole() {
    let policy = Policy { permit_obsolete_folding: true, ..limited(0, 2, 20) };
    assert_eq!(verdict(&policy, false, &bare("A: 4567\r\n 23456789\r\nB: c\r\n")), Ok(()));
    assert_eq!(
        verdict(&policy, false, &bare("A: 4567\r\n 234567890\r\nB: c\r\n")),
        Err(HttpError::FieldTooLarge)
    );
    assert_eq!(
        verdict(&policy, false, &bare("A: b\r\n c\r\n d\r\nB: c\r\n")),
        Ok(()),
        "folds are not fields"
    );
}

#[test]
fn methods() {
    let conventional = ["GET", "PUT", "M-SEARCH", "UPDATEREDIRECTREF", "ABCDEFGHIJKLMNOPQRST", "G1T", "A.B"];
    let unconventional = ["G", "AB", "get", "Get", "GET#", "ABCDEFGHIJKLMNOPQRSTU"];
    let never = ["", "G T", "GET?", "G(T", "G\"T", "G\u{e9}T", "G/T", "G\tT", "{}"];
    let lenient = Policy { permit_unconventional_http_method: true, ..Policy::default() };
    for method in conventional.iter().chain(&unconventional).chain(&never) {
        let bytes = format!("{method} / HTTP/1.0\r\n\r\n").into_bytes();
        let strict = verdict(&Policy::default(), false, &bytes).is_ok();
        assert_eq!(strict, conventional.contains(method), "{method}");
        assert_eq!(verdict(&lenient, false, &bytes).is_ok(), !never.contains(method), "{method}");
    }
    let folding = Policy { casefold_http_method: true, ..lenient };
    assert_eq!(head_with(&folding, false, b"patch /aB HTTP/1.0\r\nX: y\r\n\r\n").unwrap().method(), b"PATCH");
    assert_eq!(head_with(&folding, false, b"patch /aB HTTP/1.0\r\nX: y\r\n\r\n").unwrap().target(), b"/aB");
}

#[test]
fn every_byte_of_a_target_is_judged() {
    for byte in 0..=255u8 {
        let bytes = [b"GET /", &[byte][..], b" HTTP/1.0\r\n\r\n"].concat();
        assert_eq!(whole(bytes).error.is_none(), (0x21..=0x7E).contains(&byte), "{byte:#x}");
    }
}

#[test]
fn every_byte_of_a_name_and_of_a_value_is_judged() {
    for byte in 0..=255u8 {
        let name = [b"GET / HTTP/1.0\r\nA", &[byte][..], b"b: c\r\n\r\n"].concat();
        let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:".contains(&byte);
        assert_eq!(whole(name).error.is_none(), token, "name {byte:#x}");
        let value = [b"GET / HTTP/1.0\r\nA: b", &[byte][..], b"c\r\n\r\n"].concat();
        let allowed = byte == b'\t' || byte >= 0x20 && byte != 0x7F;
        assert_eq!(whole(value).error.is_none(), allowed, "value {byte:#x}");
    }
}

#[test]
fn target_parts() {
    // target, path, query, fragment
    let rows = [
        ("/", "/", "", ""),
        ("/a?b?c#d#e?f", "/a", "b?c", "d#e?f"),
        ("/a#b?c", "/a", "", "b?c"),
        ("/?", "/", "", ""),
        ("//h/a", "//h/a", "", ""),
        ("http://h", "", "", ""),
        ("http://h/", "/", "", ""),
        ("http://h:1/a:b?c", "/a:b", "c", ""),
        ("http://h?q", "", "q", ""),
        ("http://h#f", "", "", "f"),
        ("x+y.z-1://h/p", "/p", "", ""),
        ("/[", "/[", "", ""),
    ];
    for (target, path, query, fragment) in rows {
        let head = head(format!("GET {target} HTTP/1.0\r\n\r\n")).unwrap();
        assert_eq!(head.target(), target.as_bytes());
        assert_eq!(head.path(), path.as_bytes(), "{target}");
        assert_eq!(head.query(), query.as_bytes(), "{target}");
        assert_eq!(head.fragment(), fragment.as_bytes(), "{target}");
    }
    assert_eq!(head("CONNECT h:443 HTTP/1.0\r\n\r\n").unwrap().path(), b"");
    assert_eq!(head("OPTIONS * HTTP/1.0\r\n\r\n").unwrap().path(), b"*");
}

#[test]
fn the_host_is_that_of_an_absolute_target_or_else_of_the_field() {
    for (target, fields, host) in [
        ("/", "Host: a.test:80\r\n", Some("a.test:80")),
        ("/", "", None),
        ("http://b.test/", "Host: a.test\r\n", Some("b.test")),
        ("http://[::1]:81?q", "HOST:\r\n", Some("[::1]:81")),
        ("http://b.test/", "", Some("b.test")),
    ] {
        let head = head(format!("GET {target} HTTP/1.0\r\nX: y\r\n{fields}Y: z\r\n\r\n")).unwrap();
        assert_eq!(head.host(), host.map(str::as_bytes), "{target} {fields}");
        if !fields.is_empty() {
            assert_eq!(head.header("host"), head.host(), "whoever asks for the field gets the host");
        }
        assert_eq!((head.header("x"), head.header("y")), (Some(&b"y"[..]), Some(&b"z"[..])));
    }
}

#[test]
fn versions() {
    let permitted = Policy { permit_unconventional_http_version: true, ..Policy::default() };
    for (text, strict, lenient) in [
        ("HTTP/1.0", true, true),
        ("HTTP/1.1", true, true),
        ("HTTP/1.9", true, true),
        ("HTTP/0.9", false, true),
        ("HTTP/2.0", false, true),
        ("HTTP/1.10", false, false),
        ("HTTP/1.", false, false),
        ("HTTP/a.1", false, false),
        ("HTTP/1,1", false, false),
        ("http/1.1", false, false),
        ("HTTP 1.1", false, false),
        ("", false, false),
    ] {
        let bytes = format!("GET / {text}\r\nHost: a\r\n\r\n").into_bytes();
        assert_eq!(verdict(&Policy::default(), false, &bytes).is_ok(), strict, "{text}");
        assert_eq!(verdict(&permitted, false, &bytes).is_ok(), lenient, "{text}");
        if lenient {
            assert_eq!(head_with(&permitted, false, &bytes).unwrap().version_text(), text.as_bytes());
        }
    }
}

#[test]
fn keep_alive_reads_all_connection_fields_as_one_list() {
    let rows = [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: Close\r\n", false),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: upgrade\r\nConnection: x,\tclose \r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection:\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: Upgrade, Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "Keep-Alive: timeout=5\r\n", false),
        ("1.2", "", true),
    ];
    for (version, fields, keep) in rows {
        let head = head(format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n")).unwrap();
        assert_eq!(head.keep_alive(), keep, "{version} {fields}");
        assert!(!head.close_after());
    }
    assert!(head("CONNECT h:1 HTTP/1.0\r\n\r\n").unwrap().close_after());
}

#[test]
fn names_with_underscores() {
    let with = |header_map, forwarder: &[&str]| Policy {
        header_map,
        forwarder_headers: forwarder.iter().map(|&name| name.to_owned()).collect(),
        ..Policy::default()
    };
    let bytes = bare("X_A: 1\r\nB-C: 2\r\n");
    let names = |policy: &Policy, trusted| {
        head_with(policy, trusted, &bytes)
            .map(|head| head.fields().map(|field| field.name.to_vec()).collect::<Vec<_>>())
    };
    let (both, one) = (vec![b"X_A".to_vec(), b"B-C".to_vec()], vec![b"B-C".to_vec()]);
    for (header_map, untrusted) in [
        (HeaderMap::Drop, Ok(one.clone())),
        (HeaderMap::Refuse, Err(HttpError::FieldNameUnderscore)),
        (HeaderMap::Dangerous, Ok(both.clone())),
    ] {
        for forwarder in [&["X_A"][..], &["x_a"], &["*"]] {
            assert_eq!(names(&with(header_map, forwarder), true), Ok(both.clone()));
            assert_eq!(names(&with(header_map, forwarder), false), untrusted);
        }
        assert_eq!(names(&with(header_map, &["X_B"]), true), untrusted);
    }
}

#[test]
fn schemes_are_believed_from_trusted_peers_only() {
    let rows = [
        ("", Ok(None)),
        ("X-Forwarded-Proto: https\r\n", Ok(Some(Scheme::Https))),
        ("x-forwarded-proto: https\r\n", Ok(Some(Scheme::Https))),
        ("X-Forwarded-Proto: HTTPS\r\n", Ok(Some(Scheme::Http))),
        ("X-Forwarded-Ssl: on\r\nX-Forwarded-Protocol: ssl\r\n", Ok(Some(Scheme::Https))),
        ("X-Forwarded-Ssl: on\r\nX-Forwarded-Protocol: https\r\n", Err(HttpError::SchemeConflict)),
    ];
    for (fields, expected) in rows {
        let seen = |trusted| head_with(&Policy::default(), trusted, &bare(fields)).map(|head| head.scheme());
        assert_eq!(seen(true), expected, "{fields}");
        assert_eq!(seen(false), Ok(None), "{fields}");
    }
}

#[test]
fn script_name_cuts_the_path_as_sent() {
    let head =
        head_with(&Policy::default(), true, b"GET /ap%70/x HTTP/1.0\r\nSCRIPT_NAME: /ap%70\r\n\r\n").unwrap();
    assert_eq!(head.script_name(), Some(&b"/ap%70"[..]));
    assert_eq!(head.path_after(b"/ap%70"), Ok(&b"/x"[..]));
    assert_eq!(head.path_after(b""), Ok(head.path()));
    for other in ["/app", "/ap", "/", "/ap%70/", "ap%70", "/ap%70/x/y"] {
        assert_eq!(head.path_after(other.as_bytes()), Err(HttpError::ScriptName), "{other}");
    }
    assert_eq!(head.path_after(b"/ap%70/x"), Ok(&b""[..]));
    for (sent, name) in [("/a/", "/a"), ("/a//", "/a"), ("/", ""), ("", ""), ("/a/b", "/a/b")] {
        assert_eq!(trim_script_name(sent.as_bytes()), name.as_bytes());
        let bytes = format!("GET / HTTP/1.0\r\nSCRIPT_NAME: {sent}\r\n\r\n");
        let head = head_with(&Policy::default(), true, bytes.as_bytes()).unwrap();
        assert_eq!(head.script_name(), Some(name.as_bytes()));
    }
    assert_eq!(
        (HttpError::ScriptName.status(), HttpError::ScriptName.reason()),
        (500, "Internal Server Error")
    );
    assert_eq!(super::support::head(bare("Script-Name: /x\r\n")).unwrap().script_name(), None);
}

#[test]
fn header_finds_the_first_field_in_any_case() {
    let head = head(bare("A: 1\r\nHost: h\r\na: 2\r\n")).unwrap();
    assert_eq!(head.header("HOST"), Some(&b"h"[..]));
    assert_eq!(head.header(b"a"), Some(&b"1"[..]));
    assert_eq!(head.header("b"), None);
    assert_eq!(head.fields().len(), 3);
}

#[test]
fn expectations() {
    for (version, value, expected) in [
        ("1.1", "100-continue", Ok(true)),
        ("1.1", "100-CONTINUE", Ok(true)),
        ("1.0", "100-continue", Ok(false)),
        ("1.1", "100-continue, x", Err(HttpError::Expectation)),
        ("1.0", "x", Err(HttpError::Expectation)),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\nExpect: {value}\r\n\r\n");
        assert_eq!(head(bytes).map(|head| head.expects_continue()), expected, "{version} {value}");
    }
}

#[test]
fn percent_decoding_leaves_what_is_no_escape() {
    for (path, decoded) in [
        (&b"/a"[..], &b"/a"[..]),
        (b"/a%20b", b"/a b"),
        (b"%e9%E9", b"\xe9\xe9"),
        (b"%2", b"%2"),
        (b"%", b"%"),
        (b"%zz%20", b"%zz "),
        (b"%%41", b"%A"),
        (b"%2541", b"%41"),
        (b"a+b", b"a+b"),
        (b"%00", b"\0"),
    ] {
        assert_eq!(&*percent_decode_path(path), decoded);
    }
}

#[test]
fn the_states_of_a_connection_are_visible() {
    let policy = Policy::default();
    let mut parser = RequestParser::new();
    let mut feed = |bytes: &[u8]| {
        let mut input = bytes;
        while !input.is_empty() {
            parser.advance(&policy, false, &mut input).unwrap();
        }
        (parser.is_idle(), parser.in_head(), parser.in_body(), parser.eof())
    };
    let early = Err(HttpError::PrematureEnd);
    assert_eq!(feed(b""), (true, false, false, Ok(())));
    assert_eq!(feed(b"\r\n"), (true, false, false, Ok(())), "an empty line is no request");
    assert_eq!(feed(b"P"), (false, true, false, early));
    assert_eq!(feed(b"UT / HTTP/1.0\r\nContent-Length: 2\r\n\r\n"), (false, false, true, early));
    assert_eq!(feed(b"a"), (false, false, true, early));
    // The last byte and the end are two events; the second needs no input.
    assert_eq!(feed(b"b"), (false, false, true, early));
    assert_eq!(parser.advance(&policy, false, &mut &b""[..]), Ok(rgunicorn_http::ParseEvent::End));
    assert!(parser.is_idle());
}

#[test]
fn after_the_end_the_next_request_stays_in_the_input() {
    let mut parser = RequestParser::new();
    let both = b"GET /1 HTTP/1.0\r\n\r\nGET /2 HTTP/1.0\r\n\r\n";
    let mut input = &both[..];
    parser.advance(&Policy::default(), false, &mut input).unwrap();
    parser.advance(&Policy::default(), false, &mut input).unwrap();
    assert_eq!(input, b"GET /2 HTTP/1.0\r\n\r\n");
    let outcome = run(&Policy::default(), false, [&both[..]]);
    assert_eq!(outcome.transcript.matches("end\n").count(), 2);
}

#[test]
fn of_a_refused_head_the_log_gets_what_could_be_read() {
    let folding =
        Policy { permit_unconventional_http_method: true, casefold_http_method: true, ..Policy::default() };
    // input; request line as the log shows it; the path
    for (policy, bytes, line, path) in [
        (Policy::default(), "HEAD /a?b HTTP/1.1\r\nno colon\r\n\r\n", "HEAD /a?b HTTP/1.1", "/a"),
        (Policy::default(), "GET /a HTTP/1.1\r\n\r\n", "GET /a HTTP/1.1", "/a"),
        (Policy::default(), "GET http://[]/a HTTP/1.1\r\n\r\n", "GET http://[]/a HTTP/1.1", "http://[]/a"),
        (folding, "get /a HTTP/1.1\r\n : \r\n\r\n", "GET /a HTTP/1.1", "/a"),
        (Policy::default(), "HEAD / HTTP/7.1\r\n", "HEAD - -", "-"),
        (Policy::default(), "HEAD /\n", "HEAD - -", "-"),
        (Policy::default(), "get / HTTP/1.1\r\n", "- - -", "-"),
        (Policy::default(), "\x16\x03\x01\n", "- - -", "-"),
        (limited(20, 9, 99), "HEAD /567890123456789012", "HEAD - -", "-"),
    ] {
        let mut parser = RequestParser::new();
        assert!(parser.advance(&policy, false, &mut bytes.as_bytes()).is_err(), "{bytes:?}");
        let head = parser.take_refused().unwrap();
        let found = [head.method(), head.target(), head.version_text()].join(&b' ');
        assert_eq!((found, head.path()), (line.as_bytes().to_vec(), path.as_bytes()), "{bytes:?}");
        assert_eq!((head.fields().len(), parser.take_refused()), (0, None));
    }
}

#[test]
fn behind_a_head_no_other_is_refused() {
    let (mut parser, mut input) =
        (RequestParser::new(), &b"POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nxGET\n"[..]);
    while parser.advance(&Policy::default(), false, &mut input).is_ok() {}
    assert_eq!(parser.take_refused().unwrap().method(), b"-");
    let (mut parser, mut input) =
        (RequestParser::new(), &b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx"[..]);
    while parser.advance(&Policy::default(), false, &mut input).is_ok() {}
    assert_eq!(parser.take_refused(), None);
}
