//! Rules about dependencies, read from `Cargo.toml` and `Cargo.lock` by the few lines of TOML that they need.

use std::collections::{BTreeMap, BTreeSet};

/// Every mandatory dependency is code that each user runs; more than this many need a better reason than comfort.
pub const MANDATORY_MAX: usize = 12;

/// How the names of the workspace's own packages begin.
const OWN: &str = "rgunicorn-";

/// Packages of the benches, which must never reach the wheel.
const BENCH_ONLY: [&str; 3] = ["rgunicorn-bench", "tokio", "tokio-uring"];

/// Lists the names in `[dependencies]` of these manifests that are neither optional nor packages of the
/// workspace, once each.
pub fn mandatory(cargo_tomls: &[String]) -> Vec<String> {
    let lines = cargo_tomls.iter().flat_map(|toml| dependencies(toml));
    let names = lines.filter(|line| !line.contains("optional = true")).map(name);
    let names: BTreeSet<String> = names.filter(|name| !name.starts_with(OWN)).collect();
    names.into_iter().collect()
}

/// Packages of the bench that `names` are or reach through others.
pub fn bench_leaks(names: &[String], cargo_lock: &str) -> Vec<String> {
    let graph = graph(cargo_lock);
    let mut reached = BTreeSet::new();
    let mut open = names.to_vec();
    while let Some(package) = open.pop() {
        open.extend(graph.get(&package).into_iter().flatten().cloned());
        if !reached.insert(package) {
            continue;
        }
        open.retain(|next| !reached.contains(next));
    }
    let leaks = BENCH_ONLY.iter().filter(|package| reached.contains(**package));
    leaks.map(|package| format!("Cargo.lock:1: the wheel depends on `{package}` of the bench")).collect()
}

fn dependencies(cargo_toml: &str) -> impl Iterator<Item = &str> {
    let lines = cargo_toml.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| line.contains('=') && !line.starts_with('#'))
}

fn name(line: &str) -> String {
    line.split(['=', '.', ' ']).next().unwrap_or(line).to_owned()
}

/// Maps a package's name to the names of its dependencies (versions ignored: a leak is a leak in any version).
fn graph(cargo_lock: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in cargo_lock.split("[[package]]").skip(1) {
        let quoted =
            |line: &str| line.split('"').nth(1).map(|text| text.split(' ').next().unwrap_or(text).to_owned());
        let Some(name) = package.lines().find(|line| line.starts_with("name = ")).and_then(quoted) else {
            continue;
        };
        let list = package.lines().skip_while(|line| !line.starts_with("dependencies = [")).skip(1);
        graph.entry(name).or_default().extend(list.take_while(|line| *line != "]").filter_map(quoted));
    }
    graph
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "[package]\nname = \"x\"\n\n[dependencies]\nrgunicorn-io.workspace = true\nbytes = \"1\"\n\
        # a remark = 1\npyo3 = { version = \"1\", optional = true }\nnix = { version = \"1\" }\n\n\
        [dev-dependencies]\nproptest = \"1\"\n";
    const BELOW: &str =
        "[dependencies]\nmemchr.workspace = true\nbytes.workspace = true\n\n[lints]\nworkspace = true\n";

    #[test]
    fn own_optional_and_test_dependencies_do_not_count() {
        assert_eq!(mandatory(&[TOML.to_owned(), BELOW.to_owned()]), ["bytes", "memchr", "nix"]);
    }

    #[test]
    fn a_leak_through_another_package_is_found() {
        let names = mandatory(&[TOML.to_owned()]);
        let lock = |last: &str| {
            format!(
                "[[package]]\nname = \"bytes\"\nversion = \"1\"\n\n[[package]]\nname = \"nix\"\ndependencies = [\n \
                 \"mid 0.1.0\",\n]\n\n[[package]]\nname = \"mid\"\ndependencies = [\n \"bytes\",\n \"{last}\",\n]\n"
            )
        };
        assert_eq!(bench_leaks(&names, &lock("tokio")).len(), 1);
        assert_eq!(bench_leaks(&names, &lock("nix")).len(), 0);
        assert_eq!(bench_leaks(&["tokio".to_owned()], "").len(), 1);
    }
}
