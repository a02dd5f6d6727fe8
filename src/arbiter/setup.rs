//! What a configuration opens: its listeners. There are two setups at a time only while a reload is on trial.
//!
//! Most listeners are opened by the master and shared. With `reuse_port` each worker opens its TCP listeners itself; the
//! master has then only tried whether they can be opened. A unix socket has one file and a descriptor is one socket, so
//! these are shared in any case.
//!
//! A master that another one has started gets the shared listeners from that one, and opens none by itself until a reload
//! asks for more.

use super::{Config, Host, Level, Limits};
use crate::sys::listener::{Address, Listener, Options};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// How often a busy address is tried, and the pause between two tries. As Gunicorn: time for a predecessor to go.
const BIND_TRIES_MAX: u32 = 5;
const BIND_PAUSE: Duration = Duration::from_secs(1);
/// What an operator has to know who changes `reuse_port` and reloads: our own sockets are in the way.
const RESTART_HINT: &str = " (reuse_port has changed: that takes a restart)";

/// A configuration and the sockets that it names.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) config: Arc<Config>,
    pub(super) listeners: Vec<Arc<Listener>>,
    /// What each worker opens by itself.
    own: Vec<Address>,
}

impl Setup {
    /// Opens the sockets of the first configuration, patiently; or takes over the `inherited` ones of the master before
    /// this one. `Err` is the exit status.
    pub(super) fn start(host: &mut dyn Host, config: Config, inherited: &[RawFd]) -> Result<Self, i32> {
        let (own, shared) = wanted(&config);
        let (own, options) = (own.into_iter().cloned().collect::<Vec<_>>(), options(&config));
        let mut listeners = Vec::new();
        if inherited.is_empty() {
            for address in shared {
                match patiently(host, address, || Listener::open(address, &options)) {
                    Ok(listener) => listeners.push(Arc::new(listener)),
                    Err(status) => {
                        unlink(&listeners);
                        return Err(status);
                    }
                }
            }
        } else {
            listeners = inherit(host, inherited, &shared, &options)?;
        }
        for address in &own {
            let tried = patiently(host, address, || Listener::try_bind(address, &options));
            if let Err(status) = tried {
                if inherited.is_empty() {
                    unlink(&listeners);
                }
                return Err(status);
            }
        }
        Ok(Self { config: Arc::new(config), listeners, own })
    }

    /// Opens what a new configuration names beyond the present one; sockets of unchanged addresses are shared. One try
    /// only: the server is busy serving.
    ///
    /// # Errors
    /// The address and the reason; nothing is left open.
    pub(super) fn next(&self, config: Config) -> Result<Self, String> {
        let options = options(&config);
        let (own, shared) = wanted(&config);
        let own: Vec<Address> = own.into_iter().cloned().collect();
        let mut next = Self { config: Arc::new(config.clone()), listeners: Vec::new(), own };
        let opened = next.open_beyond(self, &shared, &options);
        if let Err((address, error)) = opened {
            next.unlink_beyond(self);
            let hint = if config.reuse_port == self.config.reuse_port { "" } else { RESTART_HINT };
            return Err(format!("connection to {address} failed: {}{hint}", python_text(&error)));
        }
        Ok(next)
    }

    fn open_beyond(
        &mut self,
        before: &Self,
        shared: &[&Address],
        options: &Options,
    ) -> Result<(), (Address, io::Error)> {
        for address in shared {
            let kept = before.listeners.iter().find(|listener| listener.address() == *address);
            let listener = match kept {
                Some(kept) => Arc::clone(kept),
                None => {
                    Arc::new(Listener::open(address, options).map_err(|error| ((*address).clone(), error))?)
                }
            };
            self.listeners.push(listener);
        }
        for address in self.own.iter().filter(|address| !before.own.contains(address)) {
            Listener::try_bind(address, options).map_err(|error| (address.clone(), error))?;
        }
        Ok(())
    }

    /// In a worker: the shared listeners, and those that it opens by itself. There are none here afterwards.
    ///
    /// # Errors
    /// The address and the reason.
    pub(super) fn take_listeners(&mut self) -> Result<Vec<Arc<Listener>>, String> {
        let mut listeners = std::mem::take(&mut self.listeners);
        let options = options(&self.config);
        for address in &self.own {
            let opened = Listener::open(address, &options);
            let opened =
                opened.map_err(|error| format!("connection to {address} failed: {}", python_text(&error)))?;
            listeners.push(Arc::new(opened));
        }
        Ok(listeners)
    }

    /// Removes the socket files that `other` does not use.
    pub(super) fn unlink_beyond(&self, other: &Self) {
        let shared =
            |listener: &Arc<Listener>| other.listeners.iter().any(|kept| Arc::ptr_eq(kept, listener));
        self.listeners.iter().filter(|listener| !shared(listener)).for_each(|listener| listener.unlink());
    }

    /// Closes this process's descriptors; `unlink_files`: and removes the socket files.
    pub(super) fn close(&mut self, unlink_files: bool) {
        if unlink_files {
            unlink(&self.listeners);
        }
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
        boot_timeout: Duration::from_secs(config.boot_timeout_s),
        daemon: config.daemon,
    }
}

fn unlink(listeners: &[Arc<Listener>]) {
    listeners.iter().for_each(|listener| listener.unlink());
}

fn options(config: &Config) -> Options {
    Options {
        backlog: config.backlog,
        umask: config.umask,
        owner: config.socket_owner,
        reuse_port: config.reuse_port,
    }
}

/// The addresses to open, by each worker and by the master. As in Gunicorn, descriptors that were handed over silence all
/// others.
fn wanted(config: &Config) -> (Vec<&Address>, Vec<&Address>) {
    let handed_over = config.binds.iter().any(|address| matches!(address, Address::Fd(_)));
    let binds = config.binds.iter().filter(|address| !handed_over || matches!(address, Address::Fd(_)));
    binds.partition(|address| config.reuse_port && matches!(address, Address::Tcp { .. }))
}

/// Takes over what a predecessor listens on, all of it, as Gunicorn does. Each socket gets the address that the
/// configuration has for it; a descriptor of the configuration (`fd://N`) was the predecessor's, and stands for the next
/// socket without one.
fn inherit(
    host: &mut dyn Host,
    inherited: &[RawFd],
    shared: &[&Address],
    options: &Options,
) -> Result<Vec<Arc<Listener>>, i32> {
    let mut named = vec![false; shared.len()];
    let mut listeners = Vec::new();
    for fd in inherited {
        let listener = Listener::inherit(*fd, options).map_err(|error| {
            host.startup_error(&format!(
                "cannot take over the listening socket {fd}: {}",
                python_text(&error)
            ));
            1
        })?;
        let free = |index: &usize| !named[*index];
        let by_address = (0..shared.len()).filter(free).find(|index| listener.is_at(shared[*index]));
        let by_turn =
            || (0..shared.len()).filter(free).find(|index| matches!(shared[*index], Address::Fd(_)));
        let listener = match by_address.or_else(by_turn) {
            Some(index) => {
                named[index] = true;
                listener.named(shared[index].clone())
            }
            None => listener,
        };
        listeners.push(Arc::new(listener));
    }
    for (address, _) in shared.iter().zip(named).filter(|(_, named)| !named) {
        let text = "is not open: the former master had no such socket. A reload (HUP) opens it";
        host.log(Level::Warning, format_args!("{address} {text}"));
    }
    Ok(listeners)
}

/// Tries to open `address`, several times if it must be.
fn patiently<T>(host: &mut dyn Host, address: &Address, open: impl Fn() -> io::Result<T>) -> Result<T, i32> {
    for _ in 0..BIND_TRIES_MAX {
        let error = match open() {
            Ok(opened) => return Ok(opened),
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
