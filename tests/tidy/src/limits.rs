//! Rules about the page of limits: every bound in the code has a row there, and the values of the rows are those of the
//! code.
//!
//! A row is `` | `NAME` | value | `path` | reason | ``. Texts go in and findings come out.

use crate::docs::Text;

/// Numeric constants of these endings bound something. A constant `Duration` always does.
const ENDINGS: [&str; 7] = ["_MAX", "_MIN", "_CAP", "_EVERY", "_AFTER", "_S", "_BYTES_DEFAULT"];
const NUMBERS: [&str; 8] = ["u8", "i8", "u16", "u32", "i32", "u64", "usize", "f64"];

/// Rows whose values are not compared: name, file, and the reason.
const NOT_EVALUATED: [(&str, &str, &str); 1] =
    [("KEPT_BYTES_MAX", "proxy/reader.rs", "the larger of two constants of other files, which have rows")];

/// A constant of a source file.
#[derive(Debug)]
pub struct Constant<'a> {
    /// Offset of its definition.
    pub at: usize,
    name: &'a str,
    /// Empty in Python.
    kind: &'a str,
    value: &'a str,
}

impl Constant<'_> {
    fn is_bound(&self) -> bool {
        let ends = ENDINGS.iter().any(|ending| self.name.ends_with(ending));
        self.kind == "Duration" || ends && (self.kind.is_empty() || NUMBERS.contains(&self.kind))
    }
}

/// Returns the constants of a Rust or Python file.
pub fn constants<'a>(path: &str, text: &'a str) -> Vec<Constant<'a>> {
    let parse = if path.ends_with(".py") { in_python } else { in_rust };
    let mut at = 0;
    let mut found = Vec::new();
    for line in text.split_inclusive('\n') {
        found.extend(parse(text, at));
        at += line.len();
    }
    found
}

/// Parses the constant whose line begins at `at`.
fn in_rust(text: &str, at: usize) -> Option<Constant<'_>> {
    let code = text[at..].trim_start_matches(' ');
    let code = if code.starts_with("pub") { code.split_once(' ')?.1 } else { code };
    let (head, value) = code.strip_prefix("const ")?.split_once(';')?.0.split_once('=')?;
    let (name, kind) = head.split_once(':')?;
    is_constant(name).then(|| Constant { at, name, kind: kind.trim(), value: value.trim() })
}

fn in_python(text: &str, at: usize) -> Option<Constant<'_>> {
    let (name, value) = text[at..].lines().next()?.split_once(" = ")?;
    is_constant(name).then_some(Constant { at, name, kind: "", value })
}

fn is_constant(name: &str) -> bool {
    let of_a_constant = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    name.bytes().all(of_a_constant) && name.bytes().any(|byte| byte.is_ascii_uppercase())
}

struct Row<'a> {
    line: usize,
    name: &'a str,
    value: &'a str,
    file: &'a str,
}

fn rows(page: &str) -> impl Iterator<Item = Row<'_>> {
    page.lines().enumerate().filter_map(|(index, line)| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.strip_suffix('`')?;
        let value = cells.next()?;
        let file = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some(Row { line: index + 1, name, value, file })
    })
}

/// Tells whether `path` is `end`, or ends in it after a `/`.
fn ends_in(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

/// Finds bounds among the `constants` of a file that have no row in `page`.
pub fn missing_rows(path: &str, constants: &[Constant<'_>], page: &str) -> Vec<String> {
    let missing = constants.iter().filter(|constant| {
        let has_row = rows(page).any(|row| row.name == constant.name && ends_in(path, row.file));
        constant.is_bound() && !has_row
    });
    missing.map(|constant| format!("{path}: `{}` has no row in the page of limits", constant.name)).collect()
}

/// Finds rows of `page` that name what `files` do not have, or give it another value, or one that is not understood.
pub fn wrong_rows(page: Text<'_>, files: &[Text<'_>]) -> Vec<String> {
    let mut findings = Vec::new();
    for row in rows(page.1) {
        let mut find = |what: String| findings.push(format!("{}:{}: {what}", page.0, row.line));
        let Some((path, text)) = files.iter().find(|(path, _)| ends_in(path, row.file)) else {
            find(format!("there is no `{}`", row.file));
            continue;
        };
        let Some(source) = definition(path, text, row.name) else {
            find(format!("`{}` does not define `{}`", row.file, row.name));
            continue;
        };
        match (written(row.value), evaluate(source, &constants(path, text))) {
            (None, _) => find(format!("`{}` is no value", row.value)),
            (Some(said), Some(is)) if (said - is).abs() > said.abs() * 1e-9 => {
                find(format!("`{}` is {is}, and not {}", row.name, row.value));
            }
            (Some(_), None) if !is_allowed(&row) => {
                find(format!("`{}`: `{source}` cannot be evaluated", row.name));
            }
            _ => {}
        }
    }
    findings
}

/// Tells whether a row's value may be one that is not understood.
fn is_allowed(row: &Row<'_>) -> bool {
    NOT_EVALUATED.iter().any(|(name, file, _)| (row.name, row.file) == (*name, *file))
}

/// Returns the expression that a constant, or (names in lower case) a field in the defaults of a struct, is set to.
fn definition<'a>(path: &str, text: &'a str, name: &str) -> Option<&'a str> {
    if is_constant(name) {
        return constants(path, text).iter().find(|constant| constant.name == name).map(|found| found.value);
    }
    let fields = text.lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("(super) ");
        line.strip_prefix(name)?.strip_prefix(": ")?.strip_suffix(',')
    });
    let mut fields: Vec<&str> = fields.collect();
    // The type stands before the default.
    (fields.len() > 1).then(|| fields.swap_remove(1))
}

/// Parses `1,024`, `64 KiB` or `500 us`, in bytes and seconds.
fn written(value: &str) -> Option<f64> {
    let (number, unit) = value.split_once(' ').unwrap_or((value, ""));
    let number: f64 = number.replace(',', "").parse().ok()?;
    let unit = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "us" => 1e-6,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(number * unit)
}

/// Evaluates an expression of numbers, constants of the same file, `+`, `*`, `<<` and the makers of
/// `Duration`, in bytes and seconds. `None` for a richer one.
fn evaluate(expression: &str, constants: &[Constant<'_>]) -> Option<f64> {
    let expression = expression.trim();
    for operator in [" << ", " + ", " * "] {
        if let Some((left, right)) = split_outside(expression, operator) {
            let (left, right) = (evaluate(left, constants)?, evaluate(right, constants)?);
            return Some(match operator {
                " << " => left * right.exp2(),
                " + " => left + right,
                _ => left * right,
            });
        }
    }
    if let Some(inner) = expression.strip_suffix(')') {
        let (maker, inner) = inner.split_once('(')?;
        let unit = match maker.trim_start_matches("Duration::") {
            "" | "from_secs" => 1.0,
            "from_millis" => 1e-3,
            "from_micros" => 1e-6,
            _ => return None,
        };
        return Some(evaluate(inner, constants)? * unit);
    }
    if let Ok(number) = expression.replace('_', "").parse() {
        return Some(number);
    }
    let constant = constants.iter().find(|constant| constant.name == expression)?;
    evaluate(constant.value, constants)
}

/// Splits at the last `operator` that stands in no bracket.
fn split_outside<'a>(expression: &'a str, operator: &str) -> Option<(&'a str, &'a str)> {
    let balanced = |text: &str| text.matches('(').count() == text.matches(')').count();
    let at = expression.rmatch_indices(operator).map(|(at, _)| at).find(|at| balanced(&expression[..*at]))?;
    Some((&expression[..at], &expression[at + operator.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "/// A bound.\npub(super) const LOOK_EVERY: Duration = Duration::from_millis(5);\n\
        const PATIENCE: Duration = Duration::from_secs(1);\nconst ITEM_BYTES: usize = 2 * (4 + 2);\n\
        const LARGER: u8 = A.max(B);\n\
        const KEPT_BYTES_MAX: usize =\n    ITEM_BYTES + 2;\nconst NAME_MAX: &str = \"x\";\n\
        pub struct Tuning {\n    pub window_bytes_max: usize,\n}\nfn default() -> Tuning {\n    Tuning {\n        \
        window_bytes_max: 64 * 1024,\n    }\n}\n";

    fn page(rows: &str) -> String {
        format!("# Limits\n\n| constant | value | where | reason |\n| --- | --- | --- | --- |\n{rows}")
    }

    #[test]
    fn bounds_without_a_row_are_found() {
        let page =
            page("| `LOOK_EVERY` | 5 ms | `worker/fair.rs` | |\n| `PATIENCE` | 1 s | `io/probe.rs` | |\n");
        let missing = missing_rows("src/worker/fair.rs", &constants("x.rs", CODE), &page);
        let names: Vec<&str> = missing.iter().filter_map(|finding| finding.split('`').nth(1)).collect();
        assert_eq!(names, ["PATIENCE", "KEPT_BYTES_MAX"]);
        let python = constants("x.py", "FRAMES_MAX = 100\nNAME = \"x\"\nx = A_MAX = 1\n");
        assert_eq!(missing_rows("python/x/_stacks.py", &python, &page).len(), 1);
    }

    #[test]
    fn rows_that_are_wrong_are_found() {
        let files = [("src/worker/fair.rs", CODE), ("python/x/_stacks.py", "TEXT_MAX = 64 * 1024\n")];
        let wrong = |row: &str| wrong_rows(("docs/limits.md", &page(row)), &files);
        let good = [
            "| `LOOK_EVERY` | 5 ms | `worker/fair.rs` | |",
            "| `KEPT_BYTES_MAX` | 14 | `fair.rs` | |",
            "| `window_bytes_max` | 64 KiB | `worker/fair.rs` | |",
            "| `TEXT_MAX` | 65,536 | `x/_stacks.py` | |",
        ];
        good.iter().for_each(|row| assert_eq!(wrong(row), [] as [&str; 0], "{row}"));
        let bad = [
            ("| `LOOK_EVERY` | 6 ms | `worker/fair.rs` | |", "`LOOK_EVERY` is 0.005, and not 6 ms"),
            ("| `LOOK_EVERY` | 5 ms | `worker/far.rs` | |", "there is no `worker/far.rs`"),
            ("| `LOOK_AGAIN` | 5 ms | `worker/fair.rs` | |", "`worker/fair.rs` does not define `LOOK_AGAIN`"),
            (
                "| `window_bytes_max` | 32 KiB | `worker/fair.rs` | |",
                "`window_bytes_max` is 65536, and not 32 KiB",
            ),
            (
                "| `window_bytes` | 32 KiB | `worker/fair.rs` | |",
                "`worker/fair.rs` does not define `window_bytes`",
            ),
            ("| `TEXT_MAX` | much | `x/_stacks.py` | |", "`much` is no value"),
            ("| `LARGER` | 14 | `fair.rs` | |", "`LARGER`: `A.max(B)` cannot be evaluated"),
        ];
        for (row, what) in bad {
            assert_eq!(wrong(row), [format!("docs/limits.md:5: {what}")], "{row}");
        }
    }

    #[test]
    fn expressions_are_evaluated() {
        let constants = constants("x.rs", CODE);
        let table = [
            ("1 << 30", Some(1_073_741_824.0)),
            ("2 * 3 + 4", Some(10.0)),
            ("-2", Some(-2.0)),
            ("5.007_489_1", Some(5.007_489_1)),
            ("Duration::from_secs(1_000)", Some(1000.0)),
            ("if A > B { A } else { B }", None),
        ];
        for (expression, value) in table {
            assert_eq!(evaluate(expression, &constants), value, "{expression}");
        }
    }
}
