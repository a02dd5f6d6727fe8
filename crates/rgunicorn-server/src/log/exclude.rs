//! Requests that the access log leaves out, by path or by status: health checks, mostly.

use std::fmt;

use super::atoms::AtomSource;

/// The least and the largest status that an entry may name; servers and applications invent numbers beyond
/// 599.
const STATUS_MIN: u16 = 100;
const STATUS_MAX: u16 = 999;

/// The requests that are left out. The default leaves out none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessExclude {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// `/health`: this path, as the application sees it.
    Path(Vec<u8>),
    /// `/static/*`: paths with this beginning.
    Prefix(Vec<u8>),
    /// `404`
    Status(u16),
    /// `2xx`, by its first digit.
    StatusClass(u16),
}

/// An entry that cannot be understood. Display names the entry, the fault and the allowed forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExcludeError {
    entry: String,
    fault: &'static str,
}

impl fmt::Display for ExcludeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entry, fault } = self;
        write!(f, "access_log_exclude: {entry:?} {fault} (allowed: /path, /prefix*, a status as 404 or 2xx)")
    }
}

impl std::error::Error for ExcludeError {}

impl AccessExclude {
    /// Reads the entries of the setting; blanks around them do not count.
    ///
    /// # Errors
    /// The first entry that is neither a path nor a status.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, ExcludeError> {
        let read = |text: &str| {
            Entry::parse(text.trim()).map_err(|fault| ExcludeError { entry: text.to_owned(), fault })
        };
        let entries: Result<_, _> = entries.into_iter().map(read).collect();
        Ok(Self { entries: entries? })
    }

    /// Returns whether the request is left out: any entry is enough.
    pub(super) fn matches(&self, source: &impl AtomSource) -> bool {
        self.entries.iter().any(|entry| entry.matches(source))
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.starts_with('/') {
            return Self::path(text);
        }
        let Some(first) = text.chars().next() else {
            return Err("is empty");
        };
        let digit = first.to_digit(10).and_then(|digit| u16::try_from(digit).ok());
        let Some(digit) = digit else {
            return Err("is neither a path nor a status");
        };
        if text.get(1..).is_some_and(|rest| rest.eq_ignore_ascii_case("xx")) && digit > 0 {
            return Ok(Self::StatusClass(digit));
        }
        // Digits only: a number may begin with a sign elsewhere.
        let status = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        match status {
            Some(status @ STATUS_MIN..=STATUS_MAX) => Ok(Self::Status(status)),
            _ => Err("is not a status"),
        }
    }

    fn path(text: &str) -> Result<Self, &'static str> {
        let (path, is_prefix) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        if path.contains('*') {
            return Err("has a star that is not its end");
        }
        if path.contains('?') {
            return Err("has a query, which is no part of the path");
        }
        let path = path.as_bytes().to_vec();
        Ok(if is_prefix { Self::Prefix(path) } else { Self::Path(path) })
    }

    fn matches(&self, source: &impl AtomSource) -> bool {
        match self {
            Self::Path(path) => source.path_info() == path,
            Self::Prefix(prefix) => source.path_info().starts_with(prefix),
            Self::Status(status) => source.status() == *status,
            Self::StatusClass(digit) => source.status() / 100 == *digit,
        }
    }
}
