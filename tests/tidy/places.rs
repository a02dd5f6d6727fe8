//! Rules about where something may stand: Python, system calls, `unsafe`, and failures declared impossible.

use super::floors::module_of;
use super::lexer::words;
use super::tree::File;

const PYO3: [&str; 6] = ["conf", "py", "wsgi", "gevent", "boot", "lib"];
const SYSTEM_CALLS: [&str; 2] = ["sys", "io"];
const UNSAFE: [&str; 4] = ["sys", "io", "py", "gevent"];

/// An invariant is a sentence: fewer words than this name the thing and do not give the reason.
const INVARIANT_WORDS_MIN: usize = 3;

/// `pyo3` is named from floor 4 up only; everything below is built and tested without Python.
pub fn pyo3(file: &File) -> Vec<String> {
    crate_outside(file, &["pyo3"], &PYO3)
}

/// `libc`, `nix` and `io_uring` are named by the floors that wrap them only.
pub fn system_calls(file: &File) -> Vec<String> {
    crate_outside(file, &["libc", "nix", "io_uring"], &SYSTEM_CALLS)
}

/// `unsafe` stands on the floors that talk to the kernel and to CPython only.
pub fn unsafe_code(file: &File) -> Vec<String> {
    if UNSAFE.contains(&module_of(&file.path)) {
        return Vec::new();
    }
    let message = format!("`unsafe` outside of {}", UNSAFE.join("/, ") + "/");
    words(&file.code, "unsafe").map(|at| file.finding(at, &message)).collect()
}

/// Outside of tests nothing is unwrapped, and what is expected states in words why it cannot fail.
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

/// Offsets of the method calls `.name(`.
fn calls<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    words(code, name)
        .filter(move |&at| code[..at].trim_end().ends_with('.') && code[at + name.len()..].starts_with('('))
}

/// Uses of one of `crates` as a path (`libc::c_int`, `use nix;`) in a module that is not one of `homes`.
fn crate_outside(file: &File, crates: &[&str], homes: &[&str]) -> Vec<String> {
    if homes.contains(&module_of(&file.path)) {
        return Vec::new();
    }
    let mut found: Vec<(usize, &str)> = Vec::new();
    for name in crates {
        let heads = words(&file.code, name).filter(|&at| is_path_head(&file.code, at, name));
        found.extend(heads.map(|at| (at, *name)));
    }
    found.sort_unstable();
    found
        .iter()
        .map(|(at, name)| file.finding(*at, &format!("`{name}` outside of {}", homes.join(", "))))
        .collect()
}

fn is_path_head(code: &str, at: usize, name: &str) -> bool {
    let before = code[..at].trim_end();
    let inner = before.ends_with("::") && !before.ends_with(" ::"); // `io::nix` is a module of ours
    let imported = before.ends_with("use") || before.ends_with("crate");
    !inner && (imported || code[at + name.len()..].trim_start().starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rule: fn(&File) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
        let findings = rule(&File::new(path, text));
        findings.iter().map(|finding| finding.split(": ").next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn crates_outside_of_their_homes_are_found() {
        let text = "use pyo3::Python;\n// pyo3::x\nfn f(p: pyo3 ::Py) {}\n";
        assert_eq!(lines(pyo3, "src/worker/mod.rs", text), ["src/worker/mod.rs:1", "src/worker/mod.rs:3"]);
        assert_eq!(lines(pyo3, "src/wsgi/mod.rs", text), [] as [&str; 0]);
        let text = "use nix;\nlet libc = 1;\nlibc::close(3); io_uring::x();\n";
        assert_eq!(
            lines(system_calls, "src/http/x.rs", text),
            ["src/http/x.rs:1", "src/http/x.rs:3", "src/http/x.rs:3"]
        );
        assert_eq!(lines(system_calls, "src/sys/x.rs", text), [] as [&str; 0]);
    }

    #[test]
    fn unsafe_outside_of_its_homes_is_found() {
        let text = "#![deny(unsafe_code)]\n// unsafe\nlet x = \"unsafe\";\nunsafe { y() }\n";
        assert_eq!(lines(unsafe_code, "src/worker/x.rs", text), ["src/worker/x.rs:4"]);
        assert_eq!(lines(unsafe_code, "src/py/x.rs", text), [] as [&str; 0]);
    }

    #[test]
    fn unwraps_and_empty_expects_are_found() {
        let text = "a.unwrap();\nb.unwrap_or(1);\nc.expect(\"x\");\nd\n  .expect(\n\"the table was just built\");\n\
                    e.expect(reason);\nself.expect(x);\n#[cfg(test)]\nmod tests { fn f() { g.unwrap(); } }\n";
        assert_eq!(lines(unwraps, "src/x.rs", text), ["src/x.rs:1", "src/x.rs:3", "src/x.rs:7"]);
    }
}
