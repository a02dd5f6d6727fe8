//! The choice of the configuration file. Exactly one is read: named on the command line, else named in
//! `GUNICORN_CMD_ARGS`, else the file of the usual name if the start directory has one.

use super::cli::CommandLine;
use super::rows::Id;

/// The file that is picked up without being named. Gunicorn's name, so that its users need not rename theirs.
pub const DEFAULT_CONFIG: &str = "./gunicorn.conf.py";

/// The source of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// A Python file.
    File {
        /// Relative paths are relative to the start directory, also with `--chdir`.
        path: String,
        /// True when the user named it: then its absence is an error (`'FILE' doesn't exist`, status 1).
        named: bool,
    },
    /// A module that is imported (`python:MODULE`).
    Module(String),
    /// No configuration file.
    None,
}

/// Chooses the configuration file. `default_exists` says whether [`DEFAULT_CONFIG`] is a file in the start directory.
pub fn config_source(cli: &CommandLine, env_args: &CommandLine, default_exists: bool) -> ConfigSource {
    match cli.config().or_else(|| env_args.config()) {
        Some(text) => named(text.trim()),
        None if default_exists => ConfigSource::File { path: DEFAULT_CONFIG.to_owned(), named: false },
        None => ConfigSource::None,
    }
}

fn named(text: &str) -> ConfigSource {
    if let Some(module) = text.strip_prefix("python:") {
        return ConfigSource::Module(module.to_owned());
    }
    let path = text.strip_prefix("file:").unwrap_or(text);
    ConfigSource::File { path: path.to_owned(), named: true }
}

impl CommandLine {
    /// Returns the text after `-c`, if given: a path, `file:PATH` or `python:MODULE`.
    pub fn config(&self) -> Option<&str> {
        self.text(Id::config)
    }
}
