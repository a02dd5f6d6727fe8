//! The real tree, held against each rule of the house.
//!
//! A finding reads `path:line: what is wrong`. Change the code, not the rule; if the rule is wrong, say why in the
//! commit that changes it.

use rgunicorn_tidy::floors::Floors;
use rgunicorn_tidy::tree::{self, File, files, read, root, sources};
use rgunicorn_tidy::{docs, limits, packages, places, prose, text};

/// The crates whose modules may not all import each other: a table in the header of their `lib.rs` says which may.
const WITH_FLOORS: [&str; 4] =
    ["src", "crates/rgunicorn-http/src", "crates/rgunicorn-io/src", "crates/rgunicorn-server/src"];

/// The packages that a wheel is made of.
const SHIPPED: [&str; 5] = [
    "Cargo.toml",
    "crates/rgunicorn-http/Cargo.toml",
    "crates/rgunicorn-io/Cargo.toml",
    "crates/rgunicorn-server/Cargo.toml",
    "crates/rgunicorn-settings/Cargo.toml",
];

/// Fails with one finding a line.
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "{} finding(s):\n{}", findings.len(), findings.join("\n"));
}

fn over(files: &[File], rule: impl Fn(&File) -> Vec<String>) -> Vec<String> {
    files.iter().flat_map(rule).collect()
}

/// Runs `rule` with the table of each crate that has one over the files of that crate.
fn over_floors(rule: impl Fn(&Floors, &File) -> Vec<String>) -> Vec<String> {
    let sources = sources();
    let of = |source: &'static str| {
        let floors = Floors::parse(&read(&format!("{source}/lib.rs")));
        assert!(!floors.is_empty(), "{source}/lib.rs has lost its table");
        let files = sources.iter().filter(move |file| tree::source_of(&file.path) == Some(source));
        files.flat_map(|file| rule(&floors, file)).collect::<Vec<_>>()
    };
    WITH_FLOORS.into_iter().flat_map(of).collect()
}

#[test]
fn every_module_has_a_floor() {
    assert_none(&over_floors(Floors::homeless));
}

#[test]
fn imports_go_down_only() {
    assert_none(&over_floors(Floors::check));
}

#[test]
fn unsafe_stays_where_it_is_needed() {
    assert_none(&over(&sources(), places::unsafe_code));
}

#[test]
fn files_are_changed_by_paths_that_are_looked_at() {
    assert_none(&over(&sources(), places::changes_by_path));
}

#[test]
fn failures_that_cannot_happen_say_why() {
    assert_none(&over(&sources(), places::unwraps));
}

#[test]
fn files_are_short() {
    assert_none(&over(&files(), text::length));
}

#[test]
fn the_median_file_is_short() {
    let production: Vec<File> = sources().into_iter().filter(|file| !file.is_test).collect();
    let median = text::median_lines(&production);
    assert!(median <= text::MEDIAN_LINES_MAX, "the median source file has {median} lines");
}

#[test]
fn nothing_unfinished_is_left() {
    assert_none(&over(&files(), text::leftovers));
}

#[test]
fn rust_files_open_with_what_they_are() {
    assert_none(&over(&files(), text::module_docs));
}

#[test]
fn no_tabs_and_no_trailing_blanks() {
    assert_none(&over(&files(), text::blanks));
}

#[test]
fn summaries_name_their_subject_or_begin_with_a_verb() {
    let product = |file: &File| tree::source_of(&file.path).is_some() || file.path.starts_with("python/");
    assert_none(&over(&files(), |file| if product(file) { prose::summaries(file) } else { Vec::new() }));
}

#[test]
fn comments_are_no_wider_than_a_window() {
    assert_none(&over(&files(), prose::widths));
}

#[test]
fn there_are_no_doc_tests() {
    assert_none(&over(&sources(), prose::doc_tests));
}

#[test]
fn the_name_of_a_type_means_one_thing_in_its_crate() {
    assert_none(&prose::homonyms(&sources()));
}

#[test]
fn the_wheel_depends_on_few_packages_and_not_on_the_bench() {
    let names = packages::mandatory(&SHIPPED.map(read));
    assert!(names.len() <= packages::MANDATORY_MAX, "{} mandatory dependencies: {names:?}", names.len());
    assert_none(&packages::bench_leaks(&names, &read("Cargo.lock")));
}

/// The pages of which every name and link is checked. What CHANGELOG.md names may be gone by now.
fn pages(files: &[File]) -> Vec<docs::Text<'_>> {
    let pages = files.iter().filter(|file| file.path.ends_with(".md") && file.path != "CHANGELOG.md");
    pages.map(|file| (file.path.as_str(), file.text.as_str())).collect()
}

#[test]
fn what_the_pages_name_exists() {
    let (files, paths) = (files(), docs::paths(&root()));
    let all: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    let code = docs::Code::new(&all, &paths);
    let findings = pages(&files).into_iter().flat_map(|page| docs::unknown_names(page, &code));
    assert_none(&findings.collect::<Vec<_>>());
}

#[test]
fn the_links_of_the_pages_lead_somewhere() {
    let (files, paths) = (files(), docs::paths(&root()));
    let pages = pages(&files);
    let findings = pages.iter().flat_map(|page| docs::dead_links(*page, &pages, &paths));
    assert_none(&findings.collect::<Vec<_>>());
}

#[test]
fn the_page_of_limits_has_every_bound_and_its_value() {
    let page = ("docs/limits.md", read("docs/limits.md"));
    let is_python = |file: &File| file.path.starts_with("python/") && file.path.ends_with(".py");
    let python = files().into_iter().filter(is_python);
    let product: Vec<File> = sources().into_iter().chain(python).filter(|file| !file.is_test).collect();
    let mut findings = over(&product, |file| {
        // A simulation is for tests.
        let mut bounds = limits::constants(&file.path, &file.text);
        bounds.retain(|bound| !file.in_test(bound.at) && !file.path.contains("/sim/"));
        limits::missing_rows(&file.path, &bounds, &page.1)
    });
    let texts: Vec<_> = product.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    findings.extend(limits::wrong_rows((page.0, &page.1), &texts));
    assert_none(&findings);
}
