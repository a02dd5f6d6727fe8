//! Is the table sound?

use std::collections::HashSet;

use crate::check::{builtin, check};
use crate::table::SINCE_OWN;
use crate::{CommandLine, DefaultValue, Environment, Id, ROWS, Raw, Settings, ValueKind, resolve};

fn defaults() -> Settings {
    resolve(&Environment::default(), None, &CommandLine::default(), &CommandLine::default()).unwrap()
}

#[test]
fn every_default_passes_its_own_check() {
    for row in ROWS {
        let raw = match row.default {
            DefaultValue::None => Raw::None,
            DefaultValue::Flag(on) => Raw::Bool(on),
            DefaultValue::Int(number) => Raw::Int(i64::from(number)),
            DefaultValue::Text(text) => Raw::Str(text.to_owned()),
            DefaultValue::List(items) => {
                Raw::List(items.iter().map(|item| Raw::Str((*item).to_owned())).collect())
            }
            DefaultValue::Map(pairs) => {
                Raw::Dict(pairs.iter().map(|(k, v)| ((*k).to_owned(), Raw::Str((*v).to_owned()))).collect())
            }
        };
        if row.kind != ValueKind::Object {
            assert_eq!(check(row, &raw), Ok(builtin(row)), "{}", row.name);
        }
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
    }
}

#[test]
fn rows_are_complete() {
    for row in ROWS {
        assert!(row.text.trim().ends_with('.'), "{}: a sentence ends with a full stop", row.name);
        assert_eq!(
            row.metavar().is_empty(),
            row.usage.is_empty() || matches!(row.kind, ValueKind::Flag | ValueKind::Sendfile),
            "{}",
            row.name
        );
        assert!(
            row.since == SINCE_OWN || row.since.starts_with(|c: char| c.is_ascii_digit()),
            "{}",
            row.name
        );
        assert!(row.choices.iter().all(|choice| *choice == choice.to_lowercase()), "{}", row.name);
    }
}

/// `gunicorn --print-config` of 27.0.1, the rows that exist here and do not depend on the machine.
const GUNICORNS: &str = r#"access_log_format = %(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"
accesslog = None
asgi_disconnect_grace_period = 3
asgi_lifespan = auto
asgi_loop = auto
backlog = 2048
bind = ['127.0.0.1:8000']
ca_certs = None
capture_output = False
casefold_http_method = False
cert_reqs = 0
certfile = None
check_config = False
child_exit = <ChildExit.child_exit()>
ciphers = None
config = ./gunicorn.conf.py
control_socket_disable = False
control_socket_mode = 384
daemon = False
dirty_apps = []
dirty_graceful_timeout = 30
dirty_post_fork = <DirtyPostFork.dirty_post_fork()>
dirty_threads = 1
dirty_timeout = 300
dirty_worker_exit = <DirtyWorkerExit.dirty_worker_exit()>
dirty_worker_init = <DirtyWorkerInit.dirty_worker_init()>
dirty_workers = 0
disable_redirect_access_to_syslog = False
do_handshake_on_connect = False
dogstatsd_tags =
enable_backlog_metric = False
enable_stdio_inheritance = False
errorlog = -
forwarded_allow_ips = ['127.0.0.1', '::1']
forwarder_headers = ['SCRIPT_NAME', 'PATH_INFO']
graceful_timeout = 30
header_map = drop
http2_cleartext = off
http2_initial_window_size = 65535
http2_max_concurrent_streams = 100
http2_max_frame_size = 16384
http2_max_header_list_size = 65536
http_parser = auto
http_protocols = ['h1']
initgroups = False
keepalive = 2
keyfile = None
limit_request_field_size = 8190
limit_request_fields = 100
limit_request_line = 4094
logconfig = None
logconfig_dict = {}
logconfig_json = None
logger_class = gunicorn.glogging.Logger
loglevel = info
max_requests = 0
max_requests_jitter = 0
nworkers_changed = <NumWorkersChanged.nworkers_changed()>
on_dirty_starting = <OnDirtyStarting.on_dirty_starting()>
on_exit = <OnExit.on_exit()>
on_reload = <OnReload.on_reload()>
on_starting = <OnStarting.on_starting()>
paste = None
permit_obsolete_folding = False
permit_unconventional_http_method = False
permit_unconventional_http_version = False
pidfile = None
post_fork = <Postfork.post_fork()>
post_request = <PostRequest.post_request()>
post_worker_init = <PostWorkerInit.post_worker_init()>
pre_exec = <PreExec.pre_exec()>
pre_fork = <Prefork.pre_fork()>
pre_request = <PreRequest.pre_request()>
preload_app = False
print_config = False
proc_name = None
protocol = http
proxy_allow_ips = ['127.0.0.1', '::1']
proxy_protocol = off
pythonpath = None
raw_env = []
raw_paste_global_conf = []
reload = False
reload_engine = auto
reload_extra_files = []
reuse_port = False
root_path =
secure_scheme_headers = {'X-FORWARDED-PROTOCOL': 'ssl', 'X-FORWARDED-PROTO': 'https', 'X-FORWARDED-SSL': 'on'}
sendfile = None
spew = False
ssl_context = <NewSSLContext.ssl_context()>
ssl_version = 2
statsd_host = None
statsd_prefix =
strip_header_spaces = False
suppress_ragged_eofs = True
syslog = False
syslog_addr = udp://localhost:514
syslog_facility = user
syslog_prefix = None
threads = 1
timeout = 30
tmp_upload_dir = None
umask = 0
uwsgi_allow_ips = ['127.0.0.1', '::1']
websocket_max_message_size = 16777216
when_ready = <WhenReady.when_ready()>
worker_abort = <WorkerAbort.worker_abort()>
worker_class = sync
worker_connections = 1000
worker_exit = <WorkerExit.worker_exit()>
worker_int = <WorkerInt.worker_int()>
worker_tmp_dir = None
workers = 1
wsgi_app = None"#;

#[test]
fn defaults_are_gunicorns() {
    // Of the machine.
    let left_out = ["chdir", "user", "group", "control_socket", "default_proc_name"];
    let lines: Vec<String> = defaults()
        .iter()
        .filter(|(name, _)| !left_out.contains(name))
        .filter(|(name, _)| Id::by_name(name).is_some_and(|id| id.row().since != SINCE_OWN))
        .map(|(name, value)| format!("{name} = {value}").trim_end().to_owned())
        .collect();
    assert_eq!(lines.join("\n"), GUNICORNS);
}
