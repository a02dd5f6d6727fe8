//! Rules about comments and names: how a summary begins, how wide a comment is, that a name means one thing.

use std::collections::BTreeMap;

use crate::lexer::{self, words};
use crate::tree::{self, File};

/// Summaries that begin so say what something is by pointing at it. A type's is a noun phrase, a function's
/// begins with a verb in the third person.
const BAD_OPENINGS: [&str; 8] = ["What", "Who", "Whose", "Those", "The same", "It", "So", "Nor"];

/// Columns of a comment. rustfmt breaks code at 110 and leaves comments alone; Python's linter allows 120,
/// and so do the pages, so that a paragraph can move between them.
pub const COMMENT_COLUMNS_MAX: usize = 120;

/// Keywords that give a type its name.
const TYPE_KEYWORDS: [&str; 5] = ["struct", "enum", "union", "trait", "type"];

/// Type names that a crate may have more than once: crate, name, and the reason.
const SAME_NAMES: [(&str, &str, &str); 0] = [];

/// Words behind a fence that leave a block Rust, besides editions.
const RUSTDOC_WORDS: [&str; 7] =
    ["compile_fail", "ignore", "no_run", "rust", "should_panic", "standalone_crate", "test_harness"];

/// A documentation comment: where it stands, and its lines without their marks.
struct Doc<'a> {
    line: usize,
    offset: usize,
    lines: Vec<&'a str>,
}

/// Collects the documentation comments of a Rust file.
fn docs(file: &File) -> Vec<Doc<'_>> {
    let mut found: Vec<Doc<'_>> = Vec::new();
    let mut last = None;
    for (start, end) in lexer::comments(&file.text) {
        let comment = &file.text[start..end];
        let Some((mark, text)) =
            ["//!", "///"].iter().find_map(|mark| Some((*mark, comment.strip_prefix(mark)?)))
        else {
            continue;
        };
        let line = lexer::line_of(&file.text, start);
        match found.last_mut() {
            Some(doc) if last == Some((mark, line - 1)) => doc.lines.push(text),
            _ => found.push(Doc { line, offset: start, lines: vec![text] }),
        }
        last = Some((mark, line));
    }
    found
}

/// Tells whether `text` begins with the words `opening`.
fn begins(text: &str, opening: &str) -> bool {
    text.strip_prefix(opening).is_some_and(|rest| !rest.bytes().next().is_some_and(lexer::is_word))
}

/// Finds summaries that neither name their subject nor begin with a verb.
pub fn summaries(file: &File) -> Vec<String> {
    let bad = |text: &str| BAD_OPENINGS.into_iter().find(|opening| begins(text.trim_start(), opening));
    let message = |opening: &str| format!("a summary that begins with `{opening}`");
    if file.path.ends_with(".rs") {
        let docs = docs(file);
        let found = docs.iter().filter_map(|doc| Some((doc.offset, bad(doc.lines[0])?)));
        return found
            .filter(|(at, _)| !file.in_test(*at))
            .map(|(at, opening)| file.finding(at, &message(opening)))
            .collect();
    }
    if !file.path.ends_with(".py") || file.is_test {
        return Vec::new();
    }
    let lines = file.text.lines().zip(1..);
    let docs = lines.filter_map(|(text, line)| Some((text.trim_start().strip_prefix("\"\"\"")?, line)));
    docs.filter_map(|(text, line)| Some(format!("{}:{line}: {}", file.path, message(bad(text)?)))).collect()
}

/// Finds comments that are wider than a reader's window.
pub fn widths(file: &File) -> Vec<String> {
    if !file.path.ends_with(".rs") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (start, end) in lexer::comments(&file.text) {
        let line_start = file.text[..start].rfind('\n').map_or(0, |at| at + 1);
        for (index, line) in file.text[line_start..end].split('\n').enumerate() {
            let columns = line.chars().count();
            if columns > COMMENT_COLUMNS_MAX {
                let line = lexer::line_of(&file.text, start) + index;
                findings.push(format!("{}:{line}: a comment of {columns} columns", file.path));
            }
        }
    }
    findings
}

/// Finds doc tests: no step of the check runs any, so an example is marked as something that is not run.
pub fn doc_tests(file: &File) -> Vec<String> {
    if !file.path.ends_with(".rs") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for doc in docs(file) {
        for index in code_blocks(&doc.lines) {
            let line = doc.line + index;
            findings.push(format!("{}:{line}: a doc test: nothing would run it; write ```text", file.path));
        }
    }
    findings
}

/// Returns the indices of the lines where rustdoc sees a block of Rust begin: a fence that names no other language, or
/// four columns of indentation after an empty line, outside of a list.
fn code_blocks(lines: &[&str]) -> Vec<usize> {
    let mut found = Vec::new();
    let (mut fence, mut in_list, mut after_empty) = (None, false, true);
    for (index, line) in lines.iter().enumerate() {
        let text = line.trim();
        let mark = ["```", "~~~"].into_iter().find(|mark| text.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => {
                fence = Some(mark);
                found.extend(is_rust(text.trim_start_matches(['`', '~'])).then_some(index));
            }
            (Some(open), Some(mark)) if open == mark => fence = None,
            (Some(_), _) => {}
            (None, None) if line.starts_with("     ") => {
                found.extend((after_empty && !in_list).then_some(index));
            }
            (None, None) if is_list_item(text) => in_list = true,
            (None, None) => in_list &= text.is_empty() || !after_empty,
        }
        after_empty = text.is_empty();
    }
    found
}

/// Tells whether rustdoc takes a block with these words behind its fence for Rust: the first one decides.
fn is_rust(language: &str) -> bool {
    let mut words = language.split([',', ' ', '\t']).filter(|word| !word.is_empty());
    let known = |word: &str| {
        RUSTDOC_WORDS.contains(&word) || word.starts_with("edition") || word.starts_with("ignore-")
    };
    words.clone().any(|word| word == "rust") || words.next().is_none_or(known)
}

/// Tells whether a line begins an item of a list.
fn is_list_item(text: &str) -> bool {
    let mark = text.split(' ').next().unwrap_or_default();
    let number = mark.strip_suffix(['.', ')']).unwrap_or_default();
    ["-", "*", "+"].contains(&mark) || !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Lists the types that a file defines outside of its tests, by name and offset. Associated types are not
/// among them.
fn types(file: &File) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    for keyword in TYPE_KEYWORDS {
        for at in words(&file.code, keyword) {
            let name = lexer::ident_at(&file.code, at + keyword.len());
            let line_start = file.code[..at].rfind('\n').map_or(0, |at| at + 1);
            let is_associated = keyword == "type" && file.code[line_start..at].starts_with(' ');
            if name.starts_with(|first: char| first.is_ascii_uppercase())
                && !is_associated
                && !file.in_test(at)
            {
                found.push((name, at));
            }
        }
    }
    found
}

/// Finds names that more than one type of a crate has.
pub fn homonyms(files: &[File]) -> Vec<String> {
    let mut places: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for file in files {
        let Some(source) = tree::source_of(&file.path) else {
            continue;
        };
        for (name, at) in types(file) {
            places.entry((source, name)).or_default().push(file.finding(at, &format!("`{name}` again")));
        }
    }
    let allowed =
        |(source, name): &(&str, &str)| SAME_NAMES.iter().any(|(of, same, _)| of == source && same == name);
    places.retain(|key, found| found.len() > 1 && !allowed(key));
    places.into_values().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: Vec<String>) -> Vec<usize> {
        let line = |finding: &String| finding.split(':').nth(1).and_then(|line| line.parse().ok());
        findings.iter().filter_map(line).collect()
    }

    #[test]
    fn summaries_that_point_are_found() {
        let rust = "//! What it is.\n\n/// Whatever.\n///\n/// So be it.\nfn a() {}\n\n    /// The same.\n// What\n\
                    /// Itself.\n#[cfg(test)]\nmod tests {\n/// Who\nfn b() {}\n}\n";
        assert_eq!(lines(summaries(&File::new("src/x.rs", rust))), [1, 8]);
        let python =
            "\"\"\"It is.\"\"\"\n\ndef f():\n    \"\"\"Nor this.\n\n    So.\n    \"\"\"\n\"\"\"Items\"\"\"\n";
        assert_eq!(lines(summaries(&File::new("python/x.py", python))), [1, 4]);
        assert_eq!(lines(summaries(&File::new("tests/py/x.py", python))), []);
    }

    #[test]
    fn wide_comments_are_found() {
        let fits = format!("// {}", "\u{e4}".repeat(COMMENT_COLUMNS_MAX - 3));
        let wide = format!("{fits}x");
        let string = format!("f(\"{wide}\")");
        let text = format!("{fits}\n{wide}\nlet x = 1; {fits}\n{string}\n/* a\n{wide} */\n");
        assert_eq!(lines(widths(&File::new("src/x.rs", &text))), [2, 3, 6]);
        assert_eq!(lines(widths(&File::new("docs/x.md", &text))), []);
    }

    #[test]
    fn doc_tests_are_found() {
        let text = "//! ```\n//! run()\n//! ```\n\n/// ```text\n/// a\n/// ```\n///\n/// ```rust,no_run\n/// ```\nfn f() {}\n";
        assert_eq!(lines(doc_tests(&File::new("src/x.rs", text))), [1, 9]);
        let fences =
            ["no_run", "should_panic", "edition2024", "compile_fail,E0277", "ignore", " rust", "no_run,sh"];
        for words in fences {
            let text = format!("/// Runs.\n/// ~~~text\n/// ```\n/// ~~~\n/// ```{words}\n/// x\n/// ```\n");
            assert_eq!(lines(doc_tests(&File::new("src/x.rs", &text))), [5], "{words}");
        }
        for words in ["text", "python", "sh,no_run", "toml"] {
            let text = format!("/// ```{words}\n/// ```\n");
            assert_eq!(lines(doc_tests(&File::new("src/x.rs", &text))), [], "{words}");
        }
    }

    #[test]
    fn indented_doc_tests_are_found() {
        let found = "/// Runs.\n///\n///     run();\n///\n///     again();\n/// - item\n///\n/// Text\n///\n///     b\n";
        assert_eq!(lines(doc_tests(&File::new("src/x.rs", found))), [3, 5, 10]);
        let others = "/// A text\n///     that goes on\n///\n/// 1. item\n///\n///     of two paragraphs\n/// - item\n\
                      ///   goes on\n///\n///     here\n/// ```text\n///\n///     a\n/// ```\n";
        assert_eq!(lines(doc_tests(&File::new("src/x.rs", others))), []);
    }

    #[test]
    fn types_of_the_same_name_are_found() {
        let a =
            File::new("src/a.rs", "struct Owner;\nenum Other {}\n#[cfg(test)]\nmod tests { struct Test; }\n");
        let b =
            File::new("src/b.rs", "trait Owner {\n    type Other;\n}\n/// struct Other\ntype Test = u8;\n");
        let c = File::new("crates/c/src/c.rs", "struct Other;\n");
        assert_eq!(homonyms(&[a, b, c]), ["src/a.rs:1: `Owner` again", "src/b.rs:1: `Owner` again"]);
    }
}
