//! A program's use of gevent: whether it is there, and how much of the standard library it has replaced.

use std::fmt;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::types::Loop;

/// Modules that must be replaced for requests to share a thread: without `socket` nothing waits in a way that lets
/// others run, and without `threading` thread-locals and locks of one request would be those of all.
const NEEDED: [&str; 2] = ["socket", "threading"];
/// The oldest greenlet whose C API and behaviour the worker relies on.
const GREENLET_LEAST: Version = Version::new(3, 0, 0);
/// Modules that block all requests of a worker where they are used and not replaced.
const WANTED: [&str; 6] = ["ssl", "select", "selectors", "subprocess", "time", "queue"];

/// How much of the standard library a program has replaced: whether its requests may run in greenlets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patched {
    /// gevent was not imported.
    NotUsed,
    /// gevent was imported, and nothing of the standard library replaced.
    No,
    /// The modules that requests need are replaced only in part: these are missing.
    TooLittle(Vec<&'static str>),
    /// Yes; these are not replaced, and block.
    Yes(Vec<&'static str>),
}

/// A version of a package: its first three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// Makes the version `major.minor.patch`.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Parses the leading numbers of a version's text; 0 for each that is not there.
    fn parse(text: &str) -> Self {
        let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
        let mut parts = text.split('.').map(|part| digits(part).parse().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        Self::new(next(), next(), next())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Looks at what is replaced.
///
/// # Errors
/// Those of gevent's own functions.
pub fn patched(py: Python<'_>) -> PyResult<Patched> {
    let modules = py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?;
    if !modules.contains("gevent")? {
        return Ok(Patched::NotUsed);
    }
    let Some(monkey) = modules.get_item("gevent.monkey")? else { return Ok(Patched::No) };
    let is_patched = |name: &str| monkey.call_method1("is_module_patched", (name,))?.extract::<bool>();
    let mut missing = Vec::new();
    for name in NEEDED {
        if !is_patched(name)? {
            missing.push(name);
        }
    }
    if missing.len() == NEEDED.len() {
        return Ok(Patched::No);
    }
    if !missing.is_empty() {
        return Ok(Patched::TooLittle(missing));
    }
    for name in WANTED {
        if !is_patched(name)? {
            missing.push(name);
        }
    }
    Ok(Patched::Yes(missing))
}

/// Replaces everything that gevent can, as Gunicorn's gevent worker does.
///
/// # Errors
/// `ImportError` without gevent.
pub fn patch_all(py: Python<'_>) -> PyResult<()> {
    py.import("gevent.monkey")?.call_method0("patch_all").map(drop)
}

/// Makes gevent use our loop for its hubs from now on. Imports nothing of gevent.
///
/// # Errors
/// Those of the import of our own module.
pub fn install_loop(py: Python<'_>) -> PyResult<()> {
    py.import("rgunicorn._gevent")?.call_method0("prefer_loop").map(drop)
}

/// Undoes [`install_loop`].
///
/// # Errors
/// As there.
pub fn uninstall_loop(py: Python<'_>) -> PyResult<()> {
    py.import("rgunicorn._gevent")?.call_method0("withdraw").map(drop)
}

/// Returns the loop of this thread's hub, which is made if there is none; `None` if that hub runs another loop, because
/// it was made before ours was chosen.
///
/// # Errors
/// Those of making a hub.
pub fn current_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, Loop>>> {
    let hub = py.import("gevent")?.call_method0("get_hub")?;
    Ok(hub.getattr("loop")?.cast_into::<Loop>().ok())
}

/// Makes the hub that the parent may have made the one of this forked child.
///
/// # Errors
/// Those of gevent.
pub fn after_fork(py: Python<'_>) -> PyResult<()> {
    let modules = py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?;
    match modules.get_item("gevent.hub")? {
        Some(hub) => hub.call_method0("reinit").map(drop),
        None => Ok(()),
    }
}

/// Returns a function of the standard library as it was before gevent replaced it.
///
/// # Errors
/// Those of the import.
pub fn original<'py>(py: Python<'py>, module: &str, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let modules = py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?;
    match modules.get_item("gevent.monkey")? {
        Some(monkey) => monkey.call_method1("get_original", (module, name)),
        None => py.import(module)?.getattr(name),
    }
}

/// Returns the reason why gevent cannot be used here; `None` if it can. `least`: the oldest version that will do.
pub fn check_compat(py: Python<'_>, least: Version) -> Option<String> {
    let found = || -> PyResult<Option<String>> {
        let metadata = py.import("importlib.metadata")?;
        for (name, least) in [("gevent", least), ("greenlet", GREENLET_LEAST)] {
            let version = match metadata.call_method1("version", (name,)) {
                Ok(version) => version.extract::<String>()?,
                Err(error) if error.is_instance_of::<PyImportError>(py) => {
                    return Ok(Some(format!("{name} is not installed")));
                }
                Err(error) => return Err(error),
            };
            if Version::parse(&version) < least {
                return Ok(Some(format!("{name} {version} is too old ({least} or later is needed)")));
            }
        }
        Ok(None)
    };
    found().unwrap_or_else(|error| Some(error.to_string()))
}

/// Does what [`check_compat`] does and imports gevent as well, for a worker that cannot do without.
pub fn import_objection(py: Python<'_>, least: Version) -> Option<String> {
    check_compat(py, least).or_else(|| {
        let error = py.import("gevent").err()?;
        Some(format!("gevent cannot be imported: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert_eq!(Version::parse("24.10.1"), Version::new(24, 10, 1));
        assert_eq!(Version::parse("26.9.0rc1"), Version::new(26, 9, 0));
        assert_eq!(Version::parse("25.4"), Version::new(25, 4, 0));
        assert!(Version::parse("24.2.1") < Version::parse("24.10.1"));
        assert_eq!(Version::parse("x"), Version::new(0, 0, 0));
        assert_eq!(Version::new(24, 10, 1).to_string(), "24.10.1");
    }
}
