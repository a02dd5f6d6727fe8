//! What a configuration opens: its listeners. There are two setups at a time only while a reload is on trial.

use super::{Config, Host, Level, Limits};
use crate::sys::listener::{Address, Listener, Options};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often a busy address is tried, and the pause between two tries. As Gunicorn: time for a predecessor to go.
const BIND_TRIES_MAX: u32 = 5;
const BIND_PAUSE: Duration = Duration::from_secs(1);

/// A configuration and the sockets that it names.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) config: Arc<Config>,
    pub(super) listeners: Vec<Arc<Listener>>,
}

impl Setup {
    /// Opens the sockets of the first configuration, patiently. `Err` is the exit status.
    pub(super) fn start(host: &mut dyn Host, config: Config) -> Result<Self, i32> {
        let mut listeners = Vec::new();
        for address in wanted(&config) {
            match open_patiently(host, address, &options(&config)) {
                Ok(listener) => listeners.push(Arc::new(listener)),
                Err(status) => {
                    unlink(&listeners);
                    return Err(status);
                }
            }
        }
        Ok(Self { config: Arc::new(config), listeners })
    }

    /// Opens what a new configuration names beyond the present one; sockets of unchanged addresses are shared. One try
    /// only: the server is busy serving.
    ///
    /// # Errors
    /// The address and the reason; nothing is left open.
    pub(super) fn next(&self, config: Config) -> Result<Self, String> {
        let mut listeners: Vec<Arc<Listener>> = Vec::new();
        for address in wanted(&config) {
            let kept = self.listeners.iter().find(|listener| listener.address() == address);
            let opened = match kept {
                Some(kept) => Ok(Arc::clone(kept)),
                None => Listener::open(address, &options(&config)).map(Arc::new),
            };
            match opened {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    let setup = Self { config: Arc::clone(&self.config), listeners };
                    setup.unlink_beyond(self);
                    return Err(format!("connection to {address} failed: {}", python_text(&error)));
                }
            }
        }
        Ok(Self { config: Arc::new(config), listeners })
    }

    /// Removes the socket files that `other` does not use.
    pub(super) fn unlink_beyond(&self, other: &Self) {
        let shared =
            |listener: &Arc<Listener>| other.listeners.iter().any(|kept| Arc::ptr_eq(kept, listener));
        self.listeners.iter().filter(|listener| !shared(listener)).for_each(|listener| listener.unlink());
    }

    /// Closes this process's descriptors and removes the socket files.
    pub(super) fn close(&mut self) {
        unlink(&self.listeners);
        self.listeners.clear();
    }

    /// `http://127.0.0.1:8000,unix:/run/app.sock`
    pub(super) fn text(&self) -> String {
        self.listeners.iter().map(|listener| listener.local().to_string()).collect::<Vec<_>>().join(",")
    }
}

/// The part of a configuration that decisions rest on.
pub(super) fn limits(config: &Config) -> Limits {
    Limits {
        workers: config.workers,
        timeout: Duration::from_secs(config.timeout_s),
        graceful_timeout: Duration::from_secs(config.graceful_timeout_s),
    }
}

fn unlink(listeners: &[Arc<Listener>]) {
    listeners.iter().for_each(|listener| listener.unlink());
}

fn options(config: &Config) -> Options {
    Options { backlog: config.backlog, umask: config.umask, owner: config.socket_owner }
}

/// The addresses to open: as in Gunicorn, descriptors that were handed over silence all others.
fn wanted(config: &Config) -> impl Iterator<Item = &Address> {
    let handed_over = config.binds.iter().any(|address| matches!(address, Address::Fd(_)));
    config.binds.iter().filter(move |address| !handed_over || matches!(address, Address::Fd(_)))
}

fn open_patiently(host: &mut dyn Host, address: &Address, options: &Options) -> Result<Listener, i32> {
    for _ in 0..BIND_TRIES_MAX {
        let error = match Listener::open(address, options) {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                host.log(Level::Error, format_args!("Connection in use: {address}"));
            }
            io::ErrorKind::AddrNotAvailable => {
                host.log(Level::Error, format_args!("Invalid address: {address}"));
            }
            io::ErrorKind::InvalidInput if error.raw_os_error().is_none() => {
                host.startup_error(&error.to_string());
                return Err(1);
            }
            _ => {}
        }
        let text = python_text(&error);
        host.log(Level::Error, format_args!("connection to {address} failed: {text}"));
        host.log(Level::Debug, format_args!("Retrying in 1 second."));
        host.blocking(&mut || std::thread::sleep(BIND_PAUSE));
    }
    host.log(Level::Error, format_args!("Can't connect to {address}"));
    Err(1)
}

/// An operating system error as Python prints it: `[Errno 98] Address already in use`.
fn python_text(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(code) => {
            let bare = text.strip_suffix(&format!(" (os error {code})")).unwrap_or(&text);
            format!("[Errno {code}] {bare}")
        }
        None => text,
    }
}
