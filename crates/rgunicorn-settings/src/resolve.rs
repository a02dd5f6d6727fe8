//! The order of the sources, the lowest first: built-in defaults (some from the environment), the
//! configuration file, `GUNICORN_CMD_ARGS`, the command line. A source replaces a list, it never extends it.

use std::fmt;

use super::check::{builtin, check, from_outside};
use super::cli::CommandLine;
use super::raw::{Raw, python_repr};
use super::rows::{Id, OF_ASGI, ROWS, WITHOUT_EFFECT};
use super::settings::{Invalid, Origin, Settings, UnknownName};
use super::suggest::{mistaken, nearest};
use super::table::{Row, Value, ValueKind};
use super::worker_class::{WorkerKind, worker_kind};

/// The variable whose text is parsed like a command line.
const CMD_ARGS: &str = "GUNICORN_CMD_ARGS";

/// The environment as it was at the start, reduced to the variables that settings read.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: Vec<(&'static str, String)>,
}

impl Environment {
    /// Takes the known variables out of name and value pairs.
    pub fn from_pairs<K: AsRef<str>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let known = |name: &str| {
            ROWS.iter().filter_map(|row| row.env).map(|env| env.name).chain([CMD_ARGS]).find(|k| *k == name)
        };
        let variables =
            pairs.into_iter().filter_map(|(name, value)| Some((known(name.as_ref())?, value.into())));
        Self { variables: variables.collect() }
    }

    /// Returns the text of `GUNICORN_CMD_ARGS`, for [`super::split_cmd_args`].
    pub fn cmd_args(&self) -> Option<&str> {
        self.get(CMD_ARGS)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }
}

/// Merges the sources. `file` holds the names of the configuration file, in its order.
///
/// # Errors
/// The first value that its setting refuses, in the order of the sources; a higher source does not excuse it.
pub fn resolve(
    env: &Environment,
    file: Option<&[(String, Raw)]>,
    env_args: &CommandLine,
    cli: &CommandLine,
) -> Result<Settings, Invalid> {
    let (values, origins) =
        ROWS.iter().map(|row| default(row, env)).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let app = cli.app().map(str::to_owned);
    let mut settings = Settings { values, origins, unknown_names: Vec::new(), app };
    for (name, raw) in file.unwrap_or_default() {
        match Id::by_name(name) {
            // It comes too late to choose the file, but is still checked.
            Some(Id::config) => drop(checked(Id::config, raw, Origin::File)?),
            Some(id) => settings.set(id, raw, Origin::File)?,
            None => settings.unknown_names.extend(unknown(name, raw)),
        }
    }
    for (id, raw) in env_args.given().chain(cli.given()) {
        settings.set(id, raw, Origin::Arguments)?;
    }
    if let Some(app) = settings.app().map(str::to_owned)
        && settings.origin(Id::default_proc_name).is_none()
    {
        settings.values[Id::default_proc_name as usize] = Value::Text(app);
    }
    settings.reject_unsupported()?;
    // Gunicorn's own code for ASGI acts on them.
    let for_asgi = if settings.worker_kind() == Ok(WorkerKind::Foreign) { &[][..] } else { OF_ASGI };
    let idle = WITHOUT_EFFECT.iter().chain(for_asgi);
    let idle = idle.filter(|id| *settings.value(**id) != builtin(id.row()));
    let idle = idle.map(|id| UnknownName { name: id.row().name.to_owned(), nearest: None, not_yet: true });
    let idle: Vec<_> = idle.collect();
    settings.unknown_names.extend(idle);
    Ok(settings)
}

/// Returns the values of all settings, as the environment leaves them, in the order of the table.
///
/// # Errors
/// A variable with a value that its setting refuses.
pub fn defaults(env: &Environment) -> Result<Vec<Value>, Invalid> {
    ROWS.iter().map(|row| Ok(default(row, env)?.0)).collect()
}

/// Returns a value in the form in which a setting holds it.
///
/// # Errors
/// The setting refuses the value.
pub fn checked_value(id: Id, raw: &Raw) -> Result<Value, Invalid> {
    check(id.row(), raw).map_err(|reason| Invalid {
        setting: id.row().name,
        value: raw.to_string(),
        origin: None,
        reason,
    })
}

fn default(row: &'static Row, env: &Environment) -> Result<(Value, Option<Origin>), Invalid> {
    let variable = row.env.and_then(|variable| Some((variable, env.get(variable.name)?)));
    let Some((variable, text)) = variable.filter(|(v, text)| v.empty_counts || !text.trim().is_empty())
    else {
        return Ok((builtin(row), None));
    };
    let origin = Origin::Environment(variable.name);
    let text = format!("{}{text}", variable.prefix);
    match from_outside(row, &text).and_then(|raw| check(row, &raw)) {
        Ok(value) => Ok((value, Some(origin))),
        Err(reason) => Err(Invalid { setting: row.name, value: text, origin: Some(origin), reason }),
    }
}

fn checked(id: Id, raw: &Raw, origin: Origin) -> Result<Value, Invalid> {
    let row = id.row();
    let origin = Some(origin);
    check(row, raw).map_err(|reason| Invalid { setting: row.name, value: raw.to_string(), origin, reason })
}

/// Judges a name that is no setting's. Every module-level name of a configuration file arrives here: imports,
/// helpers, private names. Reported is only a name that was surely meant as a setting: a near miss of one, or
/// one of Gunicorn's that is switched on and does nothing here.
fn unknown(name: &str, raw: &Raw) -> Option<UnknownName> {
    if name.starts_with('_') {
        return None;
    }
    // A function can only have been meant for a hook, and other objects for nothing.
    let hook = match raw {
        Raw::Other { type_name, .. } if type_name == "function" => true,
        Raw::Other { .. } => return None,
        _ => false,
    };
    let rows = ROWS.iter().filter(|row| (row.kind == ValueKind::Hook) == hook);
    let by_name = if hook { None } else { mistaken(name) };
    let nearest = by_name.or_else(|| nearest(name, rows.map(|row| row.name)))?;
    Some(UnknownName { name: name.to_owned(), nearest: Some(nearest), not_yet: false })
}

impl Id {
    /// Returns the row of this setting.
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Returns the setting of this exact name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|id| id.row().name == name)
    }
}

impl Settings {
    /// Returns the application, `MODULE[:EXPR]`: the command line's, else `wsgi_app` of the configuration
    /// file.
    pub fn app(&self) -> Option<&str> {
        self.app.as_deref().or_else(|| self.wsgi_app())
    }

    /// Returns the worker that `worker_class` and `threads` ask for.
    ///
    /// # Errors
    /// This release has no such worker: a message for `Error: …`.
    pub fn worker_kind(&self) -> Result<WorkerKind, String> {
        worker_kind(self.worker_class(), self.threads())
    }

    /// Makes the refusal of a value that passed the checks of this floor, for the floor that has looked
    /// further.
    pub fn refuse(&self, id: Id, reason: impl Into<String>) -> Invalid {
        let (value, origin) = (self.value(id).to_string(), self.origins[id as usize]);
        Invalid { setting: id.row().name, value, origin, reason: reason.into() }
    }

    /// Returns the source of a setting's value; `None` for the built-in one.
    pub fn origin(&self, id: Id) -> Option<Origin> {
        self.origins[id as usize]
    }

    /// Returns every setting's name and value, the value as Python's `str()` shows it, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, String)> {
        let mut pairs: Vec<_> =
            ROWS.iter().map(|row| row.name).zip(self.values.iter().map(Value::to_string)).collect();
        pairs.sort_unstable_by_key(|(name, _)| *name);
        pairs.into_iter()
    }

    /// Refuses settings that cannot be ignored, because the server would not be the one that was asked for.
    fn reject_unsupported(&self) -> Result<(), Invalid> {
        let unless =
            |there: bool, id, reason: &str| if there { Ok(()) } else { Err(self.refuse(id, reason)) };
        let protocol = self.protocol().to_ascii_lowercase();
        unless(protocol == "http", Id::protocol, &format!("{protocol:?} is not available (allowed: http)"))?;
        let h1_only = self.http_protocols().iter().all(|version| version.eq_ignore_ascii_case("h1"));
        unless(h1_only, Id::http_protocols, "HTTP/2 is not available yet (allowed: h1)")?;
        let dirty = self.dirty_workers() > 0 && !self.dirty_apps().is_empty();
        unless(!dirty, Id::dirty_workers, "dirty workers are not available (allowed: 0)")?;
        for id in [Id::certfile, Id::keyfile] {
            let off = self.opt_text(id as usize).is_none();
            unless(off, id, "TLS is not available yet: leave it to a proxy in front (allowed: None)")?;
        }
        unless(self.cert_reqs() <= 2, Id::cert_reqs, "is unknown (allowed: 0, 1, 2)")?;
        let limits = [
            (Id::http2_max_concurrent_streams, 1..=u32::MAX),
            (Id::http2_initial_window_size, 0..=0x7fff_ffff),
            // RFC 9113 section 6.5.2.
            (Id::http2_max_frame_size, 16_384..=16_777_215),
        ];
        limits.into_iter().try_for_each(|(id, allowed)| {
            let reason = format!("is out of range (allowed: {} to {})", allowed.start(), allowed.end());
            unless(allowed.contains(&self.int(id as usize)), id, &reason)
        })
    }

    fn set(&mut self, id: Id, raw: &Raw, origin: Origin) -> Result<(), Invalid> {
        self.values[id as usize] = checked(id, raw, origin)?;
        self.origins[id as usize] = Some(origin);
        Ok(())
    }

    /// Returns a setting's value.
    pub fn value(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }
}

/// Displays the value as Python's `str()` does.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Flag(on) => f.write_str(if *on { "True" } else { "False" }),
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => {
                let texts: Vec<String> = items.iter().map(|item| python_repr(item)).collect();
                write!(f, "[{}]", texts.join(", "))
            }
            Self::Map(pairs) => {
                let texts: Vec<String> = pairs
                    .iter()
                    .map(|(key, value)| format!("{}: {}", python_repr(key), python_repr(value)))
                    .collect();
                write!(f, "{{{}}}", texts.join(", "))
            }
        }
    }
}
