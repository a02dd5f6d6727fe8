//! The settings of one server, the faults that a value may have, and the readers that the accessors of the
//! table stand on. `resolve.rs` fills them.

use std::fmt;
use std::time::Duration;

use super::table::{IoDriver, Value};

/// The resolved settings: one checked value per row of the table.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) values: Vec<Value>,
    /// The source of each value; `None` for the built-in one.
    pub(super) origins: Vec<Option<Origin>>,
    pub(super) unknown_names: Vec<UnknownName>,
    pub(super) app: Option<String>,
}

/// The source of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable.
    Environment(&'static str),
    /// The configuration file.
    File,
    /// `GUNICORN_CMD_ARGS` or the command line.
    Arguments,
}

/// A refused value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The setting.
    pub setting: &'static str,
    /// The value as Python's `str()` shows it.
    pub value: String,
    /// Its source; `None` for the built-in value.
    pub origin: Option<Origin>,
    /// The fault, and the allowed values.
    pub reason: String,
}

/// Displays the fault without a newline at the end. From a file: `Invalid value for NAME: VALUE` on a line
/// before `Error: TEXT`.
impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, value, origin, reason } = self;
        match origin {
            Some(Origin::File) => {
                write!(f, "Invalid value for {setting}: {value}\nError: {setting}: {reason}")
            }
            Some(Origin::Environment(name)) => write!(f, "Error: {setting} (from {name}): {reason}"),
            Some(Origin::Arguments) | None => write!(f, "Error: {setting}: {reason}"),
        }
    }
}

impl std::error::Error for Invalid {}

/// A name in the configuration file that sets nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    /// As written.
    pub name: String,
    /// The setting that was probably meant.
    pub nearest: Option<&'static str>,
    /// True for a setting that Gunicorn has and this release does not act on.
    pub not_yet: bool,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, nearest, not_yet } = self;
        match nearest {
            _ if *not_yet => write!(f, "Setting {name} has no effect in this release"),
            Some(nearest) => {
                write!(f, "Unknown setting {name} in the configuration file: did you mean {nearest}?")
            }
            None => write!(f, "Unknown setting {name} in the configuration file"),
        }
    }
}

impl Settings {
    /// Returns the names in the configuration file that set nothing, in its order.
    pub fn unknown_names(&self) -> &[UnknownName] {
        &self.unknown_names
    }

    // The accessors of the table stand on the following, which find a value by its row's place in the table.
    // A kind's check makes only that kind's values (proved by the table's tests), so the other arms are never
    // taken.

    pub(super) fn flag(&self, place: usize) -> bool {
        matches!(&self.values[place], Value::Flag(true))
    }

    pub(super) fn int(&self, place: usize) -> u32 {
        if let Value::Int(number) = &self.values[place] { *number } else { 0 }
    }

    pub(super) fn unless_off(&self, place: usize) -> bool {
        !matches!(&self.values[place], Value::Flag(false))
    }

    pub(super) fn seconds(&self, place: usize) -> Duration {
        Duration::from_secs(u64::from(self.int(place)))
    }

    pub(super) fn opt_text(&self, place: usize) -> Option<&str> {
        if let Value::Text(text) = &self.values[place] { Some(text) } else { None }
    }

    pub(super) fn text(&self, place: usize) -> &str {
        self.opt_text(place).unwrap_or_default()
    }

    pub(super) fn list(&self, place: usize) -> &[String] {
        if let Value::List(items) = &self.values[place] { items } else { &[] }
    }

    pub(super) fn map(&self, place: usize) -> &[(String, String)] {
        if let Value::Map(pairs) = &self.values[place] { pairs } else { &[] }
    }

    pub(super) fn driver(&self, place: usize) -> IoDriver {
        match self.text(place) {
            "uring" => IoDriver::Uring,
            "epoll" => IoDriver::Epoll,
            _ => IoDriver::Auto,
        }
    }
}
