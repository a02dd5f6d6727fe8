//! The listeners of one configuration. There are two sets at a time only while a reload is on trial.
//!
//! Most listeners are opened by the master and shared. With `reuse_port` each worker opens its TCP listeners
//! itself; the master has then only tried whether they can be opened. A unix socket has one file and a
//! descriptor is one socket, so these are shared in any case.
//!
//! A new master gets the shared listeners from the old one, and opens none by itself until a reload asks for
//! more.

use super::{ArbiterConfig, Host, Level, OldMaster, WorkerLimits};
use rgunicorn_io::sys::listener::{ListenAddress, Listener, Options};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// The number of tries at a busy address, and the pause between two of them. As Gunicorn: time for an old
/// master to go.
const BIND_TRIES_MAX: u32 = 5;
const BIND_PAUSE: Duration = Duration::from_secs(1);
/// The hint for an operator who has changed `reuse_port` and reloads: our own sockets are in the way.
const RESTART_HINT: &str = " (reuse_port has changed: that takes a restart)";

/// The hint for an operator whose `reuse_port` comes too late, because the sockets are shared already.
pub(super) const SHARED_HINT: &str = "reuse_port takes a restart: the sockets that are open stay shared";

/// A configuration and the sockets that it names.
#[derive(Debug)]
pub(super) struct ListenerSet {
    pub(super) config: Arc<ArbiterConfig>,
    pub(super) listeners: Vec<Arc<Listener>>,
    /// The addresses at which each worker opens a listener of its own.
    per_worker: Vec<ListenAddress>,
}

impl ListenerSet {
    /// Opens the sockets of the first configuration, with several tries, or takes over those of the old
    /// master.
    ///
    /// # Errors
    /// The exit status, after everything has been reported.
    pub(super) fn start(
        host: &mut dyn Host,
        config: ArbiterConfig,
        old_master: Option<&OldMaster>,
    ) -> Result<Self, i32> {
        let mut options = options(&config);
        let fds = old_master.map(|old_master| old_master.sockets.as_slice()).unwrap_or_default();
        let inherited = inherit(host, fds, &options)?;
        // The old master's workers have sockets of their own, beside which ours have to be.
        options.reuse_port |= old_master.is_some() && inherited.is_empty();
        let (per_worker, shared) =
            split_binds(&config, |address| inherited.iter().any(|listener| listener.is_at(address)));
        let per_worker: Vec<ListenAddress> = per_worker.into_iter().cloned().collect();
        let made_here = inherited.is_empty();
        let mut listeners = name_inherited(host, inherited, &shared);
        let opened = shared.iter().filter(|_| made_here).try_for_each(|address| {
            let listener = open_with_retries(host, address, || Listener::open(address, &options))?;
            listeners.push(Arc::new(listener));
            Ok(())
        });
        let tried = opened.and_then(|()| {
            per_worker.iter().try_for_each(|address| {
                open_with_retries(host, address, || Listener::bind(address, &options).map(drop))
            })
        });
        if let Err(status) = tried {
            if made_here {
                unlink(&listeners);
            }
            return Err(status);
        }
        Ok(Self { config: Arc::new(config), listeners, per_worker })
    }

    /// Opens the addresses that a new configuration has beyond the present one; sockets of unchanged
    /// addresses are shared. There is one try only: the server is busy serving.
    ///
    /// # Errors
    /// The address that cannot be opened and the reason; nothing is left open.
    pub(super) fn next(&self, config: ArbiterConfig) -> Result<Self, String> {
        let options = options(&config);
        let is_shared =
            |address: &ListenAddress| self.listeners.iter().any(|listener| listener.address() == address);
        let (per_worker, shared) = split_binds(&config, is_shared);
        let per_worker = per_worker.into_iter().cloned().collect();
        let mut next = Self { config: Arc::new(config.clone()), listeners: Vec::new(), per_worker };
        if let Err((address, error)) = next.open_beyond(self, &shared, &options) {
            next.unlink_beyond(self);
            let hint = if config.reuse_port == self.config.reuse_port { "" } else { RESTART_HINT };
            return Err(format!("connection to {address} failed: {}{hint}", python_text(&error)));
        }
        Ok(next)
    }

    /// Returns whether `reuse_port` asks for more than there is. A socket that is shared once stays so until
    /// the server is started anew: beside it no other can be bound.
    pub(super) fn shares_despite_reuse_port(&self) -> bool {
        self.config.reuse_port
            && self.listeners.iter().any(|one| matches!(one.address(), ListenAddress::Tcp { .. }))
    }

    fn open_beyond(
        &mut self,
        before: &Self,
        shared: &[&ListenAddress],
        options: &Options,
    ) -> Result<(), (ListenAddress, io::Error)> {
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
        for address in self.per_worker.iter().filter(|address| !before.per_worker.contains(address)) {
            Listener::bind(address, options).map(drop).map_err(|error| (address.clone(), error))?;
        }
        Ok(())
    }

    /// Takes the shared listeners, in a worker, and opens those of its own. There are none here afterwards.
    /// Its own do not listen yet: while the application is imported, connections go to other workers, and
    /// none is lost with a worker that does not boot.
    ///
    /// # Errors
    /// The address that cannot be opened and the reason; nothing is left open.
    pub(super) fn take_listeners(&mut self) -> Result<Vec<Arc<Listener>>, String> {
        let mut listeners = std::mem::take(&mut self.listeners);
        let options = options(&self.config);
        for address in &self.per_worker {
            let opened = Listener::bind(address, &options);
            let opened =
                opened.map_err(|error| format!("connection to {address} failed: {}", python_text(&error)))?;
            listeners.push(Arc::new(opened.into_exclusive()));
        }
        Ok(listeners)
    }

    /// Removes the socket files that `other` does not use.
    pub(super) fn unlink_beyond(&self, other: &Self) {
        let shared =
            |listener: &Arc<Listener>| other.listeners.iter().any(|kept| Arc::ptr_eq(kept, listener));
        self.listeners.iter().filter(|listener| !shared(listener)).for_each(|listener| listener.unlink());
    }

    /// Closes this process's descriptors, and removes the socket files if `unlink_files`.
    pub(super) fn close(&mut self, unlink_files: bool) {
        if unlink_files {
            unlink(&self.listeners);
        }
        self.listeners.clear();
    }

    /// Renders the addresses for the log: `http://127.0.0.1:8000,unix:/run/app.sock`.
    pub(super) fn addresses(&self) -> String {
        self.listeners.iter().map(|listener| listener.local().to_string()).collect::<Vec<_>>().join(",")
    }
}

/// Extracts the part of a configuration that decisions rest on.
pub(super) fn limits(config: &ArbiterConfig) -> WorkerLimits {
    WorkerLimits {
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

fn options(config: &ArbiterConfig) -> Options {
    Options {
        backlog: config.backlog,
        umask: config.umask,
        owner: config.socket_owner,
        reuse_port: config.reuse_port,
    }
}

/// Splits the configured addresses into those that each worker opens and those that the master opens. As in
/// Gunicorn, descriptors that were handed over silence all others.
fn split_binds(
    config: &ArbiterConfig,
    is_shared: impl Fn(&ListenAddress) -> bool,
) -> (Vec<&ListenAddress>, Vec<&ListenAddress>) {
    let handed_over = config.binds.iter().any(|address| matches!(address, ListenAddress::Fd(_)));
    let binds = config.binds.iter().filter(|address| !handed_over || matches!(address, ListenAddress::Fd(_)));
    binds.partition(|address| {
        config.reuse_port && matches!(address, ListenAddress::Tcp { .. }) && !is_shared(address)
    })
}

/// Takes over the sockets of the old master, all of them, as Gunicorn does.
fn inherit(host: &mut dyn Host, fds: &[RawFd], options: &Options) -> Result<Vec<Listener>, i32> {
    let listener = |fd: &RawFd| {
        Listener::inherit(*fd, options).map_err(|error| {
            host.startup_error(&format!(
                "cannot take over the listening socket {fd}: {}",
                python_text(&error)
            ));
            1
        })
    };
    fds.iter().map(listener).collect()
}

/// Gives inherited sockets the addresses that the configuration has for them. A descriptor of the
/// configuration (`fd://N`) was the old master's, and stands for the next socket without an address.
fn name_inherited(
    host: &mut dyn Host,
    inherited: Vec<Listener>,
    shared: &[&ListenAddress],
) -> Vec<Arc<Listener>> {
    if inherited.is_empty() {
        return Vec::new();
    }
    let mut free = shared.to_vec();
    let mut listeners = Vec::new();
    for listener in inherited {
        let by_address = free.iter().position(|address| listener.is_at(address));
        let by_turn = || free.iter().position(|address| matches!(address, ListenAddress::Fd(_)));
        let named = match by_address.or_else(by_turn) {
            Some(index) => listener.with_address(free.remove(index).clone()),
            None => listener,
        };
        listeners.push(Arc::new(named));
    }
    for address in free {
        let text = "is not open: the former master had no such socket. A reload (HUP) opens it";
        host.log(Level::Warning, format_args!("{address} {text}"));
    }
    listeners
}

/// Tries to open `address`, several times if it must be.
fn open_with_retries<T>(
    host: &mut dyn Host,
    address: &ListenAddress,
    open: impl Fn() -> io::Result<T>,
) -> Result<T, i32> {
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

/// Renders an error of the operating system as Python prints it: `[Errno 98] Address already in use`.
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
