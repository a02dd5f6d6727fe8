//! The values that each kind accepts. A refusal names the value and the allowed ones; [`super::Invalid`] puts
//! the setting's name before it.

use super::address;
use super::network::Networks;
use super::number::{self, NotANumber, Notation};
use super::raw::{Raw, python_repr};
use super::table::{DefaultValue, Row, Value, ValueKind};

/// The reason for which a value was refused, without the setting's name.
pub(super) type Reason = String;

/// The texts of the environment variable `SENDFILE` that switch it on; any other one switches it off.
const SENDFILE_ON: [&str; 4] = ["y", "1", "yes", "true"];

/// Checks `raw` for `row`.
///
/// # Errors
/// The reason for which the value is refused.
pub(super) fn check(row: &Row, raw: &Raw) -> Result<Value, Reason> {
    match row.kind {
        ValueKind::Flag => flag(raw),
        ValueKind::Count | ValueKind::Seconds | ValueKind::Mode => count(raw),
        ValueKind::Text | ValueKind::Driver => {
            Ok(text(raw)?.map_or_else(|| builtin(row), Value::Text)).and_then(|v| choice(row, v))
        }
        ValueKind::OptText => Ok(text(raw)?.map_or(Value::None, Value::Text)),
        ValueKind::Account => account(raw),
        ValueKind::Statsd => statsd(raw),
        ValueKind::List => list(raw),
        ValueKind::Commas => commas(raw),
        ValueKind::Peers => peers(raw),
        ValueKind::Map => map(raw),
        ValueKind::Class => class(row, raw),
        ValueKind::Proxy => proxy(raw),
        ValueKind::Cleartext => cleartext(raw),
        ValueKind::Sendfile => sendfile(raw),
        ValueKind::Hook => hook(row, raw),
        ValueKind::Object => Ok(Value::Text(raw.to_string())),
    }
}

/// Returns the built-in value of `row`. The table's tests prove that each one passes its own check.
pub(super) fn builtin(row: &Row) -> Value {
    let owned = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
    match row.default {
        DefaultValue::None => Value::None,
        DefaultValue::Flag(on) => Value::Flag(on),
        DefaultValue::Int(number) => Value::Int(number),
        DefaultValue::Text(text) if matches!(row.kind, ValueKind::Commas | ValueKind::Peers) => {
            Value::List(split_commas(text))
        }
        DefaultValue::Text(text) => Value::Text(text.to_owned()),
        DefaultValue::List(items) => Value::List(owned(items)),
        DefaultValue::Map(pairs) => {
            Value::Map(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        }
    }
}

/// Reads a value given as text from outside Python (command line, environment): ints are read here, by their
/// own notation, so that a bad one is a usage error.
///
/// # Errors
/// The text is no int, where one is needed, or too large.
pub(super) fn from_outside(row: &Row, text: &str) -> Result<Raw, Reason> {
    let notation = match row.kind {
        ValueKind::Count | ValueKind::Seconds => Notation::Decimal,
        ValueKind::Mode => Notation::Octal,
        ValueKind::Sendfile => {
            return Ok(Raw::Bool(SENDFILE_ON.contains(&text.to_ascii_lowercase().as_str())));
        }
        _ => return Ok(Raw::Str(text.to_owned())),
    };
    match number::parse(text, notation) {
        Ok(number) => Ok(Raw::Int(number)),
        Err(NotANumber::Syntax) => Err(format!("invalid int value: {}", python_repr(text))),
        Err(NotANumber::TooLarge) => Err(format!("int value too large: {}", python_repr(text))),
    }
}

fn flag(raw: &Raw) -> Result<Value, Reason> {
    let named = match raw {
        Raw::Bool(on) => Some(*on),
        Raw::Str(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        },
        _ => None,
    };
    named.map(Value::Flag).ok_or_else(|| format!("{} is not a boolean (allowed: True, False)", raw.repr()))
}

fn count(raw: &Raw) -> Result<Value, Reason> {
    let number = match raw {
        Raw::Bool(on) => Ok(i64::from(*on)),
        Raw::Int(number) => Ok(*number),
        Raw::Str(text) => number::parse(text, Notation::Prefixed),
        // An int beyond 64 bits: only its sign matters.
        Raw::Other { type_name, repr } if type_name == "int" => {
            if repr.starts_with('-') {
                Ok(i64::MIN)
            } else {
                Err(NotANumber::TooLarge)
            }
        }
        _ => Err(NotANumber::Syntax),
    };
    let reason = match number.map(u32::try_from) {
        Ok(Ok(number)) => return Ok(Value::Int(number)),
        Ok(Err(_)) if number.is_ok_and(|number| number < 0) => "is negative",
        Ok(Err(_)) | Err(NotANumber::TooLarge) => "is too large",
        Err(NotANumber::Syntax) => "is not an integer",
    };
    Err(format!("{} {reason} (allowed: 0 to {}; as text also 0x, 0o, 0b)", raw.repr(), u32::MAX))
}

/// Strips the blanks around a str; `None` for Python's None.
fn text(raw: &Raw) -> Result<Option<String>, Reason> {
    match raw {
        Raw::None => Ok(None),
        Raw::Str(text) => Ok(Some(text.trim().to_owned())),
        _ => Err(format!("{} is not a string", raw.repr())),
    }
}

fn choice(row: &Row, value: Value) -> Result<Value, Reason> {
    let Value::Text(text) = &value else {
        return Ok(value);
    };
    if row.choices.is_empty() {
        return Ok(value);
    }
    let folded = text.to_lowercase();
    if row.choices.contains(&folded.as_str()) {
        return Ok(Value::Text(folded));
    }
    Err(format!("{} is unknown (allowed: {})", python_repr(text), row.choices.join(", ")))
}

/// Checks an account's form only. The process that changes to the account looks its name up; this floor asks
/// no system.
fn account(raw: &Raw) -> Result<Value, Reason> {
    match raw {
        Raw::None => Ok(Value::None),
        Raw::Int(number) if u32::try_from(*number).is_ok() => Ok(Value::Text(number.to_string())),
        Raw::Str(text) if !text.trim().is_empty() => Ok(Value::Text(text.trim().to_owned())),
        _ => Err(format!("{} is neither a name nor a number", raw.repr())),
    }
}

fn statsd(raw: &Raw) -> Result<Value, Reason> {
    let Some(text) = text(raw)? else { return Ok(Value::None) };
    address::check_statsd(&text)?;
    Ok(Value::Text(text))
}

fn list(raw: &Raw) -> Result<Value, Reason> {
    let items = match raw {
        Raw::None => return Ok(Value::List(Vec::new())),
        Raw::Str(text) if text.is_empty() => return Ok(Value::List(Vec::new())),
        Raw::Str(text) => return Ok(Value::List(vec![text.trim().to_owned()])),
        Raw::List(items) => items,
        _ => {
            return Err(format!("{} is neither a string nor a list of strings", raw.repr()));
        }
    };
    let texts = items.iter().map(|item| match item {
        Raw::Str(text) => Ok(text.trim().to_owned()),
        other => Err(format!("{} in the list is not a string", other.repr())),
    });
    Ok(Value::List(texts.collect::<Result<_, _>>()?))
}

fn commas(raw: &Raw) -> Result<Value, Reason> {
    match text(raw) {
        Ok(text) => Ok(Value::List(split_commas(text.as_deref().unwrap_or_default()))),
        Err(reason) => Err(format!("{reason} (allowed: one string, items separated by commas)")),
    }
}

fn split_commas(text: &str) -> Vec<String> {
    text.split(',').filter(|item| !item.is_empty()).map(|item| item.trim().to_owned()).collect()
}

fn peers(raw: &Raw) -> Result<Value, Reason> {
    let value = commas(raw)?;
    if let Value::List(items) = &value {
        Networks::parse(items).map_err(|fault| format!("{fault} (allowed: IP addresses, networks, *)"))?;
    }
    Ok(value)
}

fn map(raw: &Raw) -> Result<Value, Reason> {
    let Raw::Dict(pairs) = raw else {
        return Err(format!("{} is not a dictionary", raw.repr()));
    };
    let texts = pairs.iter().map(|(key, value)| match value {
        Raw::Str(text) => Ok((key.clone(), text.clone())),
        other => Err(format!("the value {} of {} is not a string", other.repr(), python_repr(key))),
    });
    Ok(Value::Map(texts.collect::<Result<_, _>>()?))
}

fn proxy(raw: &Raw) -> Result<Value, Reason> {
    let folded = match raw {
        Raw::None | Raw::Bool(false) => "off".to_owned(),
        Raw::Bool(true) => "auto".to_owned(),
        Raw::Str(text) => text.trim().to_ascii_lowercase(),
        _ => String::new(),
    };
    let mode = match folded.as_str() {
        "off" | "false" | "0" | "none" => "off",
        "auto" | "true" | "1" => "auto",
        "v1" => "v1",
        "v2" => "v2",
        _ => return Err(format!("{} is unknown (allowed: off, v1, v2, auto)", raw.repr())),
    };
    Ok(Value::Text(mode.to_owned()))
}

fn cleartext(raw: &Raw) -> Result<Value, Reason> {
    const MODES: [&str; 4] = ["off", "prior-knowledge", "upgrade", "both"];
    let folded = match raw {
        Raw::None | Raw::Bool(false) => "off".to_owned(),
        Raw::Bool(true) => "prior-knowledge".to_owned(),
        Raw::Str(text) => text.trim().to_ascii_lowercase(),
        _ => String::new(),
    };
    if MODES.contains(&folded.as_str()) {
        return Ok(Value::Text(folded));
    }
    Err(format!("{} is unknown (allowed: {})", raw.repr(), MODES.join(", ")))
}

fn sendfile(raw: &Raw) -> Result<Value, Reason> {
    if *raw == Raw::None { Ok(Value::None) } else { flag(raw) }
}

/// Takes a function as it is shown. Only Python can tell whether it is one, and takes the right arguments.
fn hook(row: &Row, raw: &Raw) -> Result<Value, Reason> {
    match raw {
        Raw::None => Ok(builtin(row)),
        Raw::Str(_) | Raw::Other { .. } => Ok(Value::Text(raw.to_string())),
        _ => Err(format!("{} is not callable", raw.repr())),
    }
}

/// Takes a worker class. A class object keeps its `repr`, so that the refusal can name it.
fn class(row: &Row, raw: &Raw) -> Result<Value, Reason> {
    match raw {
        Raw::Other { repr, .. } => Ok(Value::Text(repr.clone())),
        _ => Ok(text(raw)?.map_or_else(|| builtin(row), Value::Text)),
    }
}
