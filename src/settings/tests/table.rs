//! Is the table sound?

use std::collections::HashSet;

use crate::settings::check::{builtin, check};
use crate::settings::table::{NOT_YET, OWN};
use crate::settings::{CommandLine, Environment, Fallback, Id, ROWS, Raw, Settings, Shape, resolve};

fn defaults() -> Settings {
    resolve(&Environment::default(), None, &CommandLine::default(), &CommandLine::default()).unwrap()
}

#[test]
fn every_default_passes_its_own_check() {
    for row in ROWS {
        let raw = match row.default {
            Fallback::None => Raw::None,
            Fallback::Flag(on) => Raw::Bool(on),
            Fallback::Int(number) => Raw::Int(i64::from(number)),
            Fallback::Text(text) => Raw::Str(text.to_owned()),
            Fallback::List(items) => {
                Raw::List(items.iter().map(|item| Raw::Str((*item).to_owned())).collect())
            }
            Fallback::Map(pairs) => {
                Raw::Dict(pairs.iter().map(|(k, v)| ((*k).to_owned(), Raw::Str((*v).to_owned()))).collect())
            }
        };
        assert_eq!(check(row, &raw), Ok(builtin(row)), "{}", row.name);
    }
}

#[test]
fn names_and_flags_are_unique_and_ids_point_at_their_rows() {
    let mut seen = HashSet::from(["-h", "--help", "-v", "--version"]);
    for flag in ROWS.iter().flat_map(|row| row.flags()) {
        assert!(seen.insert(flag), "{flag} twice");
    }
    for (id, row) in Id::ALL.iter().zip(ROWS) {
        assert!(std::ptr::eq(id.row(), row), "{}", row.name);
        assert_eq!(Id::by_name(row.name), Some(*id), "{} twice", row.name);
        assert!(!NOT_YET.contains(&row.name), "{} is a row and yet to come", row.name);
    }
}

#[test]
fn rows_are_complete() {
    for row in ROWS {
        assert!(row.text.trim().ends_with('.'), "{}: a sentence ends with a full stop", row.name);
        assert_eq!(
            row.metavar().is_empty(),
            row.usage.is_empty() || row.shape == Shape::Flag,
            "{}",
            row.name
        );
        assert!(row.since == OWN || row.since.starts_with(|c: char| c.is_ascii_digit()), "{}", row.name);
        assert!(row.choices.iter().all(|choice| *choice == choice.to_lowercase()), "{}", row.name);
    }
}

/// `gunicorn --print-config` of 27.0.1, the rows that exist here and do not depend on the machine.
const GUNICORNS: &str = r#"access_log_format = %(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"
accesslog = None
backlog = 2048
bind = ['127.0.0.1:8000']
casefold_http_method = False
config = ./gunicorn.conf.py
control_socket_disable = False
daemon = False
enable_stdio_inheritance = False
errorlog = -
forwarded_allow_ips = ['127.0.0.1', '::1']
forwarder_headers = ['SCRIPT_NAME', 'PATH_INFO']
graceful_timeout = 30
header_map = drop
http_parser = auto
initgroups = False
keepalive = 2
limit_request_field_size = 8190
limit_request_fields = 100
limit_request_line = 4094
loglevel = info
max_requests = 0
max_requests_jitter = 0
permit_obsolete_folding = False
permit_unconventional_http_method = False
permit_unconventional_http_version = False
pidfile = None
preload_app = False
proc_name = None
proxy_allow_ips = ['127.0.0.1', '::1']
proxy_protocol = off
pythonpath = None
raw_env = []
reload = False
reload_engine = auto
reload_extra_files = []
reuse_port = False
secure_scheme_headers = {'X-FORWARDED-PROTOCOL': 'ssl', 'X-FORWARDED-PROTO': 'https', 'X-FORWARDED-SSL': 'on'}
strip_header_spaces = False
threads = 1
timeout = 30
umask = 0
worker_class = sync
worker_connections = 1000
workers = 1
wsgi_app = None"#;

#[test]
fn defaults_are_gunicorns() {
    let left_out = [
        "boot_timeout",
        "chdir",
        "body_timeout",
        "frame_cache_chunks",
        "group",
        "header_timeout",
        "write_timeout",
        "io_driver",
        "loop_block_warning",
        "user",
    ]; // of the machine, or our own
    let lines: Vec<String> = defaults()
        .iter()
        .filter(|(name, _)| !left_out.contains(name))
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    assert_eq!(lines.join("\n"), GUNICORNS);
}
