//! What a program has made of gevent: whether it is there, and what it has replaced in the standard library.

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::types::Loop;

/// Without these replaced requests cannot share a thread: without `socket` nothing waits in a way that lets others run, and
/// without `threading` thread-locals and locks of one request would be those of all.
const NEEDED: [&str; 2] = ["socket", "threading"];
/// What blocks all requests of a worker where it is used and not replaced.
const WANTED: [&str; 6] = ["ssl", "select", "selectors", "subprocess", "time", "queue"];

/// The answer to "may its requests run in greenlets?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patched {
    /// gevent was not imported.
    NotUsed,
    /// gevent was imported, and nothing of the standard library replaced.
    No,
    /// What requests need is replaced only in part: these are missing.
    TooLittle(Vec<&'static str>),
    /// Yes; these are not replaced, and block.
    Yes(Vec<&'static str>),
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

/// From now on gevent makes its hubs with our loop. Imports nothing of gevent.
///
/// # Errors
/// Those of the import of our own module.
pub fn install_loop(py: Python<'_>) -> PyResult<()> {
    py.import("rgunicorn._gevent")?.call_method0("prefer_loop").map(drop)
}

/// The opposite of [`install_loop`].
///
/// # Errors
/// As there.
pub fn uninstall_loop(py: Python<'_>) -> PyResult<()> {
    py.import("rgunicorn._gevent")?.call_method0("withdraw").map(drop)
}

/// The loop of this thread's hub, which is made if there is none; `None` if that hub runs another loop, because it was made
/// before ours was chosen.
///
/// # Errors
/// Those of making a hub.
pub fn current_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, Loop>>> {
    let hub = py.import("gevent")?.call_method0("get_hub")?;
    Ok(hub.getattr("loop")?.cast_into::<Loop>().ok())
}

/// In a forked child: the hub that its parent may have made is this process's from now on.
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

/// The function of the standard library that gevent may have replaced.
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

/// Why gevent cannot be used here; `None` if it can. `least`: the oldest version that will do.
pub fn check_compat(py: Python<'_>, least: (u32, u32, u32)) -> Option<String> {
    let found = || -> PyResult<Option<String>> {
        let metadata = py.import("importlib.metadata")?;
        for (name, least) in [("gevent", least), ("greenlet", (3, 0, 0))] {
            let version = match metadata.call_method1("version", (name,)) {
                Ok(version) => version.extract::<String>()?,
                Err(error) if error.is_instance_of::<PyImportError>(py) => {
                    return Ok(Some(format!("{name} is not installed")));
                }
                Err(error) => return Err(error),
            };
            if numbers(&version) < least {
                let (a, b, c) = least;
                return Ok(Some(format!("{name} {version} is too old ({a}.{b}.{c} or later is needed)")));
            }
        }
        Ok(None)
    };
    found().unwrap_or_else(|error| Some(error.to_string()))
}

/// As [`check_compat`], for those who cannot do without: gevent is imported, which says the rest.
pub fn import_objection(py: Python<'_>, least: (u32, u32, u32)) -> Option<String> {
    check_compat(py, least).or_else(|| {
        let error = py.import("gevent").err()?;
        Some(format!("gevent cannot be imported: {error}"))
    })
}

/// The leading numbers of a version.
fn numbers(version: &str) -> (u32, u32, u32) {
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
    let mut parts = version.split('.').map(|part| digits(part).parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert_eq!(numbers("24.10.1"), (24, 10, 1));
        assert_eq!(numbers("26.9.0rc1"), (26, 9, 0));
        assert_eq!(numbers("25.4"), (25, 4, 0));
        assert!(numbers("24.2.1") < numbers("24.10.1") && numbers("x") == (0, 0, 0));
    }
}
