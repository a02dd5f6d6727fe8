//! The end of a start that fails: its message on a standard stream of Python's, and its exit status.

use pyo3::prelude::*;

/// The status to leave with; the messages have been written.
pub(crate) struct StartExit(pub(crate) i32);

/// Writes a message and a line end to `sys.stderr`; the status is 1.
pub(super) fn complain(py: Python<'_>, text: &str) -> StartExit {
    if !text.is_empty() {
        write_stderr(py, &format!("{text}\n"));
    }
    StartExit(1)
}

/// Writes to `sys.stdout`.
pub(super) fn write_stdout(py: Python<'_>, text: &str) {
    write(py, "stdout", text);
}

/// Writes to `sys.stderr`.
pub(super) fn write_stderr(py: Python<'_>, text: &str) {
    write(py, "stderr", text);
}

fn write(py: Python<'_>, stream: &str, text: &str) {
    if text.is_empty() {
        return;
    }
    let written = py.import("sys").and_then(|sys| {
        let stream = sys.getattr(stream)?;
        stream.call_method1("write", (text,))?;
        stream.call_method0("flush")
    });
    // The stream for complaints is the one that has failed.
    drop(written);
}

/// Returns the text that Python prints for `sys.exit(…)`: nothing for a number or None, else the object.
pub(super) fn exit_message(py: Python<'_>, error: &PyErr) -> String {
    let code = error.value(py).getattr("code").ok();
    let code = code.filter(|code| !code.is_none() && code.extract::<i32>().is_err());
    code.map(|code| code.to_string()).unwrap_or_default()
}
