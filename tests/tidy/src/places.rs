//! Rules about where something may stand: `unsafe`, failures declared impossible, changes of files by their paths.

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

/// Where files are changed by a path, with a look at where it leads.
const PATHS: &str = "crates/rgunicorn-io/src/sys/place.rs";

/// The calls that change, or make, a file by its path. root does it wherever another account has led the path.
const BY_PATH: [&str; 11] = [
    "OpenOptions",
    "chown",
    "create_dir",
    "create_dir_all",
    "create_new",
    "fchownat",
    "hard_link",
    "lchown",
    "remove_file",
    "rename",
    "symlink",
];

/// The calls that are meant: a file, a name in it, and why its path leads nowhere else.
const MEANT: [(&str, &str, &str); 3] = [
    ("crates/rgunicorn-io/src/sys/daemon.rs", "OpenOptions", "/dev/null"),
    ("crates/rgunicorn-io/src/sys/process.rs", "OpenOptions", "/proc/self/mem"),
    ("crates/rgunicorn-io/src/sys/listener.rs", "fchownat", "of a descriptor: AT_EMPTY_PATH"),
];

/// Finds what changes files by their paths outside of `sys/place.rs`, which sees to it that another account cannot lead
/// root elsewhere.
pub fn changes_by_path(file: &File) -> Vec<String> {
    let is_product = file.path.starts_with("src/") || file.path.contains("/src/");
    let is_tool =
        file.path.starts_with("tests/") || file.path.starts_with("bench/") || file.path.contains("/tests/");
    if !is_product || is_tool || file.path == PATHS {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for name in BY_PATH {
        if MEANT.iter().any(|(path, meant, _)| file.path == *path && name == *meant) {
            continue;
        }
        let called = |at: &usize| {
            let rest = &file.code[at + name.len()..];
            name == "OpenOptions" || rest.starts_with('(')
        };
        let own = |at: &usize| file.code[..*at].ends_with("fn ");
        for at in words(&file.code, name).filter(called).filter(|at| !own(at) && !file.in_test(*at)) {
            findings.push(
                file.finding(at, &format!("`{name}`: files are changed by their paths in {PATHS} only")),
            );
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
    fn changes_of_files_by_path_are_found() {
        let text = "fs::remove_file(path)?;\nuse std::fs::OpenOptions;\nfn rename(x: u8) {}\n// chown(path)\n\
                    std::os::unix::fs::chown(path, None, None);\nfchown(fd);\n\
                    #[cfg(test)]\nmod tests { fn f() { fs::rename(a, b); } }\n";
        assert_eq!(lines(changes_by_path, "src/x.rs", text), ["src/x.rs:2", "src/x.rs:5", "src/x.rs:1"]);
        for home in [PATHS, "bench/src/x.rs", "tests/tidy/src/x.rs", "crates/rgunicorn-io/src/sys/tests/x.rs"]
        {
            assert_eq!(lines(changes_by_path, home, text), [] as [&str; 0], "{home}");
        }
        assert!(lines(changes_by_path, MEANT[0].0, "OpenOptions").is_empty());
    }

    #[test]
    fn unwraps_and_empty_expects_are_found() {
        let text = "a.unwrap();\nb.unwrap_or(1);\nc.expect(\"x\");\nd\n  .expect(\n\"the table was just built\");\n\
                    e.expect(reason);\nself.expect(x);\n#[cfg(test)]\nmod tests { fn f() { g.unwrap(); } }\n";
        assert_eq!(lines(unwraps, "src/x.rs", text), ["src/x.rs:1", "src/x.rs:3", "src/x.rs:7"]);
    }
}
