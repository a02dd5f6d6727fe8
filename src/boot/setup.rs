//! Settings from all their sources, and their translation into the terms of the floors below.

use std::path::Path;
use std::time::Duration;

use pyo3::prelude::*;

use crate::conf::{self, ConfError};
use crate::http;
use crate::io;
use crate::logging::AccessFormat;
use crate::py::format_exception;
use crate::settings::{
    Address, CommandLine, DEFAULT_CONFIG, Environment, Exit, IoDriver, Settings, WorkerKind, config_source,
    parse_command_line, resolve, split_cmd_args,
};
use crate::sys::listener;
use crate::worker::Tuning;
use crate::{VERSION, arbiter};

use super::PROG;

/// Setting this environment variable gives the driver the smallest queues it can work with: for tests of overflow.
const TORTURE: &str = "RGUNICORN_TORTURE";

/// What the settings are made of, as it was at the start; a reload reads the configuration file again.
pub(super) struct Sources {
    environment: Environment,
    env_args: CommandLine,
    command_line: CommandLine,
    start_directory: String,
}

impl Sources {
    /// Takes the arguments and the environment of this process.
    ///
    /// # Errors
    /// `--help`, `--version`, and usage errors of the command line or GUNICORN_CMD_ARGS.
    pub(super) fn of_process(argv: Vec<String>) -> Result<Self, Exit> {
        let pairs = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        let environment = Environment::from_pairs(pairs);
        let command_line = parse_command_line(PROG, VERSION, &argv)?;
        let words = split_cmd_args(environment.cmd_args().unwrap_or_default()).map_err(|reason| Exit {
            status: 2,
            stdout: String::new(),
            stderr: format!("{PROG}: error: GUNICORN_CMD_ARGS: {reason}\n"),
        })?;
        let env_args = parse_command_line(PROG, VERSION, &words)?;
        let start_directory = std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { environment, env_args, command_line, start_directory })
    }

    /// Reads the configuration file and resolves all settings.
    ///
    /// # Errors
    /// The text for stderr, in Gunicorn's form.
    pub(super) fn read(&self, py: Python<'_>) -> Result<Settings, String> {
        let usual = Path::new(&self.start_directory).join(DEFAULT_CONFIG);
        let source = config_source(&self.command_line, &self.env_args, usual.exists());
        let _ = conf::prepend_path(py, std::slice::from_ref(&self.start_directory));
        let file =
            conf::read(py, &source, Path::new(&self.start_directory)).map_err(|error| match error {
                ConfError::Missing(path) => format!("Error: '{path}' doesn't exist"),
                ConfError::Raised { name, error } => {
                    format!("Failed to read config file: {name}\n{}", format_exception(py, &error))
                }
            })?;
        let settings = resolve(&self.environment, file.as_deref(), &self.env_args, &self.command_line)
            .map_err(|invalid| invalid.to_string())?;
        if let Some(directory) = settings.chdir()
            && !Path::new(&self.start_directory).join(directory).is_dir()
        {
            let reason = "no such directory (allowed: an existing directory)";
            return Err(format!(
                "Invalid value for chdir: {directory}\nError: chdir: can't change to {directory:?}: {reason}"
            ));
        }
        if settings.app().is_none() {
            return Err("Error: No application module specified.".to_owned());
        }
        Ok(settings)
    }
}

/// Makes the process what the settings ask for, before anything of the application is imported.
///
/// # Errors
/// A directory that cannot be entered, a bad `raw_env` entry.
pub(super) fn enter(py: Python<'_>, settings: &Settings) -> PyResult<()> {
    if let Some(directory) = settings.chdir() {
        py.import("os")?.call_method1("chdir", (directory,))?;
    }
    let here = std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned();
    conf::prepend_path(py, &[here])?;
    if let Some(list) = settings.pythonpath() {
        let directories: Vec<String> = list
            .split(',')
            .map(|item| {
                std::path::absolute(item).unwrap_or_else(|_| item.into()).to_string_lossy().into_owned()
            })
            .collect();
        conf::prepend_path(py, &directories)?;
    }
    conf::set_environ(py, &[format!("SERVER_SOFTWARE={}", software())])?;
    conf::set_environ(py, settings.raw_env())
}

/// `SERVER_SOFTWARE`.
pub(super) fn software() -> String {
    format!("rgunicorn/{VERSION}")
}

/// What the arbiter needs to know.
///
/// # Errors
/// A worker class or an address that cannot be.
pub(super) fn arbiter_config(settings: &Settings) -> Result<arbiter::Config, String> {
    settings.worker_kind()?;
    let binds =
        settings.bind().iter().map(|text| Ok(address(&Address::parse(text).map_err(|e| e.to_string())?)));
    let app = settings.app().unwrap_or_default();
    Ok(arbiter::Config {
        workers: settings.workers(),
        timeout_s: settings.timeout().as_secs(),
        graceful_timeout_s: settings.graceful_timeout().as_secs(),
        binds: binds.collect::<Result<_, String>>()?,
        backlog: i32::try_from(settings.backlog()).unwrap_or(i32::MAX),
        pidfile: settings.pidfile().map(Into::into),
        umask: settings.umask(),
        socket_owner: None,
        proc_name: settings.proc_name().unwrap_or(app).to_owned(),
        version: VERSION.to_owned(),
        worker_name: settings.worker_class().to_owned(),
    })
}

fn address(parsed: &Address) -> listener::Address {
    match parsed {
        Address::Tcp { host, port } => listener::Address::Tcp { host: host.clone(), port: *port },
        Address::Unix(path) => listener::Address::Unix(path.into()),
        Address::Abstract(name) => listener::Address::Abstract(name.clone().into_bytes()),
        Address::Fd(fd) => listener::Address::Fd(*fd as i32),
    }
}

/// The compiled access log format.
///
/// # Errors
/// What is wrong with the format.
pub(super) fn access_format(settings: &Settings) -> Result<AccessFormat, String> {
    AccessFormat::compile(settings.access_log_format()).map_err(|error| format!("access_log_format: {error}"))
}

/// Sizes and choice of the driver.
pub(super) fn driver_config(settings: &Settings) -> io::Config {
    let choice = match settings.io_driver() {
        IoDriver::Auto => io::Choice::Auto,
        IoDriver::Uring => io::Choice::Uring,
        IoDriver::Epoll => io::Choice::Epoll,
    };
    let sizes = if std::env::var_os(TORTURE).is_some_and(|value| value == "1") {
        io::Config::torture()
    } else {
        io::Config::default()
    };
    io::Config { choice, ..sizes }
}

/// The rules for reading requests.
pub(super) fn policy(settings: &Settings) -> http::Policy {
    let limits = http::Limits::new(
        settings.limit_request_line() as usize,
        settings.limit_request_fields() as usize,
        settings.limit_request_field_size() as usize,
    );
    http::Policy {
        permit_obsolete_folding: settings.permit_obsolete_folding(),
        strip_header_spaces: settings.strip_header_spaces(),
        permit_unconventional_http_method: settings.permit_unconventional_http_method(),
        permit_unconventional_http_version: settings.permit_unconventional_http_version(),
        casefold_http_method: settings.casefold_http_method(),
        header_map: match settings.header_map() {
            "refuse" => http::HeaderMap::Refuse,
            "dangerous" => http::HeaderMap::Dangerous,
            _ => http::HeaderMap::Drop,
        },
        forwarder_headers: settings.forwarder_headers().to_vec(),
        secure_scheme_headers: settings.secure_scheme_headers().to_vec(),
        ..http::Policy::new(limits)
    }
}

/// The numbers a worker runs by. `jitter` is this worker's random addition to `max_requests`.
pub(super) fn tuning(settings: &Settings, jitter: u64) -> Tuning {
    let usual = Tuning::default();
    Tuning {
        connections_max: settings.worker_connections().max(1) as usize,
        keepalive: settings.keepalive(),
        close_always: settings.worker_kind() == Ok(WorkerKind::Sync),
        requests_max: match settings.max_requests() {
            0 => 0,
            most => u64::from(most) + jitter,
        },
        graceful_timeout: settings.graceful_timeout(),
        idle_wait_max: match settings.timeout() {
            Duration::ZERO => usual.idle_wait_max,
            timeout => usual.idle_wait_max.min(timeout / 2),
        },
        ..usual
    }
}
