//! The names of the server, for operators, clients and applications.

use pyo3::prelude::*;

/// The version of this package.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The name of the program in messages.
pub(super) const PROG: &str = "rgunicorn";

/// The names that a configuration file may change, by setting `gunicorn.SERVER` and
/// `gunicorn.SERVER_SOFTWARE`.
pub(super) struct ServerNames {
    /// The `Server` field of responses.
    pub(super) header: String,
    /// `SERVER_SOFTWARE` of environ and environment.
    pub(super) software: String,
}

impl ServerNames {
    /// Returns the names that are in force.
    pub(super) fn of_process(py: Python<'_>) -> Self {
        let names = py.import("rgunicorn.compat").and_then(|compat| compat.call_method0("names")?.extract());
        let (header, software) = names.unwrap_or_else(|_| (PROG.to_owned(), format!("{PROG}/{VERSION}")));
        Self { header, software }
    }
}
