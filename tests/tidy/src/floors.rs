//! The table of floors in the header of a crate's `lib.rs`, and which imports it allows.

use std::collections::BTreeMap;

use crate::lexer::{self, words};
use crate::tree::{self, File};

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

    /// Tells whether no table was found.
    pub fn is_empty(&self) -> bool {
        self.floor.is_empty()
    }

    /// Returns the floor of `module`, if the table names it.
    pub fn of(&self, module: &str) -> Option<u8> {
        self.floor.get(module).copied()
    }

    /// Tells why `from` may not import `to`; `None` when it may.
    fn objection(&self, from: &str, to: &str) -> Option<String> {
        let Some(here) = self.of(from) else {
            return Some(format!("`{from}` has no floor in the table of lib.rs"));
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

    /// Finds a module of `file` that has no floor.
    pub fn homeless(&self, file: &File) -> Vec<String> {
        let module = module_of(&file.path);
        let known = module == "lib" || self.of(module).is_some();
        if known { Vec::new() } else { vec![file.finding(0, "not in the table of lib.rs")] }
    }

    /// Finds every forbidden import of `file`.
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

/// Names the module of its crate to which a file belongs: `src/sys/net.rs` and `src/sys.rs` are `sys`.
pub fn module_of(path: &str) -> &str {
    let inside = inside(path);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

/// Returns the path of a file below the sources of its crate.
fn inside(path: &str) -> &str {
    tree::source_of(path).map_or(path, |source| path[source.len()..].trim_start_matches('/'))
}

/// Lists the modules named by `crate::…` paths, with the offsets of the paths. Groups count once per member.
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

/// Lists the first names of the path or of the group `{a::b, c}` at `at`.
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

/// Counts the `super::` that lead from a file to the root of the crate: 1 for `src/sys/mod.rs`, 2 for `src/sys/net.rs`.
fn depth_of(path: &str) -> usize {
    inside(path).trim_end_matches(".rs").trim_end_matches("/mod").split('/').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PYTHON: &str = "\
//! ```text
//! 2 composition   boot, this file           may import all; nothing imports it
//! 1 Python        wsgi, conf  ->  py        a remark
//! ```
";
    const SERVER: &str = "\
//! ```text
//! 2 processes   worker | arbiter   never each other
//! 1 logs        log
//! ```
";

    #[test]
    fn the_table_is_read() {
        let floors = Floors::parse(PYTHON);
        for (module, floor) in [("boot", 2), ("wsgi", 1), ("conf", 1), ("py", 1)] {
            assert_eq!(floors.of(module), Some(floor), "{module}");
        }
        assert_eq!(floors.of("nothing"), None);
        assert!(!floors.is_empty() && Floors::parse("//! No table.\n").is_empty());
    }

    #[test]
    fn modules_without_a_floor_are_found() {
        let floors = Floors::parse(SERVER);
        let found = |path: &str| floors.homeless(&File::new(path, "")).len();
        assert_eq!(found("crates/rgunicorn-server/src/master/run.rs"), 1);
        for good in ["lib.rs", "log.rs", "worker/run.rs"] {
            assert_eq!(found(&format!("crates/rgunicorn-server/src/{good}")), 0, "{good}");
        }
    }

    #[test]
    fn imports_that_go_down_are_allowed() {
        let good = [
            (PYTHON, "src/wsgi/environ.rs", "use crate::{py::intern, wsgi::{head, body}};"),
            (PYTHON, "src/boot/mod.rs", "use crate::conf::read; use crate::{VERSION, wsgi};"),
            (PYTHON, "src/py/mod.rs", "use std::io; use rgunicorn_io::{driver, sys::clock};"),
            (
                SERVER,
                "crates/rgunicorn-server/src/worker/conn.rs",
                "use crate::log::Level; use super::input;",
            ),
            (
                SERVER,
                "crates/rgunicorn-server/src/log/json.rs",
                "// crate::worker is forbidden\nlet x = \"crate::worker\"; pub(crate) fn f() {}",
            ),
            (SERVER, "crates/rgunicorn-server/src/log/tests/json.rs", "use super::super::json;"),
        ];
        for (table, path, text) in good {
            assert_eq!(Floors::parse(table).check(&File::new(path, text)), [] as [&str; 0], "{path}");
        }
    }

    #[test]
    fn other_imports_are_found() {
        let server = |path: &str| format!("crates/rgunicorn-server/src/{path}");
        let bad = [
            (SERVER, server("log/json.rs"), "use std::fmt;\nuse crate::worker::x;", "2", "upwards"),
            (SERVER, server("log/json.rs"), "fn f() { crate::arbiter::poll(); }", "1", "upwards"),
            (SERVER, server("worker/mod.rs"), "use crate::{\n  log, arbiter::plan,\n};", "1", "sideways"),
            (SERVER, server("worker/conn.rs"), "use super::super::arbiter::plan;", "1", "sideways"),
            (SERVER, server("arbiter/mod.rs"), "use super::{log, worker};", "1", "sideways"),
            (PYTHON, "src/py/error.rs".to_owned(), "use crate::wsgi::x;", "1", "sideways"),
            (PYTHON, "src/wsgi/mod.rs".to_owned(), "use crate::conf;", "1", "sideways"),
            (PYTHON, "src/py/mod.rs".to_owned(), "use crate::VERSION;", "1", "top floor or on none"),
            (PYTHON, "src/conf/live.rs".to_owned(), "use crate::boot::main;", "1", "upwards"),
        ];
        for (table, path, text, line, reason) in bad {
            let findings = Floors::parse(table).check(&File::new(&path, text));
            assert_eq!(findings.len(), 1, "{path} {text}: {findings:?}");
            assert!(findings[0].starts_with(&format!("{path}:{line}: ")), "{findings:?}");
            assert!(findings[0].contains(reason), "{findings:?}");
        }
    }
}
