//! Rules about where something may stand: `unsafe`, and failures declared impossible.

use crate::lexer::words;
use crate::tree::File;

/// Where Rust meets the kernel and CPython. The compiler denies `unsafe` elsewhere, unless an attribute opens it.
const UNSAFE: [&str; 3] = ["crates/rgunicorn-io/src/sys/", "crates/rgunicorn-io/src/driver/", "src/py/"];

/// An invariant is a sentence: fewer words than this name the thing and do not give the reason.
const INVARIANT_WORDS_MIN: usize = 3;

/// Finds `unsafe` outside of the modules that talk to the kernel and to CPython.
pub fn unsafe_code(file: &File) -> Vec<String> {
    if UNSAFE.iter().any(|home| file.path.starts_with(home)) {
        return Vec::new();
    }
    let message = format!("`unsafe` outside of {}", UNSAFE.join(", "));
    words(&file.code, "unsafe").map(|at| file.finding(at, &message)).collect()
}

/// Finds what is unwrapped outside of tests, or expected without the words why it cannot fail.
pub fn unwraps(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    for at in calls(&file.code, "unwrap").filter(|at| !file.in_test(*at)) {
        findings.push(
            file.finding(at, "`unwrap` says nothing: `?`, a default, or `expect(\"why it cannot fail\")`"),
        );
    }
    // `self.expect(…)` is a method of our own: no `Option` calls itself that.
    let of_others = |at: &usize| !file.code[..*at].trim_end().ends_with("self.");
    for at in calls(&file.code, "expect").filter(of_others).filter(|at| !file.in_test(*at)) {
        let argument = file.text[at + "expect(".len()..].trim_start();
        let reason = argument.strip_prefix('"').and_then(|rest| rest.split('"').next()).unwrap_or("");
        if reason.split_whitespace().count() < INVARIANT_WORDS_MIN {
            findings.push(file.finding(at, "`expect` without the invariant that makes it safe"));
        }
    }
    findings
}

/// Lists the offsets of the method calls `.name(`.
fn calls<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    words(code, name)
        .filter(move |&at| code[..at].trim_end().ends_with('.') && code[at + name.len()..].starts_with('('))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rule: fn(&File) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
        let findings = rule(&File::new(path, text));
        findings.iter().map(|finding| finding.split(": ").next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn unsafe_outside_of_its_homes_is_found() {
        let text = "#![deny(unsafe_code)]\n// unsafe\nlet x = \"unsafe\";\nunsafe { y() }\n";
        assert_eq!(lines(unsafe_code, "src/wsgi/x.rs", text), ["src/wsgi/x.rs:4"]);
        assert_eq!(
            lines(unsafe_code, "crates/rgunicorn-io/src/x.rs", text),
            ["crates/rgunicorn-io/src/x.rs:4"]
        );
        for home in UNSAFE {
            assert_eq!(lines(unsafe_code, &format!("{home}x.rs"), text), [] as [&str; 0]);
        }
    }

    #[test]
    fn unwraps_and_empty_expects_are_found() {
        let text = "a.unwrap();\nb.unwrap_or(1);\nc.expect(\"x\");\nd\n  .expect(\n\"the table was just built\");\n\
                    e.expect(reason);\nself.expect(x);\n#[cfg(test)]\nmod tests { fn f() { g.unwrap(); } }\n";
        assert_eq!(lines(unwraps, "src/x.rs", text), ["src/x.rs:1", "src/x.rs:3", "src/x.rs:7"]);
    }
}
