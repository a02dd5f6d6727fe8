//! Rules about comments.

use crate::lexer;
use crate::tree::File;

/// A documentation comment: where it stands, and its lines without their marks.
struct Doc<'a> {
    line: usize,
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
            _ => found.push(Doc { line, lines: vec![text] }),
        }
        last = Some((mark, line));
    }
    found
}

/// Tells whether `text` begins with the words `opening`.
fn begins(text: &str, opening: &str) -> bool {
    text.strip_prefix(opening).is_some_and(|rest| !rest.bytes().next().is_some_and(lexer::is_word))
}

/// Finds doc tests: no step of the check runs any, so an example is marked as something that is not run.
pub fn doc_tests(file: &File) -> Vec<String> {
    if !file.path.ends_with(".rs") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for doc in docs(file) {
        let fences = doc
            .lines
            .iter()
            .enumerate()
            .filter_map(|(index, text)| Some((index, text.trim().strip_prefix("```")?)));
        for (index, language) in fences.step_by(2) {
            if language.is_empty() || begins(language, "rust") {
                let line = doc.line + index;
                findings
                    .push(format!("{}:{line}: a doc test: nothing would run it; write ```text", file.path));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: Vec<String>) -> Vec<usize> {
        let line = |finding: &String| finding.split(':').nth(1).and_then(|line| line.parse().ok());
        findings.iter().filter_map(line).collect()
    }

    #[test]
    fn doc_tests_are_found() {
        let text = "//! ```\n//! run()\n//! ```\n\n/// ```text\n/// a\n/// ```\n///\n/// ```rust,no_run\n/// ```\nfn f() {}\n";
        assert_eq!(lines(doc_tests(&File::new("src/x.rs", text))), [1, 9]);
    }
}
