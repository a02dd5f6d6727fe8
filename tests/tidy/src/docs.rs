//! Rules about the pages: what they name exists, and their links lead somewhere.
//!
//! Texts go in and findings come out, `path:line: what is wrong`. A name is looked up as a whole word in the
//! sources; how a name is told from prose is in `names`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A text file: its path from the root of the repository, and its contents.
pub type Text<'a> = (&'a str, &'a str);

/// Names of other programs and of examples, which no source has to spell: whose they are, and what.
const FOREIGN: [(&str, &[&str]); 10] = [
    (
        "the kernel",
        &[
            "CAP_SYS_ADMIN",
            "CLOSE",
            "DEFER_TASKRUN",
            "DONTFORK",
            "F_MORE",
            "IORING_SQ_TASKRUN",
            "MADV_DONTNEED",
            "NO_SQARRAY",
            "SINGLE_ISSUER",
            "SQPOLL",
            "io_uring_register",
            "tcp_mem",
            "tcp_migrate_req",
            "tcp_wmem",
        ],
    ),
    (
        "systemd",
        &[
            "ExecReload",
            "KillMode",
            "LimitMEMLOCK",
            "LimitNOFILE",
            "ListenStream",
            "PIDFile",
            "SocketUser",
            "SystemCallFilter",
            "TimeoutStopSec",
            "WatchdogSec",
        ],
    ),
    (
        "nginx",
        &[
            "client_max_body_size",
            "fail_timeout",
            "proxy_read_timeout",
            "proxy_request_buffering",
            "proxy_set_header",
        ],
    ),
    ("Werkzeug", &["ProxyFix", "x_for"]),
    ("Flask", &["MAX_CONTENT_LENGTH", "MAX_FORM_MEMORY_SIZE"]),
    ("Django", &["DATA_UPLOAD_MAX_MEMORY_SIZE"]),
    ("Kubernetes", &["RuntimeDefault", "preStop", "terminationGracePeriodSeconds"]),
    ("crates and the standard library", &["Submitter", "io::Error"]),
    ("Unix", &["diff", "local0"]),
    ("examples", &["gunicorn/VERSION", "header_bytes_max", "pause_ms", "script.py"]),
];

/// Endings of paths.
const FILES: [&str; 9] = [".rs", ".py", ".pyi", ".sh", ".md", ".toml", ".tsv", ".yml", ".lock"];

/// The code that pages speak of.
pub struct Code<'a> {
    files: Vec<Text<'a>>,
    /// Of everything, pages and data included.
    paths: &'a [String],
    words: BTreeSet<&'a str>,
}

impl<'a> Code<'a> {
    /// Indexes the code. `all`: every text file of the repository. `paths`: every file.
    pub fn new(all: &[Text<'a>], paths: &'a [String]) -> Self {
        // Not this file: its list of names must not count.
        let is_own = |path: &str| path.contains("tidy") && path.ends_with("/docs.rs");
        let is_code = |path: &str| !path.ends_with(".md") && !is_own(path);
        let files: Vec<Text<'a>> = all.iter().copied().filter(|(path, _)| is_code(path)).collect();
        let words = files.iter().flat_map(|(_, text)| words(text)).map(|(_, word)| word).collect();
        Self { files, paths, words }
    }

    /// Tells whether a source has the word, or (`limit_request_*`) one that begins so.
    fn knows(&self, word: &str) -> bool {
        let begins =
            |start: &str| self.words.range(start..).next().is_some_and(|word| word.starts_with(start));
        self.words.contains(word) || word.strip_suffix('*').is_some_and(begins)
    }

    /// Tells whether a file or folder has this path, or one that ends in it.
    fn has_path(&self, path: &str) -> bool {
        let folder = format!("/{}/", path.trim_end_matches('/'));
        let is_folder = || self.paths.iter().any(|file| format!("/{file}").contains(&folder));
        self.paths.iter().any(|file| ends_in(file, path)) || is_folder()
    }

    fn at(&self, path: &str) -> impl Iterator<Item = Text<'a>> {
        self.files.iter().copied().filter(move |(file, _)| ends_in(file, path))
    }
}

/// Returns the paths of all files below `root`, but for what is built or of a version control.
pub fn paths(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_symlink() || [".git", ".venv", "target", "__pycache__"].contains(&&*name) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if let Ok(relative) = path.strip_prefix(root) {
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    found
}

/// Says that none of `files` defines both `owner` and its `name`, if so.
fn wrong_member<'a>(owner: &str, name: &str, mut files: impl Iterator<Item = Text<'a>>) -> Option<String> {
    let module = (format!("/{owner}/"), format!("{owner}.rs"));
    let has_both = files.any(|(path, text)| {
        let is_module = || format!("/{path}").contains(&module.0) || ends_in(path, &module.1);
        (owns(text, owner) || is_module()) && (defines(text, name) || exports(text, name))
    });
    (!has_both).then(|| format!("no file has both `{owner}` and its `{name}`"))
}

/// Tells whether `path` is `end`, or ends in it after a `/`. `*` in `end` stands for any characters but `/`.
fn ends_in(path: &str, end: &str) -> bool {
    let Some((front, back)) = end.split_once('*') else {
        return path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
    };
    let Some(rest) = path.strip_suffix(back) else { return false };
    rest.rmatch_indices(front).any(|(at, _)| {
        let starts = at == 0 || rest[..at].ends_with('/');
        starts && !rest[at + front.len()..].contains('/')
    })
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Returns the words of `text` with their offsets.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = text.as_bytes();
    let starts = move |at: &usize| is_word(bytes[*at]) && (*at == 0 || !is_word(bytes[at - 1]));
    (0..bytes.len()).filter(starts).map(move |at| {
        let length = bytes[at..].iter().position(|byte| !is_word(*byte)).unwrap_or(bytes.len() - at);
        (at, &text[at..at + length])
    })
}

fn places<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(name).map(|(at, _)| at).filter(move |&at| {
        let bytes = text.as_bytes();
        let ends = bytes.get(at + name.len()).is_none_or(|byte| !is_word(*byte));
        ends && (at == 0 || !is_word(bytes[at - 1]))
    })
}

/// Tells whether `text` defines the item, the field, the variant or the Python name `name`.
fn defines(text: &str, name: &str) -> bool {
    const KEYWORDS: [&str; 12] = [
        "fn",
        "struct",
        "enum",
        "trait",
        "const",
        "static",
        "mod",
        "type",
        "def",
        "class",
        "macro_rules!",
        "union",
    ];
    places(text, name).any(|at| {
        let line = text[..at].rsplit('\n').next().unwrap_or_default().trim();
        let after = text[at + name.len()..].trim_start_matches(' ');
        let keyword = line.split_whitespace().next_back().unwrap_or_default();
        let visible = line.is_empty() || line.starts_with("pub") && !line.contains(['=', ';', ':', '{']);
        KEYWORDS.contains(&keyword) || visible && after.starts_with([',', '(', ':', '{', '=', '\n', '-'])
    })
}

/// Tells whether `text` passes the item on (`pub use`).
fn exports(text: &str, name: &str) -> bool {
    places(text, name).any(|at| {
        let statement = text[..at].rsplit(';').next().unwrap_or_default();
        statement.lines().any(|line| line.trim_start().starts_with("pub use"))
    })
}

/// Tells whether `text` defines `owner`, or has methods of it.
fn owns(text: &str, owner: &str) -> bool {
    places(text, owner).any(|at| {
        let line = text[..at].rsplit('\n').next().unwrap_or_default().trim();
        let last = line.split_whitespace().next_back().unwrap_or_default();
        ["struct", "enum", "trait", "impl", "for", "type", "class", "mod"].contains(&last)
            || line.starts_with("impl<") && line.ends_with('>')
    })
}

/// Blanks the fenced blocks of a page: their characters become spaces, so that offsets stay.
fn prose(page: &str) -> String {
    let mut fenced = false;
    let mut out = String::with_capacity(page.len());
    for line in page.split_inclusive('\n') {
        let fence = line.trim_start().starts_with("```");
        if fence || fenced {
            out.extend(line.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        } else {
            out.push_str(line);
        }
        fenced ^= fence;
    }
    out
}

/// Returns the code spans of a page with their offsets.
fn spans(prose: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = prose[at..].find('`').map(|open| at + open) {
        let ticks = prose[open..].bytes().take_while(|byte| *byte == b'`').count();
        let (start, tick) = (open + ticks, "`".repeat(ticks));
        let Some(length) = prose[start..].find(&tick) else { break };
        found.push((start, &prose[start..start + length]));
        at = start + length + ticks;
    }
    found
}

fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// A name in a code span.
#[derive(Debug, PartialEq, Eq)]
enum Name<'a> {
    Path(&'a str),
    Word(&'a str),
    /// `Conn::feed`
    Member(&'a str, &'a str),
    /// `Conn::feed (worker/conn.rs)`
    Placed(Option<&'a str>, &'a str, &'a str),
}

/// Returns the names in a code span. A word is a name if it is the whole span, is called, stands beside `::`,
/// or looks like no English word: it has an underscore, or capitals inside.
fn names(span: &str) -> Vec<Name<'_>> {
    // A span may go over a line end.
    if let Some((item, path)) = span.strip_suffix(')').and_then(|span| span.rsplit_once('('))
        && is_path(path)
        && let Some(name) = item.trim_end().rsplit("::").next()
    {
        let owner = item.trim_end().strip_suffix(name).and_then(|owner| owner.strip_suffix("::"));
        return vec![Name::Placed(owner, name, path)];
    }
    if !span.is_empty() && span.bytes().all(is_word) && !is_number(span) {
        return vec![Name::Word(span)];
    }
    let mut found = Vec::new();
    for part in span.split_whitespace() {
        let part = part.trim_matches(['(', ')', ',', ';', '"', '\'', '[', ']']);
        if part.starts_with(['/', '-', '$', '%', '<']) || part.contains("://") || part.contains('\\') {
            continue; // of the system, an option, an address
        }
        if is_path(part) {
            found.push(Name::Path(part));
        } else {
            names_of_code(part, &mut found);
        }
    }
    found
}

fn names_of_code<'a>(code: &'a str, found: &mut Vec<Name<'a>>) {
    let mut before: Option<&str> = None;
    for (at, word) in words(code) {
        let after = &code[at + word.len()..];
        if let Some(owner) = before.filter(|_| code[..at].ends_with("::")) {
            found.push(Name::Member(owner, word));
        } else if after.starts_with('*') && word.ends_with('_') {
            found.push(Name::Word(&code[at..=at + word.len()]));
        } else if looks_like_a_name(word) || after.starts_with("(") && word.len() > 2 && !is_number(word) {
            found.push(Name::Word(word));
        }
        before = Some(word);
    }
}

fn is_number(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_digit())
}

fn looks_like_a_name(word: &str) -> bool {
    let inner = word.trim_matches('_');
    let camel = word.starts_with(char::is_uppercase)
        && word.chars().skip(1).any(char::is_uppercase)
        && word.chars().any(char::is_lowercase);
    !is_number(word) && (inner.contains('_') || camel)
}

fn is_path(part: &str) -> bool {
    let of_a_path = |byte: u8| is_word(byte) || b"./*-+".contains(&byte);
    let named = FILES.iter().any(|end| part.strip_suffix(end).is_some_and(|stem| !stem.is_empty()));
    let in_a_folder = part.contains('/') && !part.contains("//") && !part.starts_with('.');
    part.bytes().all(of_a_path) && !is_number(part) && (named || in_a_folder)
}

/// Finds names in the code spans of `page` that the code does not have.
pub fn unknown_names((path, page): Text<'_>, code: &Code<'_>) -> Vec<String> {
    let prose = prose(page);
    let mut findings = Vec::new();
    for (at, span) in spans(&prose) {
        let unknown = names(span).into_iter().filter_map(|name| unknown(&name, code));
        findings.extend(unknown.map(|what| format!("{path}:{}: {what}", line_of(page, at))));
    }
    findings
}

fn unknown(name: &Name<'_>, code: &Code<'_>) -> Option<String> {
    let spelt = match *name {
        Name::Member(owner, name) => format!("{owner}::{name}"),
        Name::Path(name) | Name::Word(name) | Name::Placed(_, name, _) => name.to_owned(),
    };
    match *name {
        _ if FOREIGN.iter().any(|(_, names)| names.contains(&&*spelt)) => None,
        Name::Path(file) => {
            let known = code.has_path(file) || code.files.iter().any(|(_, text)| text.contains(file));
            (!known).then(|| format!("there is no `{file}`"))
        }
        Name::Word(word) => (!code.knows(word)).then(|| format!("no source has `{word}`")),
        Name::Member(owner, name) => wrong_member(owner, name, code.files.iter().copied()),
        Name::Placed(_, _, file) if !code.has_path(file) => Some(format!("there is no `{file}`")),
        Name::Placed(Some(owner), name, file) => {
            let wrong = wrong_member(owner, name, code.at(file));
            wrong.map(|wrong| format!("`{file}`: {wrong}"))
        }
        Name::Placed(None, name, file) => {
            let defined = code.at(file).any(|(_, text)| defines(text, name));
            (!defined).then(|| format!("`{file}` does not define `{name}`"))
        }
    }
}

/// Finds relative links of `page` that lead to no file, or to no heading of one of `pages`.
pub fn dead_links((path, page): Text<'_>, pages: &[Text<'_>], paths: &[String]) -> Vec<String> {
    let prose = prose(page);
    let mut findings = Vec::new();
    for (at, target) in links(&prose) {
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let file = if file.is_empty() { path.to_owned() } else { beside(path, file) };
        let mut find = |what: &str| findings.push(format!("{path}:{}: {what}: {target}", line_of(page, at)));
        let text = pages.iter().find(|(page, _)| *page == file).map(|(_, text)| *text);
        match text {
            None if !is_there(&file, paths) => find("a link to a file that does not exist"),
            Some(text) if !anchor.is_empty() && !headings(text).contains(anchor) => {
                find("a link to no heading")
            }
            None | Some(_) => {}
        }
    }
    findings
}

fn is_there(file: &str, paths: &[String]) -> bool {
    let folder = format!("{}/", file.trim_end_matches('/'));
    paths.iter().any(|path| path == file || path.starts_with(&folder))
}

/// Returns the targets of `[text](target)` that are not addresses of the web, with their offsets.
fn links(prose: &str) -> Vec<(usize, &str)> {
    let found = prose.match_indices("](").filter_map(|(at, _)| {
        let target = prose[at + 2..].split([')', '\n']).next()?;
        (!target.contains("://") && !target.starts_with("mailto:")).then_some((at, target))
    });
    found.collect()
}

/// Resolves `target` as seen from the folder of `page`.
fn beside(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Returns the anchors that a forge gives to the headings of a page.
fn headings(page: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for line in prose(page).lines() {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
        let count = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "pub struct Conn { fd: i32 }\nimpl Conn {\n    pub(super) fn feed(&self) {}\n}\n\
        enum Phase {\n    Idle,\n    Running(u8),\n}\nimpl<'a> Master<'a> {\n    fn serve(self) {}\n}\n\
        const WAIT_MAX: usize = 1;\nfn reload_waits() {}\n";

    fn found(page: &str) -> Vec<String> {
        let files =
            [("src/worker/conn.rs", CODE), ("python/x/_stacks.py", "def report():\n"), ("docs/a.md", "")];
        let paths = files.map(|(path, _)| path.to_owned());
        unknown_names(("docs/a.md", page), &Code::new(&files, &paths))
    }

    #[test]
    fn names_that_exist_are_fine() {
        let page = "`Conn::feed (worker/conn.rs)`, `Conn (worker/conn.rs)`, `Conn::feed`, `Phase::Running(_)`, `fd`, \
            `Master::serve`, `WAIT_MAX`, `reload_waits()`, `worker/conn.rs`, `worker/`, `x/_*.py`, `worker::Conn`, \
            `report (x/_stacks.py)`, `Conn::feed\n  (worker/conn.rs)`, `a.md`, `reload_*`, `io::Error`, `feed`, `GET /feeds/now.rs`, `--not-one`, `an english word`, `200 OK`\n\
            ```rust\nNothing::here (is/looked/at.rs)\n```\n`a code span\nover a line end`\n";
        assert_eq!(found(page), [] as [&str; 0]);
    }

    #[test]
    fn names_that_do_not_exist_are_found() {
        let bad = [
            ("`Conn::fed (worker/conn.rs)`", "`worker/conn.rs`: no file has both `Conn` and its `fed`"),
            ("`Con::feed (worker/conn.rs)`", "`worker/conn.rs`: no file has both `Con` and its `feed`"),
            ("`Conn::feed (worker/com.rs)`", "there is no `worker/com.rs`"),
            ("`report (worker/conn.rs)`", "`worker/conn.rs` does not define `report`"),
            ("`Conn::fed`", "no file has both `Conn` and its `fed`"),
            ("`Phase::Busy`", "no file has both `Phase` and its `Busy`"),
            ("`WAIT_MIN` and `Phase`", "no source has `WAIT_MIN`"),
            ("`reload_awaits`", "no source has `reload_awaits`"),
            ("`awaits(x)`", "no source has `awaits`"),
            ("`Desk`", "no source has `Desk`"),
            ("`wait_*`", "no source has `wait_*`"),
            ("`ConnTable`", "no source has `ConnTable`"),
            ("`io/uring/`", "there is no `io/uring/`"),
            ("`b.md`", "there is no `b.md`"),
        ];
        for (page, what) in bad {
            assert_eq!(found(page), [format!("docs/a.md:1: {what}")], "{page}");
        }
        assert_eq!(found("a\n\n```\nx\n```\nb `c_d`\n"), ["docs/a.md:6: no source has `c_d`"]);
    }

    #[test]
    fn dead_links_are_found() {
        let other = "# Title\n## The `code`, and more!\n## Twice\n## Twice\n```\n# no heading\n```\n";
        let pages = [("docs/a.md", "## Here\n"), ("docs/b.md", other), ("README.md", "")];
        let paths = ["docs/a.md", "docs/b.md", "README.md", "ci/check.sh"].map(str::to_owned);
        let links = |page: &str| dead_links(("docs/a.md", page), &pages, &paths);
        let good = "[x](b.md) [x](b.md#the-code-and-more) [x](b.md#twice-1) [x](#here) [x](../README.md) [x](../ci) \
            [x](../ci/check.sh) [x](https://a.b/c.md#d)";
        assert_eq!(links(good), [] as [&str; 0]);
        for bad in ["c.md", "b.md#no-heading", "b.md#twice-2", "#there", "README.md", "../cid"] {
            assert_eq!(links(&format!("\n[x]({bad})")).len(), 1, "{bad}");
        }
    }
}
