//! The corpus under `tests/corpus`: `NAME.http` holds the bytes as they cross the wire (they can be sent to any
//! server), `NAME.expect` the transcript they must give, after optional `policy` and `trusted` lines.
//!
//! `RGUNICORN_BLESS=1` writes missing transcripts; read them before you commit them.

use std::fs;
use std::path::{Path, PathBuf};

use rgunicorn_http::{HeaderMap, Policy};

use super::support::{Outcome, run};

/// One file of the corpus.
pub(crate) struct Case {
    pub path: PathBuf,
    pub policy: Policy,
    pub trusted: bool,
    pub bytes: Vec<u8>,
    pub expected: String,
}

/// Every case of one half, sorted by name.
pub(crate) fn cases(half: &str) -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(half);
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "http"));
    paths.sort();
    assert!(!paths.is_empty());
    paths.into_iter().map(load).collect()
}

/// Both halves.
pub(crate) fn all_cases() -> impl Iterator<Item = Case> {
    cases("valid").into_iter().chain(cases("invalid"))
}

fn load(path: PathBuf) -> Case {
    let bytes = fs::read(&path).unwrap();
    let text = fs::read_to_string(path.with_extension("expect")).unwrap_or_default();
    let mut case = Case { path, policy: Policy::default(), trusted: false, bytes, expected: String::new() };
    let mut rest = text.as_str();
    while let Some((line, after)) = rest.split_once('\n') {
        match line.split_once(' ') {
            Some(("policy", switch)) => apply(&mut case.policy, switch),
            _ if line == "trusted" => case.trusted = true,
            _ => break,
        }
        rest = after;
    }
    case.expected = rest.to_owned();
    case
}

fn apply(policy: &mut Policy, switch: &str) {
    match switch {
        "permit_obsolete_folding" => policy.permit_obsolete_folding = true,
        "strip_header_spaces" => policy.strip_header_spaces = true,
        "permit_unconventional_http_method" => policy.permit_unconventional_http_method = true,
        "permit_unconventional_http_version" => policy.permit_unconventional_http_version = true,
        "casefold_http_method" => policy.casefold_http_method = true,
        "header_map=refuse" => policy.header_map = HeaderMap::Refuse,
        "header_map=dangerous" => policy.header_map = HeaderMap::Dangerous,
        "forwarder_headers=*" => policy.forwarder_headers = vec!["*".to_owned()],
        other => panic!("unknown switch {other}"),
    }
}

fn check(half: &str, mut fits: impl FnMut(&Outcome) -> bool) {
    for case in cases(half) {
        let outcome = run(&case.policy, case.trusted, [&case.bytes[..]]);
        assert!(fits(&outcome), "{} is not {half}:\n{}", case.path.display(), outcome.transcript);
        if case.expected.is_empty() && std::env::var_os("RGUNICORN_BLESS").is_some() {
            bless(&case.path, &outcome);
        } else {
            assert_eq!(outcome.transcript, case.expected, "{}", case.path.display());
        }
    }
}

fn bless(path: &Path, outcome: &Outcome) {
    assert!(std::env::var_os("RGUNICORN_BLESS").is_some(), "{} has no transcript", path.display());
    let expect = path.with_extension("expect");
    let before = fs::read_to_string(&expect).unwrap_or_default();
    fs::write(expect, before + &outcome.transcript).unwrap();
}

#[test]
fn valid() {
    check("valid", |outcome| outcome.error.is_none());
}

#[test]
fn invalid() {
    check("invalid", |outcome| outcome.error.is_some());
}
