//! The files that the rules look at.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::lexer::{self, code_only};

/// Folders of the repository that people write in. Corpora hold bytes, not text.
const FOLDERS: [&str; 8] = ["src", "crates", "tests", "bench", "ci", "python", "docs", "examples"];
const SKIPPED: [&str; 6] = ["target", "corpus", "artifacts", "__pycache__", "node_modules", "results"];
const TEXT: [&str; 8] = ["rs", "py", "pyi", "sh", "toml", "md", "txt", "yml"];

/// A text file: its path from the root of the repository, with `/`, and its contents.
pub struct File {
    /// `crates/rgunicorn-io/src/sys/mod.rs`
    pub path: String,
    /// The whole text.
    pub text: String,
    /// `text` without comments and strings; for files that are not Rust, `text` itself.
    pub code: String,
    /// The whole file is compiled for tests only.
    pub is_test: bool,
}

impl File {
    /// Makes a file as the rules see it. Its path tells whether it is a test.
    pub fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { code_only(text) } else { text.to_owned() };
        Self { path: path.to_owned(), text: text.to_owned(), code, is_test: is_test_path(path) }
    }

    /// Renders `path:line: message`, the form of every finding.
    pub fn finding(&self, offset: usize, message: &str) -> String {
        format!("{}:{}: {message}", self.path, lexer::line_of(&self.text, offset))
    }

    /// Tells whether the byte `offset` is test code: in a test file or inside an item under `#[cfg(test)]` or
    /// `#[test]`.
    pub fn in_test(&self, offset: usize) -> bool {
        self.is_test || test_items(&self.code).any(|(start, end)| (start..end).contains(&offset))
    }
}

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    // The variable of the run wins, so that a binary that was built elsewhere looks at the tree it runs in.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.ancestors().nth(2).map(Path::to_path_buf).expect("the package lies two folders below the root")
}

/// Reads the file at `path`, from the root of the repository.
///
/// # Panics
/// If it cannot be read.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names the folder of a crate's sources in which a file lies: `src`, or `crates/NAME/src`.
pub fn source_of(path: &str) -> Option<&str> {
    if path.starts_with("src/") {
        return Some("src");
    }
    let name = path.strip_prefix("crates/")?.split('/').next()?;
    let source = &path[..("crates/".len() + name.len() + "/src".len()).min(path.len())];
    (source.ends_with("/src") && path[source.len()..].starts_with('/')).then_some(source)
}

/// Reads all text files, sorted by path.
pub fn files() -> Vec<File> {
    let mut paths = Vec::new();
    for entry in read_dir(&root()) {
        if entry.is_file() {
            paths.push(entry);
        }
    }
    for folder in FOLDERS {
        walk(&root().join(folder), &mut paths);
    }
    let mut files: Vec<File> = paths.iter().filter(|path| is_text(path)).map(|path| file(path)).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    mark_test_modules(&mut files);
    files
}

/// Reads the Rust files of the product: below `src/` and `crates/*/src/`.
pub fn sources() -> Vec<File> {
    let mut files = files();
    files.retain(|file| source_of(&file.path).is_some() && file.path.ends_with(".rs"));
    files
}

fn file(path: &Path) -> File {
    let relative = path.strip_prefix(root()).expect("every path was found below the root").to_string_lossy();
    File::new(&relative, &read(&relative))
}

fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|extension| TEXT.iter().any(|text| extension == *text))
}

fn read_dir(folder: &Path) -> Vec<PathBuf> {
    // A folder that does not exist yet has no files.
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    for path in read_dir(folder) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_symlink() || name.starts_with('.') || SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            walk(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

fn is_test_path(path: &str) -> bool {
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    path.starts_with("tests/")
        || path.contains("/tests/")
        || ["tests", "test", "testing"].contains(&stem)
        || stem.ends_with("_tests")
        || stem.ends_with("_test")
}

/// Marks the files behind `#[cfg(test)] mod name;`, which may have any name.
fn mark_test_modules(files: &mut [File]) {
    let names: BTreeSet<String> = files.iter().flat_map(test_module_files).collect();
    for file in files {
        file.is_test |= names.contains(&file.path);
    }
}

fn test_module_files(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    for (start, end) in test_items(&file.code) {
        let item = &file.code[start..end];
        let Some(at) = lexer::words(item, "mod").next() else {
            continue;
        };
        if !item.ends_with(';') {
            continue;
        }
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let stem = file.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        let name = lexer::ident_at(item, at + 3);
        let inner = if ["mod", "lib", "main"].contains(&stem) { String::new() } else { format!("{stem}/") };
        found.push(match path_attribute(&file.text[start..end]) {
            Some(path) => format!("{folder}/{path}"),
            None => format!("{folder}/{inner}{name}.rs"),
        });
    }
    found
}

fn path_attribute(item: &str) -> Option<&str> {
    item.split_once("#[path = \"")?.1.split_once('"').map(|(path, _)| path)
}

/// Lists the byte ranges of items under `#[cfg(test)]`, `#[cfg(all(test, …))]` and `#[test]`.
fn test_items(code: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut starts: Vec<usize> = ["#[cfg(test)]", "#[cfg(all(test", "#[test]"]
        .iter()
        .flat_map(|attribute| code.match_indices(attribute).map(|(at, _)| at))
        .collect();
    starts.sort_unstable();
    starts.into_iter().map(|start| (start, item_end(code, start)))
}

/// Returns the end of the item whose attributes start at `start`: its closing brace or its semicolon.
fn item_end(code: &str, start: usize) -> usize {
    let bytes = code.as_bytes();
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'{' => return lexer::group_end(code, at),
            b'(' | b'[' => at = lexer::group_end(code, at),
            b';' => return at + 1,
            _ => at += 1,
        }
    }
    code.len()
}

#[test]
fn test_code_is_told_from_the_rest() {
    let source = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() {} }\nfn c() {}\n#[test]\nfn d() { e() }\n";
    let file = File::new("src/x.rs", source);
    let is_test = |text: &str| file.in_test(source.find(text).expect("the sample has it"));
    assert!(!is_test("fn a") && is_test("fn b") && !is_test("fn c") && is_test("e()"));
    assert!(File::new("src/http/tests/split.rs", "").is_test && !File::new("src/http/head.rs", "").is_test);
}

#[test]
fn sources_are_told_by_their_crate() {
    assert_eq!(source_of("src/boot/mod.rs"), Some("src"));
    assert_eq!(source_of("crates/rgunicorn-io/src/sys/net.rs"), Some("crates/rgunicorn-io/src"));
    for other in ["crates/rgunicorn-io/tests/driver.rs", "crates/rgunicorn-io/srcs/x.rs", "bench/src/main.rs"]
    {
        assert_eq!(source_of(other), None, "{other}");
    }
}

#[test]
fn test_modules_in_their_own_file_are_found() {
    let text = "#[cfg(test)]\n#[path = \"tests/split.rs\"]\nmod split;\n#[cfg(test)]\nmod oracle;\n";
    assert_eq!(
        test_module_files(&File::new("src/http/mod.rs", text)),
        ["src/http/tests/split.rs", "src/http/oracle.rs"]
    );
    assert_eq!(
        test_module_files(&File::new("src/http/head.rs", "#[cfg(test)] mod fuzz;")),
        ["src/http/head/fuzz.rs"]
    );
}
