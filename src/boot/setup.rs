//! The translation of settings into the terms of the floors below, and the checks that need those floors.

use std::time::Duration;

use rgunicorn_http::{HeadLimits, HeaderMap, Policy, proxy};
use rgunicorn_io::driver::{self, Choice, Driver, Report};
use rgunicorn_io::sys::account::{self, Identity};
use rgunicorn_io::sys::listener;
use rgunicorn_io::sys::place::Owner;
use rgunicorn_server::arbiter;
use rgunicorn_server::worker::{HandoffConfig, WorkerConfig};
use rgunicorn_settings::{BindAddress, Id, Invalid, IoDriver, Settings, WorkerKind, worker_class_check};

use super::names::VERSION;

/// Translates the settings for the arbiter.
///
/// # Errors
/// A worker class, an address or an account that cannot be, or a driver that does not work here: the text for
/// stderr.
pub(super) fn arbiter_config(settings: &Settings) -> Result<arbiter::ArbiterConfig, String> {
    settings.worker_kind().map_err(|text| format!("Error: {text}"))?;
    bound_clients(settings).map_err(|invalid| invalid.to_string())?;
    probe_driver(settings)?;
    let owner = file_owner(settings).map_err(|invalid| invalid.to_string())?;
    Ok(arbiter::ArbiterConfig {
        workers: settings.workers(),
        timeout_s: settings.timeout().as_secs(),
        graceful_timeout_s: settings.graceful_timeout().as_secs(),
        boot_timeout_s: settings.boot_timeout().as_secs(),
        daemon: settings.daemon(),
        reuse_port: settings.reuse_port(),
        binds: binds(settings).map_err(|invalid| invalid.to_string())?,
        backlog: i32::try_from(settings.backlog()).unwrap_or(i32::MAX),
        pidfile: settings.pidfile().map(Into::into),
        umask: settings.umask(),
        socket_owner: owner,
        proc_name: settings.proc_name().unwrap_or(settings.default_proc_name()).to_owned(),
        version: VERSION.to_owned(),
        worker_name: worker_name(settings).to_owned(),
    })
}

/// Returns the name for `Using worker:`: `gthread` where `sync` became that because of `threads`, else the
/// configured one.
fn worker_name(settings: &Settings) -> &str {
    if let Some(path) = settings.worker_class().strip_prefix("<class '") {
        return path.trim_end_matches("'>").rsplit('.').next().unwrap_or_default();
    }
    let became_threads = settings.worker_kind() == Ok(WorkerKind::Gthread)
        && worker_class_check(settings.worker_class()) == Ok(WorkerKind::Sync);
    if became_threads { "gthread" } else { settings.worker_class() }
}

/// Returns in how many threads a worker runs the application; 0: on the loop's own.
pub(super) fn threads(settings: &Settings) -> usize {
    let threads = settings.threads() as usize;
    match settings.worker_kind() {
        Ok(WorkerKind::Gthread) => threads.max(1),
        Ok(WorkerKind::Uring) if threads > 1 => threads,
        _ => 0,
    }
}

/// Refuses time-outs of 0: no client may wait, or let us wait, for ever.
fn bound_clients(settings: &Settings) -> Result<(), Invalid> {
    let timeouts = [
        (Id::header_timeout, settings.header_timeout()),
        (Id::body_timeout, settings.body_timeout()),
        (Id::write_timeout, settings.write_timeout()),
    ];
    let unbounded = timeouts.into_iter().find(|(_, timeout)| timeout.is_zero());
    unbounded.map_or(Ok(()), |(id, _)| {
        Err(settings.refuse(id, "0 would let clients hold their connections for ever (allowed: 1 or more)"))
    })
}

/// Parses the addresses to listen at. Gunicorn starts with `bind = []` and serves no client; here it is
/// refused.
fn binds(settings: &Settings) -> Result<Vec<listener::ListenAddress>, Invalid> {
    if settings.bind().is_empty() {
        let allowed = "HOST:PORT, [IPV6]:PORT, unix:PATH, fd://N";
        return Err(settings.refuse(Id::bind, format!("no address to listen on (allowed: {allowed})")));
    }
    let parse = |text: &String| BindAddress::parse(text).map(|parsed| address(&parsed));
    let binds = settings.bind().iter().map(parse).collect::<Result<Vec<_>, _>>();
    let binds = binds.map_err(|bad| settings.refuse(Id::bind, bad.to_string()))?;
    let any_port =
        |bind: &listener::ListenAddress| matches!(bind, listener::ListenAddress::Tcp { port: 0, .. });
    if settings.reuse_port() && binds.iter().any(any_port) {
        let reason =
            "with reuse_port each worker would get a port of its own that nobody knows (allowed: 1 to 65535)";
        return Err(settings.refuse(Id::bind, reason));
    }
    Ok(binds)
}

/// Looks up the account that workers change to.
///
/// # Errors
/// A name that no account has.
pub(super) fn identity(settings: &Settings) -> Result<Identity, Invalid> {
    let find = |id, kind, name: Option<&str>, look_up: fn(&str) -> std::io::Result<Option<u32>>| {
        let Some(name) = name else { return Ok(None) };
        match look_up(name) {
            Ok(Some(number)) => Ok(Some(number)),
            Ok(None) => Err(settings.refuse(id, format!("No such {kind}: '{name}'"))),
            Err(error) => Err(settings.refuse(id, format!("cannot look up {kind} '{name}': {error}"))),
        }
    };
    Ok(Identity {
        user: find(Id::user, "user", settings.user(), account::user_id)?,
        group: find(Id::group, "group", settings.group(), account::group_id)?,
        init_groups: settings.initgroups(),
        no_new_privs: settings.no_new_privs(),
    })
}

/// Returns the account that gets socket files and log files: that of `user` and `group`, if either is set.
///
/// # Errors
/// A name that no account has.
pub(super) fn file_owner(settings: &Settings) -> Result<Option<Owner>, Invalid> {
    let Identity { user, group, .. } = identity(settings)?;
    Ok(owner(user, group))
}

/// Returns the account of these ids, where a missing one is the server's own; `None` if both are.
pub(super) fn owner(user: Option<u32>, group: Option<u32>) -> Option<Owner> {
    let (own_user, own_group) = account::effective();
    let named = user.is_some() || group.is_some();
    named.then(|| Owner { user: user.unwrap_or(own_user), group: group.unwrap_or(own_group) })
}

/// Opens a ring and closes it again, with `io_driver = uring`: better no start than workers that cannot.
fn probe_driver(settings: &Settings) -> Result<(), String> {
    if settings.io_driver() != IoDriver::Uring {
        return Ok(());
    }
    open_driver(settings).map(drop).map_err(|reason| settings.refuse(Id::io_driver, reason).to_string())
}

/// Opens the driver that the settings ask for; the report says which one it is.
///
/// # Errors
/// The error of the kernel, with the likely cause.
pub(super) fn open_driver(settings: &Settings) -> Result<(Driver, Report), String> {
    Driver::open(&driver_config(settings)).map_err(|error| match settings.io_driver() {
        IoDriver::Uring => format!("{} (allowed here: auto, epoll)", Report::refused("uring", error)),
        IoDriver::Auto | IoDriver::Epoll => error.to_string(),
    })
}

fn address(parsed: &BindAddress) -> listener::ListenAddress {
    match parsed {
        BindAddress::Tcp { host, port } => listener::ListenAddress::Tcp { host: host.clone(), port: *port },
        BindAddress::Unix(path) => listener::ListenAddress::Unix(path.into()),
        BindAddress::Abstract(name) => listener::ListenAddress::Abstract(name.clone().into_bytes()),
        BindAddress::Fd(fd) => listener::ListenAddress::Fd(*fd as i32),
    }
}

/// Returns sizes and choice of the driver.
fn driver_config(settings: &Settings) -> driver::Config {
    let choice = match settings.io_driver() {
        IoDriver::Auto => Choice::Auto,
        IoDriver::Uring => Choice::Uring,
        IoDriver::Epoll => Choice::Epoll,
    };
    driver::Config { choice, ..driver::Config::worker() }
}

/// Translates the rules for reading requests.
pub(super) fn policy(settings: &Settings) -> Policy {
    let limits = HeadLimits::new(
        settings.limit_request_line() as usize,
        settings.limit_request_fields() as usize,
        settings.limit_request_field_size() as usize,
    );
    Policy {
        permit_obsolete_folding: settings.permit_obsolete_folding(),
        strip_header_spaces: settings.strip_header_spaces(),
        permit_unconventional_http_method: settings.permit_unconventional_http_method(),
        permit_unconventional_http_version: settings.permit_unconventional_http_version(),
        casefold_http_method: settings.casefold_http_method(),
        header_map: match settings.header_map() {
            "refuse" => HeaderMap::Refuse,
            "dangerous" => HeaderMap::Dangerous,
            _ => HeaderMap::Drop,
        },
        forwarder_headers: settings.forwarder_headers().to_vec(),
        secure_scheme_headers: settings.secure_scheme_headers().to_vec(),
        ..Policy::new(limits)
    }
}

/// Parses which PROXY headers a worker takes.
fn proxy_protocol(mode: &str) -> proxy::ProxyMode {
    match mode {
        "v1" => proxy::ProxyMode::V1,
        "v2" => proxy::ProxyMode::V2,
        "auto" => proxy::ProxyMode::Auto,
        _ => proxy::ProxyMode::Off,
    }
}

/// Computes the numbers a worker runs by.
pub(super) fn worker_config(settings: &Settings, requests_max: u64) -> WorkerConfig {
    let usual = WorkerConfig::default();
    WorkerConfig {
        connections_max: settings.worker_connections().max(1) as usize,
        evict_after: settings.evict_after(),
        keepalive: settings.keepalive(),
        close_always: settings.worker_kind() == Ok(WorkerKind::Sync),
        header_timeout: settings.header_timeout(),
        body_bytes_max: match settings.limit_request_body() {
            0 => usual.body_bytes_max,
            bytes => u64::from(bytes),
        },
        body_stall_timeout: settings.body_timeout(),
        body_bytes_per_s_min: settings.body_min_rate(),
        request_memory_bytes_max: match settings.limit_request_memory() {
            // Sums of it fit, whatever is added.
            0 => usize::MAX / 2,
            bytes => bytes as usize,
        },
        write_stall_timeout: settings.write_timeout(),
        handoff: HandoffConfig {
            works: settings.handoff(),
            after: Duration::from_millis(settings.handoff_after_ms().into()),
        },
        abandon_timeout: settings.abandon_timeout(),
        requests_max,
        graceful_timeout: settings.graceful_timeout(),
        proxy_protocol: proxy_protocol(settings.proxy_protocol()),
        idle_wait_max: match settings.timeout() {
            Duration::ZERO => usual.idle_wait_max,
            timeout => usual.idle_wait_max.min(timeout / 2),
        },
        ..usual
    }
}
