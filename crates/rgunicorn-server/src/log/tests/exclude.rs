//! Are the right requests left out, by both ways into the log, and are bad entries refused by name?

use proptest::prelude::*;

use super::{Folder, Request, read};
use crate::log::{AccessExclude, AccessFormat, AccessLog};

fn exclude(entries: &[&str]) -> AccessExclude {
    AccessExclude::parse(entries.iter().copied()).unwrap()
}

fn request(path: &str, status: u16) -> Request {
    Request { path: path.as_bytes().to_vec(), status, ..Request::default() }
}

#[test]
fn any_entry_is_enough() {
    let exclude = exclude(&["/health", " /static/* ", "404", "3xx", "5XX", "/caf\u{e9}", "999"]);
    for (path, status, left_out) in [
        ("/health", 200, true),
        ("/health", 500, true),
        ("/healthy", 200, false),
        ("/health/", 200, false),
        ("/Health", 200, false),
        ("/static/", 200, true),
        ("/static/a/b.css", 200, true),
        ("/static", 200, false),
        ("/caf\u{e9}", 200, true),
        ("/", 404, true),
        ("/", 403, false),
        ("/", 299, false),
        ("/", 300, true),
        ("/", 399, true),
        ("/", 400, false),
        ("/", 503, true),
        ("/", 999, true),
        ("/", 0, false),
        ("", 200, false),
    ] {
        assert_eq!(exclude.matches(&request(path, status)), left_out, "{path} {status}");
    }
}

#[test]
fn nothing_is_left_out_by_default_and_everything_by_a_bare_prefix() {
    for (entries, left_out) in [(&[][..], false), (&["/*"], true)] {
        assert_eq!(exclude(entries).matches(&request("/", 200)), left_out);
    }
}

#[test]
fn bad_entries_are_refused_by_name() {
    for (entry, fault) in [
        ("", "is empty"),
        ("  ", "is empty"),
        ("health", "is neither a path nor a status"),
        ("*", "is neither a path nor a status"),
        ("\u{e9}", "is neither a path nor a status"),
        ("/a*b", "has a star that is not its end"),
        ("/a**", "has a star that is not its end"),
        ("/a?b=1", "has a query, which is no part of the path"),
        ("20", "is not a status"),
        ("099", "is not a status"),
        ("1000", "is not a status"),
        ("0xx", "is not a status"),
        ("2x", "is not a status"),
        ("2xxx", "is not a status"),
        ("+200", "is neither a path nor a status"),
        ("2\u{e9}\u{e9}", "is not a status"),
        ("99999999999999999999", "is not a status"),
    ] {
        let error = AccessExclude::parse(["/ok", entry]).unwrap_err().to_string();
        let expected = format!(
            "access_log_exclude: {entry:?} {fault} (allowed: /path, /prefix*, a status as 404 or 2xx)"
        );
        assert_eq!(error, expected);
    }
}

#[test]
fn both_ways_into_the_log_leave_them_out() {
    for (format, shown) in [(AccessFormat::compile("%(U)s").unwrap(), "/seen\n"), (AccessFormat::json(), "{")]
    {
        let folder = Folder::new();
        let path = folder.file("access.log");
        let format = format.excluding(exclude(&["/health", "404"]));
        let mut log = AccessLog::open(&path, format).unwrap();
        let (mut renderer, mut lines) = (log.line_renderer(), Vec::new());
        for source in [request("/health", 200), request("/seen", 200), request("/seen", 404)] {
            log.push(&source);
            renderer.render(&source, &mut lines);
        }
        log.flush();
        assert_eq!(read(&path).lines().count(), 1);
        assert!(read(&path).starts_with(shown));
        assert_eq!(String::from_utf8(lines).unwrap().lines().count(), 1);
    }
}

#[test]
fn requests_that_are_left_out_are_not_counted_as_dropped() {
    let format = AccessFormat::compile("%(U)s").unwrap().excluding(exclude(&["/health"]));
    let mut log = AccessLog::with_buffer("/dev/full", format, 4).unwrap();
    for _ in 0..10 {
        log.push(&request("/health", 200));
    }
    assert_eq!((log.pending_bytes(), log.dropped()), (0, 0));
    log.push(&request("/seen", 200));
    assert_eq!(log.dropped(), 1);
}

proptest! {
    #[test]
    fn no_entry_is_a_panic(entries in proptest::collection::vec("[/*?0-9xX a\u{e9}]{0,6}|\\PC{0,8}", 0..4)) {
        let parsed = AccessExclude::parse(entries.iter().map(String::as_str));
        if let Ok(exclude) = parsed {
            let _ = exclude.matches(&request("/a", 200));
        }
    }

    #[test]
    fn paths_and_prefixes_mean_what_they_say(entry in "/[a-c/]{0,4}", path in "/[a-c/]{0,6}") {
        let source = request(&path, 200);
        prop_assert_eq!(exclude(&[&*entry]).matches(&source), path == entry);
        prop_assert_eq!(exclude(&[&*format!("{entry}*")]).matches(&source), path.starts_with(&entry));
    }

    #[test]
    fn statuses_and_classes_mean_what_they_say(entry in 100u16..=999, status in any::<u16>()) {
        let source = request("/", status);
        prop_assert_eq!(exclude(&[&*entry.to_string()]).matches(&source), status == entry);
        let class = format!("{}xx", entry / 100);
        prop_assert_eq!(exclude(&[&*class]).matches(&source), status / 100 == entry / 100);
    }
}
