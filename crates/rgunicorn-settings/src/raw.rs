//! A value as a configuration file gives it, before any check. Displayed as Python's `str()` would, because
//! messages quote the text that the user wrote in a Python file.

use std::fmt;

/// A Python value, reduced to the kinds that settings can be made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// `None`.
    None,
    /// `True` or `False`. Python counts it as an int, and so do the checks of int settings.
    Bool(bool),
    /// An int that fits 64 bits; a larger one is an `Other` with the type name `int`.
    Int(i64),
    /// A str.
    Str(String),
    /// A list, tuple, set, or any other iterable that is not a str.
    List(Vec<Self>),
    /// A dict with str keys, in its order.
    Dict(Vec<(String, Self)>),
    /// Anything else: functions, classes, modules, floats.
    Other {
        /// `type(value).__name__`.
        type_name: String,
        /// `repr(value)`.
        repr: String,
    },
}

impl Raw {
    /// Returns Python's `repr()` of the value.
    pub fn repr(&self) -> String {
        match self {
            Self::Str(text) => python_repr(text),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bool(true) => f.write_str("True"),
            Self::Bool(false) => f.write_str("False"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Str(text) => f.write_str(text),
            Self::List(items) => {
                let texts: Vec<String> = items.iter().map(Self::repr).collect();
                write!(f, "[{}]", texts.join(", "))
            }
            Self::Dict(pairs) => {
                let texts: Vec<String> = pairs
                    .iter()
                    .map(|(key, value)| format!("{}: {}", python_repr(key), value.repr()))
                    .collect();
                write!(f, "{{{}}}", texts.join(", "))
            }
            Self::Other { repr, .. } => f.write_str(repr),
        }
    }
}

/// Returns Python's `repr()` of a str: single quotes unless only those occur in the text, control characters
/// escaped.
pub(super) fn python_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || (0x7f..0xa0).contains(&(c as u32)) => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}
