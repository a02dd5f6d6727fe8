//! The hot methods of gevent's sockets, in front of gevent's own: `recv`, `recv_into`, `send` and `sendall` of bytes.
//!
//! gevent calls the standard library's socket, catches `BlockingIOError`, makes a `Waiter` and waits, in Python. Here
//! the system call comes first, and where it would block the greenlet is switched out with nothing but its own
//! `switch` in the watcher. What these methods do not know (keywords, flags, other buffers, sockets that are closed,
//! hubs of other loops) is left to gevent's, from its beginning: nothing has been received or sent by then.
//!
//! A byte that the kernel has given is returned by the same call: a wait ends before the next look, so that a greenlet
//! that is killed, or whose time is over, has taken none.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::os::fd::RawFd;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyOSError, PyTimeoutError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyInt, PyMemoryView, PySlice, PyTuple, PyType};

use crate::py::{
    Args, FastMethod, Greenlets, MethodPair, assert_no_borrow, catch_panic, install_vectorcall_method,
    remove_vectorcall_method, write_into,
};
use rgunicorn_io::sys::net;

use super::exception;
use super::types::Watcher;
use super::vectorcall::{start_with, stop};
use super::watcher_state::WatcherKind;
use super::watchers::{Io, Timer};

/// The most bytes that are received at once here: what clients of databases and of HTTP ask for.
const RECEIVED_BYTES_MAX: usize = 64 * 1024;
/// The most bytes that are sent at once here; gevent sends more in pieces.
const SENT_BYTES_MAX: usize = 1024 * 1024;

thread_local! {
    /// The memory in which bytes are received; not here while it is in use.
    static RECEIVED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Puts the methods into gevent's class, or gives it its own back. What another program has put there stays.
///
/// # Errors
/// Those of importing gevent's sockets.
pub fn set_sockets(py: Python<'_>, wanted: bool) -> PyResult<()> {
    set::<Recv>(py, wanted)?;
    set::<RecvInto>(py, wanted)?;
    set::<Send>(py, wanted)?;
    set::<SendAll>(py, wanted)
}

fn set<M: FastMethod>(py: Python<'_>, wanted: bool) -> PyResult<()> {
    if !wanted {
        return remove_vectorcall_method::<M>(py);
    }
    let module = M::class(py)?.getattr(M::NAME)?.getattr_opt("__module__")?;
    let is_of_gevent =
        module.is_some_and(|module| module.extract::<String>().is_ok_and(|name| name.starts_with("gevent.")));
    if is_of_gevent { install_vectorcall_method::<M>(py) } else { Ok(()) }
}

/// Returns gevent's class of sockets.
fn socket_class(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "gevent._socket3", "socket").cloned()
}

/// The class, and the place for the two methods, one for each implementation.
macro_rules! of_socket {
    () => {
        type Class = PyAny;

        fn class(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
            socket_class(py)
        }

        fn pair() -> &'static PyOnceLock<MethodPair> {
            static PAIR: PyOnceLock<MethodPair> = PyOnceLock::new();
            &PAIR
        }
    };
}

/// `socket.recv(bufsize)`
struct Recv;

impl FastMethod for Recv {
    const NAME: &'static str = "recv";

    of_socket!();

    fn call<'py>(this: &Bound<'py, PyAny>, args: Args<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, Some(size), None) = (this.py(), args.get(0), args.get(1)) else { return Ok(None) };
        let Some(size) = size_of(&size) else { return Ok(None) };
        receive(this, |fd| {
            let mut buffer = RECEIVED.take();
            let got = net::recv_now(fd, room(&mut buffer, size));
            let received = got.map(|got| PyBytes::new(py, &buffer[..got]).into_any());
            RECEIVED.set(buffer);
            received
        })
    }
}

/// `socket.recv_into(buffer)`, `socket.recv_into(buffer, nbytes)`
struct RecvInto;

impl FastMethod for RecvInto {
    const NAME: &'static str = "recv_into";

    of_socket!();

    fn call<'py>(this: &Bound<'py, PyAny>, args: Args<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, Some(target), None) = (this.py(), args.get(0), args.get(2)) else { return Ok(None) };
        let wanted = match args.get(1) {
            None => None,
            Some(size) => match size_of(&size) {
                Some(size) => Some(size),
                None => return Ok(None),
            },
        };
        receive(this, |fd| {
            // Looked for anew after each wait, and not held meanwhile: it may change.
            let Some((view, size)) = fitting(&target, wanted) else {
                return Err(io::Error::from(ErrorKind::Unsupported));
            };
            let got = write_into(&view, size, |bytes| net::recv_now(fd, bytes));
            let got = got.unwrap_or_else(|| Err(io::Error::from(ErrorKind::Unsupported)))?;
            Ok(PyInt::new(py, got).into_any())
        })
    }
}

/// `socket.send(bytes)`
struct Send;

impl FastMethod for Send {
    const NAME: &'static str = "send";

    of_socket!();

    fn call<'py>(this: &Bound<'py, PyAny>, args: Args<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some((fd, data)) = to_send(this, args)? else { return Ok(None) };
        match net::send_now(fd, data.as_bytes(), &[]) {
            Ok(sent) => Ok(Some(PyInt::new(this.py(), sent).into_any())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(os_error(&error)),
        }
    }
}

/// `socket.sendall(bytes)`
struct SendAll;

impl FastMethod for SendAll {
    const NAME: &'static str = "sendall";

    of_socket!();

    fn call<'py>(this: &Bound<'py, PyAny>, args: Args<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = this.py();
        // Of a class that is derived, `send` may be another one.
        if !this.get_type().is(&socket_class(py)?) {
            return Ok(None);
        }
        let Some((fd, data)) = to_send(this, args)? else { return Ok(None) };
        let len = data.as_bytes().len();
        match net::send_now(fd, data.as_bytes(), &[]) {
            Ok(sent) if sent == len => Ok(Some(py.None().into_bound(py))),
            // gevent looks at the time behind each part, and there is none for a socket that does not wait.
            Ok(_) if timeout_s(this)? == Some(0.0) => Err(PyTimeoutError::new_err("timed out")),
            Ok(sent) => {
                let rest = PySlice::new(py, sent as isize, len as isize, 1);
                let rest = PyMemoryView::from(&data)?.get_item(rest)?;
                Self::pair().get(py).map(|pair| pair.ordinary.bind(py).call1((this, rest))).transpose()
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(os_error(&error)),
        }
    }
}

/// Returns the descriptor and the bytes of a call that only sends bytes, of which there are some and not too many.
fn to_send<'py>(
    this: &Bound<'py, PyAny>,
    args: Args<'_, 'py>,
) -> PyResult<Option<(RawFd, Bound<'py, PyBytes>)>> {
    let (Some(data), None) = (args.get(0), args.get(1)) else { return Ok(None) };
    let Ok(data) = data.cast_into_exact::<PyBytes>() else { return Ok(None) };
    if !(1..=SENT_BYTES_MAX).contains(&data.as_bytes().len()) {
        return Ok(None);
    }
    Ok(descriptor(this)?.map(|fd| (fd, data)))
}

/// Returns the descriptor of a socket; `None` if it is closed.
fn descriptor(this: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
    let py = this.py();
    let fd: RawFd = this.getattr(intern!(py, "_sock"))?.call_method0(intern!(py, "fileno"))?.extract()?;
    Ok((fd >= 0).then_some(fd))
}

/// Returns a number of bytes to receive, if it is one that is received here.
fn size_of(size: &Bound<'_, PyAny>) -> Option<usize> {
    let size = size.cast_exact::<PyInt>().ok()?.extract::<usize>().ok()?;
    (1..=RECEIVED_BYTES_MAX).contains(&size).then_some(size)
}

/// Returns a view of a buffer that can take bytes, and how many it is to get. `wanted`: not more than so many.
fn fitting(target: &Bound<'_, PyAny>, wanted: Option<usize>) -> Option<(PyBuffer<u8>, usize)> {
    let view = PyBuffer::<u8>::get(target).ok()?;
    let size = wanted.unwrap_or_else(|| view.item_count());
    let fits = !view.readonly() && view.is_c_contiguous() && size <= view.item_count();
    (fits && (1..=RECEIVED_BYTES_MAX).contains(&size)).then_some((view, size))
}

fn room(buffer: &mut Vec<u8>, size: usize) -> &mut [u8] {
    if buffer.len() < size {
        buffer.resize(RECEIVED_BYTES_MAX, 0);
    }
    &mut buffer[..size]
}

/// Receives by `look`, which does not wait; waits where there is nothing yet. `None` before anything was received or
/// waited for: the call is gevent's.
fn receive<'py>(
    this: &Bound<'py, PyAny>,
    mut look: impl FnMut(RawFd) -> io::Result<Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    loop {
        let Some(fd) = descriptor(this)? else { return Ok(None) };
        match look(fd) {
            Ok(received) => return Ok(Some(received)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(this, &error)?,
            // A buffer that is not known here.
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(None),
            Err(error) => return Err(os_error(&error)),
        }
    }
}

/// Waits until there is something to read, or raises `nothing` where the socket does not wait.
fn wait(this: &Bound<'_, PyAny>, nothing: &io::Error) -> PyResult<()> {
    let py = this.py();
    let seconds = timeout_s(this)?;
    if seconds == Some(0.0) {
        return Err(os_error(nothing));
    }
    let event = this.getattr(intern!(py, "_read_event"))?;
    // Of a class that is derived, the wait may be another one.
    if this.get_type().is(&socket_class(py)?) && switch_out(this, &event, seconds)? {
        return Ok(());
    }
    assert_no_borrow();
    this.call_method1(intern!(py, "_wait"), (event,)).map(drop)
}

/// Returns the seconds that a socket waits at most; 0 for one that never waits.
fn timeout_s(this: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    let timeout = this.getattr(intern!(this.py(), "timeout"))?;
    if timeout.is_none() { Ok(None) } else { timeout.extract().map(Some) }
}

/// Switches to the hub until a watcher has its event, or raises `TimeoutError` after so many seconds. `false`: that
/// has to be waited for in gevent's way, because another greenlet waits for it, or the loop is not ours, or this is the
/// hub.
fn switch_out(this: &Bound<'_, PyAny>, event: &Bound<'_, PyAny>, seconds: Option<f64>) -> PyResult<bool> {
    static GREENLETS: PyOnceLock<Greenlets> = PyOnceLock::new();
    static INVALID_SWITCH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = this.py();
    let Ok(io) = event.cast_exact::<Io>() else { return Ok(false) };
    let watcher = io.as_super();
    let hub = this.getattr(intern!(py, "hub"))?;
    let me = GREENLETS.get_or_try_init(py, || Greenlets::import(py))?.current(py)?;
    let is_used = watcher.get().inner.with(py, |inner| inner.callback.is_some() || inner.slot.is_some());
    if is_used || me.is(&hub) {
        return Ok(false);
    }
    let timer = seconds.map(|seconds| start_timer(watcher, &me, seconds)).transpose()?;
    let switch = me.getattr(intern!(py, "switch"))?;
    let started = start_with(watcher, switch, PyTuple::new(py, [event])?, |_, inner| {
        if let WatcherKind::Io(io) = &mut inner.kind {
            io.begin(false);
        }
    });
    assert_no_borrow();
    let back = started.then(|| catch_panic(|| hub.call_method0(intern!(py, "switch"))));
    stop(watcher);
    if let Some(timer) = &timer {
        stop(timer.as_super());
    }
    let Some(back) = back.transpose()? else { return Ok(false) };
    if back.is(event) {
        return Ok(true);
    }
    let text =
        format!("Invalid switch into {}: got {} (expected {})", me.repr()?, back.repr()?, event.repr()?);
    let class = exception(py, &INVALID_SWITCH, "InvalidSwitchError")?;
    Err(PyErr::from_value(class.call1((text,))?))
}

/// Starts a timer that throws `TimeoutError` into a greenlet, as gevent's does: behind events of the same turn.
fn start_timer<'py>(
    watcher: &Bound<'py, Watcher>,
    greenlet: &Bound<'py, PyAny>,
    seconds: f64,
) -> PyResult<Bound<'py, Timer>> {
    const PRIORITY: i32 = -1;
    let py = watcher.py();
    let kind = Timer::kind(seconds, 0.0)?;
    let timer = Watcher::new(watcher.get().owner.bind(py), true, Some(PRIORITY), kind)?;
    let timer = Bound::new(py, (Timer, timer))?;
    let error = py.get_type::<PyTimeoutError>().into_any();
    let args = PyTuple::new(py, [error, intern!(py, "timed out").clone().into_any()])?;
    // One that cannot be started has a loop on which the watcher cannot be, either.
    start_with(timer.as_super(), greenlet.getattr(intern!(py, "throw"))?, args, |state, _| {
        if state.in_callbacks {
            state.update_now();
        }
    });
    Ok(timer)
}

/// Returns the exception that the standard library's sockets raise for an error.
fn os_error(error: &io::Error) -> PyErr {
    let number = error.raw_os_error().unwrap_or_default();
    let text = error.to_string();
    let text = text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text);
    PyOSError::new_err((number, text.to_owned()))
}
