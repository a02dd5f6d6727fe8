//! The listening sockets of a worker, in the terms of those that use them.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use crate::wsgi::{ListenerName, ServerFacts};
use rgunicorn_io::sys::listener::{Listener, Local};
use rgunicorn_server::worker::ListenerSpec;
use rgunicorn_settings::Settings;

use super::cooperative::RequestMode;

/// Begins to listen at the worker's own sockets, with `reuse_port`: from here on they are served.
///
/// # Errors
/// The kernel refuses: the text for the log.
pub(super) fn listen(listeners: &[Arc<Listener>]) -> Result<(), String> {
    listeners.iter().try_for_each(|listener| {
        let failed = |error| format!("Cannot listen at {}: {error}", listener.local());
        listener.listen().map_err(failed)
    })
}

/// Returns a socket in the terms of the reactor.
pub(super) fn spec(socket: &Listener) -> ListenerSpec {
    let unix = !matches!(socket.local(), Local::Tcp(_));
    let (fd, key) = (socket.as_fd().as_raw_fd(), socket.local().key());
    ListenerSpec { fd, unix, shared: !socket.is_exclusive(), key }
}

/// Returns what the environ says of the server.
pub(super) fn server_facts(
    settings: &Settings,
    listeners: &[Arc<Listener>],
    mode: RequestMode,
    software: String,
) -> ServerFacts {
    let name = |socket: &Arc<Listener>| match socket.local() {
        Local::Tcp(address) => ListenerName::Tcp { host: address.ip().to_string(), port: address.port() },
        Local::Unix(path) => ListenerName::Unix { path: path.to_string_lossy().into_owned() },
        Local::Abstract(name) => ListenerName::Unix { path: format!("\0{}", String::from_utf8_lossy(name)) },
    };
    ServerFacts {
        listeners: listeners.iter().map(name).collect(),
        multiprocess: settings.workers() > 1,
        multithread: mode != RequestMode::Direct,
        software,
        script_name: std::env::var("SCRIPT_NAME").unwrap_or_default(),
    }
}
