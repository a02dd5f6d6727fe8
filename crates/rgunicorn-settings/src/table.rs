//! The form of the table of settings, whose rows are in `rows.rs`. They feed the command line, `--help`, the
//! defaults and the checks; the macro makes one typed accessor of [`super::Settings`] out of each.

/// One setting.
#[derive(Debug)]
pub struct Row {
    /// The name in configuration files.
    pub name: &'static str,
    /// The kind of its values.
    pub kind: ValueKind,
    /// The allowed texts, lower case, when only some are; else empty.
    pub choices: &'static [&'static str],
    /// The built-in value.
    pub default: DefaultValue,
    /// Its chapter in `--help`.
    pub section: Section,
    /// Flags and metavar as `--help` shows them, for example `-b --bind ADDRESS`. Empty: configuration file only.
    pub usage: &'static str,
    /// The help text: a first sentence that says what the setting is, then what else must be known.
    pub text: &'static str,
    /// The Gunicorn release that introduced it, or [`SINCE_OWN`].
    pub since: &'static str,
    /// The environment variable that replaces the default.
    pub env: Option<Env>,
}

/// `since` of settings that Gunicorn does not have.
pub const SINCE_OWN: &str = "rgunicorn";

/// `since` of settings that are in Gunicorn for longer than its documentation remembers.
pub(super) const SINCE_ALWAYS: &str = "0.x";

impl Row {
    /// Returns the option spellings, short ones first.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        self.usage.split_whitespace().filter(|word| word.starts_with('-'))
    }

    /// Returns the word that stands for the value in usage texts; empty for flags without a value.
    pub fn metavar(&self) -> &'static str {
        self.usage.split_whitespace().find(|word| !word.starts_with('-')).unwrap_or("").trim_end_matches('?')
    }
}

/// An environment variable as a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Env {
    /// Its name.
    pub name: &'static str,
    /// The text that is put before the variable's to make the setting's value.
    pub prefix: &'static str,
    /// Whether the empty text is a value; else it means unset.
    pub empty_counts: bool,
}

pub(super) const fn env(name: &'static str) -> Env {
    Env { name, prefix: "", empty_counts: false }
}

/// The kinds of values, and with each the Rust type of the accessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// `bool`: True, False, or their names in any case. A flag without value on the command line.
    Flag,
    /// `u32`: an int of 0 or more.
    Count,
    /// `Duration`: an int of 0 or more, in seconds.
    Seconds,
    /// `u32`: as `Count`; a leading zero means octal on the command line.
    Mode,
    /// `&str`: text. None in a file means the default.
    Text,
    /// `Option<&str>`: text or None.
    OptText,
    /// `Option<&str>`: a name or a number; None means "as the server was started".
    Account,
    /// `Option<&str>`: the address of a statsd server, or None.
    Statsd,
    /// `&[String]`: a list of texts; one text is a list of one. Repeatable on the command line.
    List,
    /// `&[String]`: one text, split at commas.
    Commas,
    /// `&[String]`: as `Commas`, each item an IP network or `*`. See [`super::Networks`].
    Peers,
    /// `&[(String, String)]`: a dict of texts.
    Map,
    /// `&str`: the name of a worker class. See [`super::worker_class_check`].
    Class,
    /// [`IoDriver`].
    Driver,
    /// `&str`: `off`, `v1`, `v2` or `auto`; booleans and their like are understood. The bare flag is `auto`.
    Proxy,
    /// `&str`: off, prior-knowledge, upgrade, both; bools mean off and prior-knowledge.
    Cleartext,
    /// `bool`: True, False or None, which is True. The flag on the command line is False.
    Sendfile,
    /// A function with as many positional parameters as one of the choices says; `&str`: its form in
    /// messages.
    Hook,
    /// Any Python object, checked where it is used; `&str`: its form in messages.
    Object,
}

/// A built-in value, as a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// No value.
    None,
    /// A bool.
    Flag(bool),
    /// An int.
    Int(u32),
    /// A text.
    Text(&'static str),
    /// A list of texts.
    List(&'static [&'static str]),
    /// A dict of texts.
    Map(&'static [(&'static str, &'static str)]),
}

/// A checked value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value.
    None,
    /// A bool.
    Flag(bool),
    /// An int.
    Int(u32),
    /// A text.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
    /// A dict of texts, in its order.
    Map(Vec<(String, String)>),
}

/// The kernel interface that moves the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoDriver {
    /// io_uring where it works, else epoll.
    Auto,
    /// io_uring, or no start.
    Uring,
    /// epoll.
    Epoll,
}

/// The chapters of `--help`, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the titles say it")]
pub enum Section {
    Config,
    Socket,
    Workers,
    Security,
    Mechanics,
    Logging,
    Naming,
    Debugging,
    Tls,
    Hooks,
    Http2,
    Dirty,
    DirtyHooks,
    Control,
}

impl Section {
    /// All sections, in the order of `--help`.
    pub const ALL: [Self; 14] = [
        Self::Config,
        Self::Socket,
        Self::Workers,
        Self::Security,
        Self::Mechanics,
        Self::Logging,
        Self::Naming,
        Self::Debugging,
        Self::Tls,
        Self::Hooks,
        Self::Http2,
        Self::Dirty,
        Self::DirtyHooks,
        Self::Control,
    ];

    /// Returns the heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Config => "Config File",
            Self::Socket => "Server Socket",
            Self::Workers => "Worker Processes",
            Self::Security => "Security",
            Self::Mechanics => "Server Mechanics",
            Self::Logging => "Logging",
            Self::Naming => "Process Naming",
            Self::Debugging => "Debugging",
            Self::Tls => "SSL",
            Self::Hooks => "Server Hooks",
            Self::Http2 => "HTTP/2",
            Self::Dirty => "Dirty Arbiters",
            Self::DirtyHooks => "Dirty Arbiter Hooks",
            Self::Control => "Control",
        }
    }
}

/// The accessor of one row. The names on the left are those of [`ValueKind`], and the only place that pairs a
/// kind with a Rust type.
macro_rules! accessor {
    ($doc:expr, $name:ident, Flag) => { accessor!(@ $doc, $name, bool, flag); };
    ($doc:expr, $name:ident, Sendfile) => { accessor!(@ $doc, $name, bool, unless_off); };
    ($doc:expr, $name:ident, Cleartext) => { accessor!(@ $doc, $name, &str, text); };
    ($doc:expr, $name:ident, Proxy) => { accessor!(@ $doc, $name, &str, text); };
    ($doc:expr, $name:ident, Hook) => { accessor!(@ $doc, $name, &str, text); };
    ($doc:expr, $name:ident, Object) => { accessor!(@ $doc, $name, &str, text); };
    ($doc:expr, $name:ident, Count) => { accessor!(@ $doc, $name, u32, int); };
    ($doc:expr, $name:ident, Mode) => { accessor!(@ $doc, $name, u32, int); };
    ($doc:expr, $name:ident, Seconds) => { accessor!(@ $doc, $name, Duration, seconds); };
    ($doc:expr, $name:ident, Text) => { accessor!(@ $doc, $name, &str, text); };
    ($doc:expr, $name:ident, Class) => { accessor!(@ $doc, $name, &str, text); };
    ($doc:expr, $name:ident, OptText) => { accessor!(@ $doc, $name, Option<&str>, opt_text); };
    ($doc:expr, $name:ident, Account) => { accessor!(@ $doc, $name, Option<&str>, opt_text); };
    ($doc:expr, $name:ident, Statsd) => { accessor!(@ $doc, $name, Option<&str>, opt_text); };
    ($doc:expr, $name:ident, List) => { accessor!(@ $doc, $name, &[String], list); };
    ($doc:expr, $name:ident, Commas) => { accessor!(@ $doc, $name, &[String], list); };
    ($doc:expr, $name:ident, Peers) => { accessor!(@ $doc, $name, &[String], list); };
    ($doc:expr, $name:ident, Map) => { accessor!(@ $doc, $name, &[(String, String)], map); };
    ($doc:expr, $name:ident, Driver) => { accessor!(@ $doc, $name, IoDriver, driver); };
    (@ $doc:expr, $name:ident, $type:ty, $get:ident) => {
        #[doc = $doc]
        pub fn $name(&self) -> $type {
            self.$get(Id::$name as usize)
        }
    };
}

macro_rules! settings {
    ($(
        $(#[doc = $text:literal])+
        $name:ident: $kind:ident $([$($choice:literal),+])? = $default:expr,
        $section:ident, $usage:literal, $since:expr $(, $env:expr)?;
    )+) => {
        /// The number of a setting: its place in `ROWS`.
        #[expect(non_camel_case_types, missing_docs, reason = "the names are the settings' own")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Id {
            $($name),+
        }

        /// All settings.
        pub static ROWS: &[Row] = &[$(Row {
            name: stringify!($name),
            kind: ValueKind::$kind,
            choices: &[$($($choice),+)?],
            default: $default,
            section: Section::$section,
            usage: $usage,
            text: concat!($($text),+),
            since: $since,
            env: [$(Some($env),)? None][0],
        }),+];

        impl Id {
            /// All ids, in the order of [`ROWS`].
            pub const ALL: &[Self] = &[$(Self::$name),+];
        }

        #[allow(rustdoc::broken_intra_doc_links, reason = "the texts are written for --help: [IPV6] is no link")]
        impl Settings {
            $(accessor!(concat!($($text),+), $name, $kind);)+
        }
    };
}

pub(super) use {accessor, settings};
