//! Settings from all their sources, and what they change in the process before the application is imported.

use std::cell::Cell;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::conf::{self, ConfError, ConfigObjects, Variable};
use crate::py::{exit_status, format_exception};
use rgunicorn_settings::{
    CommandExit, CommandLine, ConfigSource, DEFAULT_CONFIG, Environment, Id, Invalid, Raw, Settings,
    config_source, parse_command_line, resolve, split_cmd_args,
};

use super::console::{exit_message, write_stderr};
use super::names::{PROG, ServerNames, VERSION};
use super::reloader;

/// The sources of the settings, as they were at the start; a reload reads the configuration file again.
pub(super) struct Sources {
    environment: Environment,
    env_args: CommandLine,
    command_line: CommandLine,
    start_directory: PathBuf,
    /// The program whose application is served, if it is one that embeds the server: its `cfg` is the
    /// configuration.
    embedding: Option<Py<PyAny>>,
    /// The variables that `raw_env` has replaced, in the order of the changes.
    replaced: Cell<Vec<Variable>>,
}

/// A configuration that cannot be used.
pub(super) struct Refused {
    /// The exit status, at the start.
    pub(super) status: i32,
    /// For stderr, at the start; in Gunicorn's form.
    pub(super) stderr: String,
    /// For the log, at a reload.
    pub(super) log: String,
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self { status: 1, stderr: text.clone(), log: text }
    }
}

impl From<Invalid> for Refused {
    fn from(invalid: Invalid) -> Self {
        invalid.to_string().into()
    }
}

impl Refused {
    fn by_file(py: Python<'_>, error: &ConfError) -> Self {
        match error {
            ConfError::Missing(path) => format!("Error: '{path}' doesn't exist").into(),
            ConfError::Raised { name, error } => {
                let text = format!("Failed to read config file: {name}\n{}", format_exception(py, error));
                if error.is_instance_of::<PySystemExit>(py) {
                    let status = exit_status(py, error);
                    return Self { status, stderr: exit_message(py, error), log: text };
                }
                text.into()
            }
        }
    }
}

impl Sources {
    /// Takes the arguments and the environment of this process.
    ///
    /// # Errors
    /// `--help`, `--version`, and usage errors of the command line or GUNICORN_CMD_ARGS.
    pub(super) fn of_process(argv: Vec<String>) -> Result<Self, CommandExit> {
        let pairs = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        let environment = Environment::from_pairs(pairs);
        let command_line = parse_command_line(PROG, VERSION, &argv)?;
        let words =
            split_cmd_args(environment.cmd_args().unwrap_or_default()).map_err(|reason| CommandExit {
                status: 2,
                stdout: String::new(),
                stderr: format!("{PROG}: error: GUNICORN_CMD_ARGS: {reason}\n"),
            })?;
        let env_args = parse_command_line(PROG, VERSION, &words)?;
        let start_directory = working_directory();
        Ok(Self {
            environment,
            env_args,
            command_line,
            start_directory,
            embedding: None,
            replaced: Cell::default(),
        })
    }

    /// Takes a program's `BaseApplication` instead of a command line and a file.
    pub(super) fn of_program(app: Py<PyAny>) -> Self {
        let pairs = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        Self {
            environment: Environment::from_pairs(pairs),
            env_args: CommandLine::default(),
            command_line: CommandLine::default(),
            start_directory: working_directory(),
            embedding: Some(app),
            replaced: Cell::default(),
        }
    }

    /// Returns the program that embeds the server.
    pub(super) fn embedding<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.embedding.as_ref().map(|app| app.bind(py).clone())
    }

    /// Has the program make its configuration anew, for a reload.
    ///
    /// # Errors
    /// The traceback of its exception, `SystemExit` included: the text for the log.
    pub(super) fn read_program_again(&self, py: Python<'_>) -> Result<(), String> {
        let Some(app) = &self.embedding else { return Ok(()) };
        app.call_method0(py, "reload").map(drop).map_err(|error| format_exception(py, &error))
    }

    /// Reads the settings of the program that embeds the server.
    fn read_program(&self, py: Python<'_>, app: &Py<PyAny>) -> Result<(Settings, ConfigObjects), Refused> {
        let failed = |error: PyErr| Refused::from(format_exception(py, &error));
        let config = app.bind(py).getattr("cfg").map_err(failed)?;
        let values = conf::changed_values(&config).map_err(failed)?;
        let settings = resolve(&self.environment, Some(&values), &self.env_args, &self.command_line)?;
        self.check(py, &settings)?;
        Ok((settings, ConfigObjects::of_object(config.unbind())))
    }

    /// Returns the directory in which the server was started.
    pub(super) fn start_directory(&self) -> &Path {
        &self.start_directory
    }

    /// Reads the configuration file and resolves all settings.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn read(&self, py: Python<'_>) -> Result<(Settings, ConfigObjects), Refused> {
        if let Some(app) = &self.embedding {
            return self.read_program(py, app);
        }
        let start = &self.start_directory;
        let source = config_source(&self.command_line, &self.env_args, start.join(DEFAULT_CONFIG).exists());
        conf::prepend_path(py, &text(start)).map_err(|error| error.to_string())?;
        warn_of_extension(py, &source, start);
        let file = conf::read(py, &source, start).map_err(|error| Refused::by_file(py, &error))?;
        let values = file.values.as_deref();
        let mut settings = resolve(&self.environment, values, &self.env_args, &self.command_line)?;
        if let Some(mut from_paste) = self.read_paste(py, &settings)? {
            // Before the file's own: those win.
            from_paste.extend_from_slice(values.unwrap_or_default());
            settings = resolve(&self.environment, Some(&from_paste), &self.env_args, &self.command_line)?;
        }
        self.check(py, &settings)?;
        if settings.app().is_none() && settings.paste().is_none() {
            return Err("Error: No application module specified.".to_owned().into());
        }
        let names = file.objects.as_ref().map(|names| names.bind(py));
        let objects = ConfigObjects::new(py, &settings, names)?;
        Ok((settings, objects))
    }

    /// Returns the settings that the ini file of `paste` brings along, if there is one: the name of processes, and
    /// logging, if the file configures that.
    fn read_paste(&self, py: Python<'_>, settings: &Settings) -> Result<Option<Vec<(String, Raw)>>, Refused> {
        let Some(paste) = settings.paste() else { return Ok(None) };
        let path = paste.strip_prefix("config:").unwrap_or(paste).split('#').next().unwrap_or_default();
        let file = self.start_directory.join(path);
        if !file.exists() {
            let reason = format!("{path:?} does not exist (allowed: FILE, FILE#SECTION)");
            return Err(settings.refuse(Id::paste, reason).into());
        }
        let file = text(&file);
        let mut found = vec![("default_proc_name".to_owned(), Raw::Str(file.clone()))];
        let has_logging = py
            .import("rgunicorn.app.pasterapp")
            .and_then(|module| module.call_method1("has_logging_config", (&file,))?.extract::<bool>())
            .map_err(|error| settings.refuse(Id::paste, error.to_string()))?;
        if has_logging {
            found.push(("logconfig".to_owned(), Raw::Str(file)));
        }
        Ok(Some(found))
    }

    /// Checks the settings that only the system can judge.
    fn check(&self, py: Python<'_>, settings: &Settings) -> Result<(), Refused> {
        let start = &self.start_directory;
        if let Some(directory) = settings.chdir()
            && !start.join(directory).is_dir()
        {
            let reason =
                format!("can't change to {directory:?}: no such directory (allowed: an existing directory)");
            return Err(settings.refuse(Id::chdir, reason).into());
        }
        let at = settings.chdir().map_or(start.clone(), |directory| start.join(directory));
        if let Some(directory) = settings.worker_tmp_dir()
            && !at.join(directory).is_dir()
        {
            let reason = format!("{directory:?} is no directory (allowed: an existing directory)");
            return Err(settings.refuse(Id::worker_tmp_dir, reason).into());
        }
        if let Some(entry) = settings.raw_env().iter().find(|entry| !is_variable(entry)) {
            let reason = format!("environment setting '{entry}' invalid (allowed: KEY=VALUE)");
            return Err(settings.refuse(Id::raw_env, reason).into());
        }
        reloader::check(py, settings)?;
        Ok(())
    }

    /// Takes `raw_env` back, so that a configuration is read in the environment that the server was started
    /// in.
    ///
    /// # Errors
    /// The exceptions of changing `os.environ`.
    pub(super) fn leave(&self, py: Python<'_>) -> PyResult<()> {
        for variable in self.replaced.take().into_iter().rev() {
            conf::set_environ(py, variable)?;
        }
        Ok(())
    }

    /// Makes the process what the settings ask for, before anything of the application is imported.
    ///
    /// # Errors
    /// A directory that cannot be entered.
    pub(super) fn enter(&self, py: Python<'_>, settings: &Settings) -> PyResult<()> {
        let directory =
            settings.chdir().map_or(self.start_directory.clone(), |at| self.start_directory.join(at));
        py.import("os")?.call_method1("chdir", (&directory,))?;
        conf::prepend_path(py, &text(&std::env::current_dir().unwrap_or(directory)))?;
        // One after the other, each to the front: the last one is searched first, as under Gunicorn.
        for item in settings.pythonpath().iter().flat_map(|list| list.split(',')) {
            conf::prepend_path(py, &text(&std::path::absolute(item).unwrap_or_else(|_| item.into())))?;
        }
        self.leave(py)?;
        let variable = |name: &str, text: &str| Variable {
            name: name.to_owned(),
            value: Some(PyString::new(py, text).unbind().into_any()),
        };
        conf::set_environ(py, variable("SERVER_SOFTWARE", &ServerNames::of_process(py).software))?;
        let mut replaced = Vec::new();
        for (name, text) in settings.raw_env().iter().filter_map(|entry| entry.split_once('=')) {
            replaced.push(conf::set_environ(py, variable(name, text))?);
        }
        self.replaced.set(replaced);
        Ok(())
    }
}

/// Returns the working directory under the name that the shell has for it, as Gunicorn: where that is a link
/// (`current` of a deployment), a reload and an upgrade go where the link leads by then.
fn working_directory() -> PathBuf {
    let real = std::env::current_dir().unwrap_or_default();
    let identity = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    match std::env::var_os("PWD").map(PathBuf::from) {
        Some(named)
            if named.is_absolute()
                && identity(&named).is_ok_and(|at| identity(&real).is_ok_and(|it| it == at)) =>
        {
            named
        }
        _ => real,
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Warns on stderr, in Gunicorn's form, of a configuration file whose name does not say that it is Python.
fn warn_of_extension(py: Python<'_>, source: &ConfigSource, directory: &Path) {
    let ConfigSource::File { path, .. } = source else { return };
    let file = directory.join(path);
    let is_python = file.extension().is_some_and(|extension| extension == "py" || extension == "pyc");
    if !is_python && file.exists() {
        let text = format!("{path}, the configuration file, has no Python extension (.py)");
        write_stderr(py, &format!("!!!\n!!! WARNING: {text}\n!!!\n\n"));
    }
}

/// Checks for `KEY=VALUE`, in a form that the C library takes.
fn is_variable(entry: &str) -> bool {
    entry.find('=').is_some_and(|at| at > 0) && !entry.contains('\0')
}
