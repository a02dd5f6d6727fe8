//! How much a record matters.

/// The severities of the error log, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Details for the search for a fault.
    Debug,
    /// The life of the server.
    Info,
    /// Something is wrong and the server copes.
    Warning,
    /// A request or an action failed.
    Error,
    /// The server cannot go on.
    Critical,
}

impl Level {
    /// All levels, least severe first.
    pub const ALL: [Self; 5] = [Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// Returns the level of a `loglevel` text, in any case; an unknown text is `Info`, as in Gunicorn.
    pub fn from_text(text: &str) -> Self {
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(text)).unwrap_or(Self::Info)
    }

    /// Returns the name in records, upper case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}
