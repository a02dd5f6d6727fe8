//! Rules about text, whatever the language: length, leftovers, headers, blanks.

use crate::lexer::words;
use crate::tree::File;

/// A file that a reader can hold in mind. What grows beyond it is two things.
pub const LINES_MAX: usize = 600;
/// The settings table is one long list of rows, read by searching.
pub const TABLE_LINES_MAX: usize = 1_500;
/// Most files are much shorter than the longest.
pub const MEDIAN_LINES_MAX: usize = 200;

/// Words that mark work left undone, spelled so that this file does not find itself.
const LEFTOVERS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("db", "g!")];

/// Tells whether this is the source file whose rows are the settings.
fn is_table(path: &str) -> bool {
    path.starts_with("crates/rgunicorn-settings/src/table")
}

fn is_code(path: &str) -> bool {
    [".rs", ".py", ".sh"].iter().any(|extension| path.ends_with(extension))
}

/// Finds a file of code that is longer than a reader can hold in mind.
pub fn length(file: &File) -> Vec<String> {
    let max = if is_table(&file.path) { TABLE_LINES_MAX } else { LINES_MAX };
    let lines = file.text.lines().count();
    if !is_code(&file.path) || lines <= max {
        return Vec::new();
    }
    vec![format!("{}:{lines}: longer than {max} lines", file.path)]
}

/// Returns the median number of lines of `files`; 0 for none.
pub fn median_lines(files: &[File]) -> usize {
    let mut lines: Vec<usize> = files.iter().map(|file| file.text.lines().count()).collect();
    lines.sort_unstable();
    lines.get(lines.len() / 2).copied().unwrap_or(0)
}

/// Finds what is marked as unfinished: an open end belongs in an issue.
pub fn leftovers(file: &File) -> Vec<String> {
    let marks = LEFTOVERS.iter().flat_map(|mark| words(&file.text, mark).map(move |at| (at, mark)));
    marks.map(|(at, mark)| file.finding(at, &format!("`{mark}` left behind"))).collect()
}

/// Finds a Rust file that does not open with `//!`: what it is, what it may not know, how to read it.
pub fn module_docs(file: &File) -> Vec<String> {
    if !file.path.ends_with(".rs") || file.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![file.finding(0, "the file does not open with `//! what it is`")]
}

/// Finds tabs, blanks at line ends, and an end that is not one line break.
pub fn blanks(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in file.text.split('\n').enumerate() {
        let at = |what: &str| format!("{}:{}: {what}", file.path, index + 1);
        if line.contains('\t') {
            findings.push(at("a tab"));
        }
        if line.trim_end() != line {
            findings.push(at("blanks at the end of the line"));
        }
    }
    let ends_well = file.text.is_empty() || (file.text.ends_with('\n') && !file.text.ends_with("\n\n"));
    if !ends_well {
        findings.push(format!("{}:{}: must end with one line break", file.path, file.text.lines().count()));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rule: fn(&File) -> Vec<String>, path: &str, text: &str) -> usize {
        rule(&File::new(path, text)).len()
    }

    #[test]
    fn long_files_are_found() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert_eq!(found(length, "src/http/head.rs", &long), 1);
        assert_eq!(found(length, "src/http/head.rs", &"x\n".repeat(LINES_MAX)), 0);
        assert_eq!(found(length, "crates/rgunicorn-settings/src/table.rs", &long), 0);
        assert_eq!(
            found(length, "crates/rgunicorn-settings/src/table.rs", &"x\n".repeat(TABLE_LINES_MAX + 1)),
            1
        );
        assert_eq!(found(length, "docs/settings.md", &long), 0);
        let sizes = [10, 1000, 30].map(|lines| File::new("src/x.rs", &"x\n".repeat(lines)));
        assert_eq!((median_lines(&sizes), median_lines(&[])), (30, 0));
    }

    #[test]
    fn leftovers_are_found() {
        let text = format!("a\n// {}: later\n{}(x)\nTODOS\n", LEFTOVERS[0], LEFTOVERS[3]);
        assert_eq!(found(leftovers, "src/x.rs", &text), 2);
    }

    #[test]
    fn files_without_a_header_are_found() {
        assert_eq!(found(module_docs, "src/x.rs", "use std::fmt;\n//! late\n"), 1);
        assert_eq!(found(module_docs, "src/x.rs", "//! What it is.\n"), 0);
        assert_eq!(found(module_docs, "python/x.py", "import os\n"), 0);
    }

    #[test]
    fn stray_blanks_are_found() {
        assert_eq!(found(blanks, "a.md", "a\tb\nc \nd"), 3);
        assert_eq!(found(blanks, "a.md", "a\n\nb\n\n"), 1);
        assert_eq!(found(blanks, "a.md", "a\r\nb\n"), 1);
        assert_eq!(found(blanks, "a.md", "a\n\nb\n") + found(blanks, "py.typed", ""), 0);
    }
}
