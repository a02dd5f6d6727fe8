//! From `MODULE[:EXPR]` to the application object.

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use rgunicorn_settings::Raw;

/// The reason why there is no application.
#[derive(Debug)]
pub enum LoadError {
    /// The module is there but the name, call or object is not right; the text says what. Exit status 4.
    App(String),
    /// An exception that the import raised. Exit status 3.
    Raised(PyErr),
}

impl From<PyErr> for LoadError {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

/// Gunicorn's exception for an application that cannot be found, in Python.
static NOT_FOUND: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn not_found(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    NOT_FOUND.import(py, "rgunicorn.errors", "AppImportError")
}

impl LoadError {
    /// Returns the exception that Python gets.
    pub fn into_exception(self, py: Python<'_>) -> PyErr {
        match self {
            Self::App(text) => match not_found(py).and_then(|class| class.call1((text,))) {
                Ok(error) => PyErr::from_value(error),
                Err(error) => error,
            },
            Self::Raised(error) => error,
        }
    }

    /// Turns that exception back.
    pub fn from_exception(py: Python<'_>, error: PyErr) -> Self {
        match not_found(py) {
            Ok(class) if error.matches(py, class).unwrap_or(false) => Self::App(error.value(py).to_string()),
            _ => Self::Raised(error),
        }
    }
}

/// Imports `MODULE[:EXPR]`. EXPR (default `application`) is a name, or a call of a plain name with literal
/// arguments, whose result is the application.
///
/// # Errors
/// [`LoadError::App`] when the name, the call or its result is not right, [`LoadError::Raised`] when the
/// application's code raises.
pub fn load<'py>(py: Python<'py>, uri: &str) -> Result<Bound<'py, PyAny>, LoadError> {
    let (module, expression) = match uri.split_once(':') {
        Some(parts) => parts,
        None => (uri, "application"),
    };
    let module = import(py, module, expression)?;
    let app = evaluate(py, &module, expression)?;
    if app.is_none() {
        let shown = python_repr(expression);
        return Err(LoadError::App(format!("Failed to find application object: {shown}")));
    }
    if !app.is_callable() {
        return Err(LoadError::App("Application object must be callable.".to_owned()));
    }
    Ok(app)
}

fn import<'py>(py: Python<'py>, name: &str, expression: &str) -> Result<Bound<'py, PyAny>, LoadError> {
    match py.import(name) {
        Ok(module) => Ok(module.into_any()),
        Err(error)
            if error.is_instance_of::<PyImportError>(py)
                && name.ends_with(".py")
                && std::path::Path::new(name).exists() =>
        {
            let dotted = name.strip_suffix(".py").unwrap_or(name).replace('/', ".");
            Err(LoadError::Raised(PyImportError::new_err(format!(
                "Failed to find application, did you mean '{dotted}:{expression}'?"
            ))))
        }
        Err(error) => Err(error.into()),
    }
}

fn unparsable(expression: &str) -> LoadError {
    let shown = python_repr(expression);
    LoadError::App(format!("Failed to parse {shown} as an attribute name or function call."))
}

fn evaluate<'py>(
    py: Python<'py>,
    module: &Bound<'py, PyAny>,
    expression: &str,
) -> Result<Bound<'py, PyAny>, LoadError> {
    let ast = py.import("ast")?;
    let kwargs = PyDict::new(py);
    kwargs.set_item("mode", "eval")?;
    let Ok(tree) = ast.call_method("parse", (expression,), Some(&kwargs)) else {
        return Err(unparsable(expression));
    };
    let body = tree.getattr("body")?;
    if body.is_instance(&ast.getattr("Name")?)? {
        return attribute(module, &body.getattr("id")?.extract::<String>()?);
    }
    if !body.is_instance(&ast.getattr("Call")?)? {
        return Err(unparsable(expression));
    }
    let function = body.getattr("func")?;
    if !function.is_instance(&ast.getattr("Name")?)? {
        let shown = python_repr(expression);
        return Err(LoadError::App(format!("Function reference must be a simple name: {shown}")));
    }
    let name: String = function.getattr("id")?.extract()?;
    let literals = || -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let args = PyList::empty(py);
        for arg in body.getattr("args")?.try_iter()? {
            args.append(ast.call_method1("literal_eval", (arg?,))?)?;
        }
        let kwargs = PyDict::new(py);
        for keyword in body.getattr("keywords")?.try_iter()? {
            let keyword = keyword?;
            kwargs.set_item(
                keyword.getattr("arg")?.cast::<PyString>()?,
                ast.call_method1("literal_eval", (keyword.getattr("value")?,))?,
            )?;
        }
        Ok((args.to_tuple(), kwargs))
    };
    let Ok((args, kwargs)) = literals() else {
        let shown = python_repr(expression);
        return Err(LoadError::App(format!("Failed to parse arguments as literal values: {shown}")));
    };
    let factory = attribute(module, &name)?;
    match factory.call(args, Some(&kwargs)) {
        Ok(app) => Ok(app),
        // A wrong call is the user's spelling; a TypeError from deeper inside is the application's own
        // failure.
        Err(error) if is_bad_call(py, &error) => {
            Err(LoadError::App(format!("TypeError: {}", error.value(py))))
        }
        Err(error) => Err(error.into()),
    }
}

fn is_bad_call(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<pyo3::exceptions::PyTypeError>(py) && error.traceback(py).is_none()
}

fn attribute<'py>(module: &Bound<'py, PyAny>, name: &str) -> Result<Bound<'py, PyAny>, LoadError> {
    module.getattr(name).map_err(|error| {
        if error.is_instance_of::<pyo3::exceptions::PyAttributeError>(module.py()) {
            let module = module.getattr("__name__").map(|name| name.to_string()).unwrap_or_default();
            LoadError::App(format!("Failed to find attribute '{name}' in '{module}'."))
        } else {
            LoadError::Raised(error)
        }
    })
}

fn python_repr(text: &str) -> String {
    Raw::Str(text.to_owned()).repr()
}
