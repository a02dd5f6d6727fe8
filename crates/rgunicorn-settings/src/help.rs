//! `--help`, made from the table.

use super::check::builtin;
use super::rows::ROWS;
use super::table::{Row, Section, Value, ValueKind};

/// The width of the page, in columns: that of a terminal in its usual size.
const WIDTH_COLUMNS: usize = 80;

/// The column in which the texts begin; argparse's, so that both programs' pages look alike.
const TEXT_COLUMN: usize = 24;

/// Renders the one-line usage.
pub(crate) fn usage(prog: &str) -> String {
    format!("usage: {prog} [OPTIONS] [APP_MODULE]")
}

/// Renders the whole page.
pub fn help(prog: &str) -> String {
    let mut page = usage(prog);
    page.push_str("\n\n");
    wrap(
        &mut page,
        0,
        "Serves a WSGI application. APP_MODULE is MODULE[:EXPR]: EXPR is a name in the module or a call of one, and \
         application when it is left out. Long options may be shortened. Options may also come from the variable \
         GUNICORN_CMD_ARGS and, by the names of their settings, from a configuration file; the command line wins over \
         both.",
    );
    page.push_str("\nOptions:\n");
    entry(&mut page, "-h, --help", "Show this page and exit.");
    entry(&mut page, "-v, --version", "Show the version and exit.");
    for section in Section::ALL {
        page.push_str(&format!("\n{}:\n", section.title()));
        for row in ROWS.iter().filter(|row| row.section == section) {
            entry(&mut page, &left(row), &right(row));
        }
    }
    page
}

/// Renders the flags of a row between `separator`s, without its metavar.
pub(super) fn flags(row: &Row, separator: &str) -> String {
    row.flags().collect::<Vec<_>>().join(separator)
}

fn left(row: &Row) -> String {
    match (row.usage, row.metavar()) {
        ("", _) => format!("({})", row.name),
        (_, "") => flags(row, ", "),
        (_, metavar) => format!("{} {metavar}", flags(row, ", ")),
    }
}

fn right(row: &Row) -> String {
    let mut text = row.text.trim().to_owned();
    if row.usage.is_empty() {
        text.push_str(" Configuration file only.");
    }
    if let Some(env) = row.env {
        text.push_str(&format!(" Environment: {}.", env.name));
    }
    match builtin(row) {
        _ if row.kind == ValueKind::Hook => {}
        Value::None | Value::Flag(false) => {}
        Value::List(items) if items.is_empty() => {}
        Value::List(items) => text.push_str(&format!(" [{}]", items.join(","))),
        value => text.push_str(&format!(" [{value}]")),
    }
    text
}

fn entry(page: &mut String, left: &str, right: &str) {
    page.push_str("  ");
    page.push_str(left);
    let used = 2 + left.len();
    // Two blanks at least between the columns, else the text begins on a line of its own.
    if used + 2 > TEXT_COLUMN {
        page.push('\n');
        page.push_str(&" ".repeat(TEXT_COLUMN));
    } else {
        page.push_str(&" ".repeat(TEXT_COLUMN - used));
    }
    wrap(page, TEXT_COLUMN, right);
}

/// Appends `text` in lines of at most [`WIDTH_COLUMNS`], the first continuing at column `indent`, then a newline.
fn wrap(page: &mut String, indent: usize, text: &str) {
    let mut column = indent;
    for word in text.split_whitespace() {
        if column > indent && column + 1 + word.len() > WIDTH_COLUMNS {
            page.push('\n');
            page.push_str(&" ".repeat(indent));
            column = indent;
        }
        if column > indent {
            page.push(' ');
            column += 1;
        }
        page.push_str(word);
        column += word.len();
    }
    page.push('\n');
}
