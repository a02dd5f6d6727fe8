//! The table of floors in the header of `src/lib.rs`, and which imports it allows.

use std::collections::BTreeMap;

use super::lexer::{self, words};
use super::tree::File;

/// The table, read from the documentation that people read, so that the two cannot differ.
pub struct Floors {
    floor: BTreeMap<String, u8>,
    /// Modules that may import a helper of their own floor (`wsgi, conf -> py`): (module, helper).
    helped: Vec<(String, String)>,
}

impl Floors {
    /// Reads the lines `//! 3 processes     worker | arbiter          a remark` of `lib_rs`.
    pub fn parse(lib_rs: &str) -> Self {
        let mut table = Self { floor: BTreeMap::new(), helped: Vec::new() };
        for line in lib_rs.lines().filter_map(|line| line.strip_prefix("//! ")) {
            let Some(number) = line.chars().next().and_then(|digit| digit.to_digit(10)) else {
                continue;
            };
            let floor = u8::try_from(number).expect("one digit fits in a byte");
            let line = line.replace("  -> ", "->").replace(" -> ", "->").replace("-> ", "->");
            if let Some(modules) = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).nth(1) {
                table.add(floor, modules);
            }
        }
        table
    }

    fn add(&mut self, floor: u8, modules: &str) {
        let (users, helpers) = modules.split_once("->").unwrap_or((modules, ""));
        let names = |list: &str| -> Vec<String> {
            list.split([',', '|'])
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect()
        };
        let (users, helpers) = (names(users), names(helpers));
        for user in &users {
            self.helped.extend(helpers.iter().map(|helper| (user.clone(), helper.clone())));
        }
        self.floor.extend(users.into_iter().chain(helpers).map(|name| (name, floor)));
    }

    /// The floor of `module`, if the table names it.
    pub fn of(&self, module: &str) -> Option<u8> {
        self.floor.get(module).copied()
    }

    /// Why `from` may not import `to`; `None` when it may.
    fn objection(&self, from: &str, to: &str) -> Option<String> {
        let Some(here) = self.of(from) else {
            return Some(format!("`{from}` has no floor in src/lib.rs"));
        };
        let Some(there) = self.of(to) else {
            // An item of lib.rs itself, which stands on the top floor.
            let below = self.floor.values().any(|floor| *floor > here);
            return below
                .then(|| format!("`crate::{to}` is on the top floor or on none: nothing below may use it"));
        };
        if from == to || there < here {
            return None;
        }
        if there > here {
            return Some(format!("floor {here} (`{from}`) imports `{to}` of floor {there}, upwards"));
        }
        let helper = self.helped.iter().any(|(user, helper)| user == from && helper == to);
        (!helper).then(|| format!("`{from}` imports `{to}` of its own floor {here}, sideways"))
    }

    /// Every forbidden import of `file`.
    pub fn check(&self, file: &File) -> Vec<String> {
        let from = module_of(&file.path);
        if from == "lib" {
            return Vec::new(); // the composition: it may import all
        }
        let imports = crate_paths(&file.code).into_iter().chain(super_paths(file));
        imports
            .filter_map(|(at, to)| self.objection(from, &to).map(|reason| file.finding(at, &reason)))
            .collect()
    }
}

/// The module under `src/` to which a file belongs: `src/io/uring.rs` and `src/io.rs` are `io`.
pub fn module_of(path: &str) -> &str {
    let inside = path.trim_start_matches("src/");
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

/// The modules named by `crate::…` paths, with the offsets of the paths. Groups count once per member.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, "crate") {
        let after = at + "crate".len();
        if code[after..].trim_start().starts_with("::") {
            let path = after + code[after..].find("::").expect("just seen") + 2;
            found.extend(heads(code, path).into_iter().map(|head| (at, head)));
        }
    }
    found
}

/// The first names of the path or of the group `{a::b, c}` at `at`.
fn heads(code: &str, at: usize) -> Vec<String> {
    let open = at + (code[at..].len() - code[at..].trim_start().len());
    if !code[open..].starts_with('{') {
        return vec![lexer::ident_at(code, at).to_owned()];
    }
    let inner = &code[open + 1..lexer::group_end(code, open).saturating_sub(1).max(open + 1)];
    let mut depth = 0usize;
    let mut start = 0;
    let mut found = Vec::new();
    for (index, byte) in inner.bytes().chain([b',']).enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                found.push(lexer::ident_at(inner, start).to_owned());
                start = (index + 1).min(inner.len());
            }
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty() && name != "self");
    found
}

/// Paths of `super::` that climb to the root of the crate, with the module that they then name.
fn super_paths(file: &File) -> Vec<(usize, String)> {
    let depth = depth_of(&file.path);
    let mut found = Vec::new();
    for at in words(&file.code, "super") {
        let before = file.code[..at].trim_end();
        if before.ends_with("super::") || before.ends_with("in") {
            continue; // counted from its first `super`; or a visibility
        }
        let (mut climbed, mut next) = (0, at);
        while file.code[next..].starts_with("super::") {
            climbed += 1;
            next += "super::".len();
        }
        // Inline modules (`mod tests`) add a level that is not worth tracking: they can only climb less far.
        let inline = usize::from(file.in_test(at) && !file.is_test);
        if climbed >= depth + inline {
            found.extend(heads(&file.code, next).into_iter().map(|head| (at, head)));
        }
    }
    found
}

/// How many `super::` lead from a file to the root of the crate: 1 for `src/io/mod.rs`, 2 for `src/io/uring.rs`.
fn depth_of(path: &str) -> usize {
    let parts = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    parts.split('/').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
//! ```text
//! 5 composition   boot, this file           may import all; nothing imports it
//! 4 Python        wsgi, conf  ->  py        pyo3 from here up only
//! 3 processes     worker | arbiter          never each other
//! 2 resources     io | logging
//! 1 kernel        sys                       the only libc/nix besides io
//! 0 pure          settings | http           no I/O
//! ```
";

    #[test]
    fn the_table_is_read() {
        let floors = Floors::parse(TABLE);
        let expected = [
            ("boot", 5),
            ("wsgi", 4),
            ("conf", 4),
            ("py", 4),
            ("worker", 3),
            ("io", 2),
            ("sys", 1),
            ("http", 0),
        ];
        for (module, floor) in expected {
            assert_eq!(floors.of(module), Some(floor), "{module}");
        }
        assert_eq!(floors.of("nothing"), None);
    }

    #[test]
    fn imports_that_go_down_are_allowed() {
        let floors = Floors::parse(TABLE);
        let good = [
            ("src/io/uring.rs", "use crate::sys::clock; use crate::io::x; use super::y;"),
            ("src/wsgi/environ.rs", "use crate::{py::intern, http::{head, body}};"),
            ("src/boot/mod.rs", "use crate::worker::run; use crate::{VERSION, arbiter};"),
            ("src/http/head.rs", "// crate::io is forbidden\nlet x = \"crate::io\"; pub(crate) fn f() {}"),
            ("src/http/tests/split.rs", "use super::super::head;"),
        ];
        for (path, text) in good {
            assert_eq!(floors.check(&File::new(path, text)), [] as [&str; 0], "{path}");
        }
    }

    #[test]
    fn other_imports_are_found() {
        let floors = Floors::parse(TABLE);
        let bad = [
            ("src/http/head.rs", "use std::fmt;\nuse crate::settings::x;", "2", "sideways"),
            ("src/http/head.rs", "fn f() { crate::io::poll(); }", "1", "upwards"),
            ("src/io/mod.rs", "use crate::{\n  sys, logging::Logger,\n};", "1", "sideways"),
            ("src/worker/conn.rs", "use super::super::arbiter::plan;", "1", "sideways"),
            ("src/worker/mod.rs", "use super::{io, wsgi};", "1", "upwards"),
            ("src/py/error.rs", "use crate::wsgi::x;", "1", "sideways"),
            ("src/wsgi/mod.rs", "use crate::conf;", "1", "sideways"),
            ("src/sys/mod.rs", "use crate::VERSION;", "1", "top floor or on none"),
            ("src/arbiter/run.rs", "use crate::boot::main;", "1", "upwards"),
        ];
        for (path, text, line, reason) in bad {
            let findings = floors.check(&File::new(path, text));
            assert_eq!(findings.len(), 1, "{path} {text}: {findings:?}");
            assert!(findings[0].starts_with(&format!("{path}:{line}: ")), "{findings:?}");
            assert!(findings[0].contains(reason), "{findings:?}");
        }
    }
}
