//! The table: every setting, once. Rows feed the command line, `--help`, the defaults and the checks; the macro makes
//! one typed accessor of [`Settings`] out of each. To add a setting, add a row (its doc comment is its help text).

use std::time::Duration;

use super::resolve::Settings;

/// One setting.
#[derive(Debug)]
pub struct Row {
    /// The name in configuration files.
    pub name: &'static str,
    /// What values it takes.
    pub shape: Shape,
    /// The allowed texts, lower case, when only some are; else empty.
    pub choices: &'static [&'static str],
    /// The built-in value.
    pub default: Fallback,
    /// Its chapter in `--help`.
    pub section: Section,
    /// Flags and metavar as `--help` shows them, for example `-b --bind ADDRESS`. Empty: configuration file only.
    pub usage: &'static str,
    /// The help text: a first sentence that says what it is, then what else must be known.
    pub text: &'static str,
    /// The Gunicorn release that introduced it, or [`OWN`].
    pub since: &'static str,
    /// The environment variable that replaces the default.
    pub env: Option<Env>,
}

/// `since` of settings that Gunicorn does not have.
pub const OWN: &str = "rgunicorn";

/// `since` of settings that are in Gunicorn for longer than its documentation remembers.
const EVER: &str = "0.x";

impl Row {
    /// The option spellings, short ones first.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        self.usage.split_whitespace().filter(|word| word.starts_with('-'))
    }

    /// What stands for the value in usage texts; empty for flags without a value.
    pub fn metavar(&self) -> &'static str {
        self.usage.split_whitespace().find(|word| !word.starts_with('-')).unwrap_or("")
    }
}

/// An environment variable as a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Env {
    /// Its name.
    pub name: &'static str,
    /// What is put before its text to make the setting's value.
    pub prefix: &'static str,
    /// Whether the empty text is a value; else it means unset.
    pub empty_counts: bool,
}

const fn env(name: &'static str) -> Env {
    Env { name, prefix: "", empty_counts: false }
}

/// The shapes of values, and with each the Rust type of the accessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `bool`: True, False, or their names in any case. A flag without value on the command line.
    Flag,
    /// `u32`: an int of 0 or more.
    Count,
    /// `Duration`: an int of 0 or more, in seconds.
    Seconds,
    /// `u32`: as `Count`; a leading zero means octal on the command line.
    Mode,
    /// `&str`: text. None in a file means the default.
    Text,
    /// `Option<&str>`: text or None.
    Maybe,
    /// `Option<&str>`: a name or a number; None means "as the server was started".
    Account,
    /// `&[String]`: a list of texts; one text is a list of one. Repeatable on the command line.
    List,
    /// `&[String]`: one text, split at commas.
    Commas,
    /// `&[String]`: as `Commas`, each item an IP network or `*`. See [`super::Networks`].
    Peers,
    /// `&[(String, String)]`: a dict of texts.
    Map,
    /// `&str`: the name of a worker class. See [`super::worker_class_check`].
    Class,
    /// [`IoDriver`].
    Driver,
}

/// A built-in value, as a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// No value.
    None,
    /// A bool.
    Flag(bool),
    /// An int.
    Int(u32),
    /// A text.
    Text(&'static str),
    /// A list of texts.
    List(&'static [&'static str]),
    /// A dict of texts.
    Map(&'static [(&'static str, &'static str)]),
}

/// A checked value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value.
    None,
    /// A bool.
    Flag(bool),
    /// An int.
    Int(u32),
    /// A text.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
    /// A dict of texts, in its order.
    Map(Vec<(String, String)>),
}

/// Which kernel interface moves the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoDriver {
    /// io_uring where it works, else epoll.
    Auto,
    /// io_uring, or no start.
    Uring,
    /// epoll.
    Epoll,
}

/// The chapters of `--help`, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the titles say it")]
pub enum Section {
    Config,
    Socket,
    Workers,
    Security,
    Mechanics,
    Logging,
    Naming,
    Debugging,
}

impl Section {
    /// All sections, in the order of `--help`.
    pub const ALL: [Self; 8] = [
        Self::Config,
        Self::Socket,
        Self::Workers,
        Self::Security,
        Self::Mechanics,
        Self::Logging,
        Self::Naming,
        Self::Debugging,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Config => "Config File",
            Self::Socket => "Server Socket",
            Self::Workers => "Worker Processes",
            Self::Security => "Security",
            Self::Mechanics => "Server Mechanics",
            Self::Logging => "Logging",
            Self::Naming => "Process Naming",
            Self::Debugging => "Debugging",
        }
    }
}

/// The accessor of one row. The shapes on the left are those of [`Shape`], and the only place that pairs a shape with
/// a Rust type.
macro_rules! accessor {
    ($doc:expr, $name:ident, Flag) => { accessor!(@ $doc, $name, bool, flag); };
    ($doc:expr, $name:ident, Count) => { accessor!(@ $doc, $name, u32, int); };
    ($doc:expr, $name:ident, Mode) => { accessor!(@ $doc, $name, u32, int); };
    ($doc:expr, $name:ident, Seconds) => { accessor!(@ $doc, $name, Duration, seconds); };
    ($doc:expr, $name:ident, Text) => { accessor!(@ $doc, $name, &str, text); };
    ($doc:expr, $name:ident, Class) => { accessor!(@ $doc, $name, &str, text); };
    ($doc:expr, $name:ident, Maybe) => { accessor!(@ $doc, $name, Option<&str>, maybe); };
    ($doc:expr, $name:ident, Account) => { accessor!(@ $doc, $name, Option<&str>, maybe); };
    ($doc:expr, $name:ident, List) => { accessor!(@ $doc, $name, &[String], list); };
    ($doc:expr, $name:ident, Commas) => { accessor!(@ $doc, $name, &[String], list); };
    ($doc:expr, $name:ident, Peers) => { accessor!(@ $doc, $name, &[String], list); };
    ($doc:expr, $name:ident, Map) => { accessor!(@ $doc, $name, &[(String, String)], map); };
    ($doc:expr, $name:ident, Driver) => { accessor!(@ $doc, $name, IoDriver, driver); };
    (@ $doc:expr, $name:ident, $type:ty, $get:ident) => {
        #[doc = $doc]
        pub fn $name(&self) -> $type {
            self.$get(Id::$name)
        }
    };
}

macro_rules! settings {
    ($(
        $(#[doc = $text:literal])+
        $name:ident: $shape:ident $([$($choice:literal),+])? = $default:expr,
        $section:ident, $usage:literal, $since:expr $(, $env:expr)?;
    )+) => {
        /// The number of a setting: its place in [`ROWS`].
        #[expect(non_camel_case_types, missing_docs, reason = "the names are the settings' own")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Id {
            $($name),+
        }

        /// All settings.
        pub static ROWS: &[Row] = &[$(Row {
            name: stringify!($name),
            shape: Shape::$shape,
            choices: &[$($($choice),+)?],
            default: $default,
            section: Section::$section,
            usage: $usage,
            text: concat!($($text),+),
            since: $since,
            env: [$(Some($env),)? None][0],
        }),+];

        impl Id {
            /// All ids, in the order of [`ROWS`].
            pub const ALL: &[Self] = &[$(Self::$name),+];
        }

        #[allow(rustdoc::broken_intra_doc_links, reason = "the texts are written for --help: [IPV6] is no link")]
        impl Settings {
            $(accessor!(concat!($($text),+), $name, $shape);)+
        }
    };
}

use Fallback::{Flag, Int, List, Map, None as Unset, Text};

settings! {
    /// The configuration file: a path, file:PATH or python:MODULE. Without it, gunicorn.conf.py in the current
    /// directory is read if there is one.
    config: Maybe = Text("./gunicorn.conf.py"), Config, "-c --config CONFIG", EVER;

    /// The application, MODULE:NAME, when the command line names none.
    wsgi_app: Maybe = Unset, Config, "", "20.1.0";

    /// An address to listen on: HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N. Repeat it for several.
    bind: List = List(&["127.0.0.1:8000"]), Socket, "-b --bind ADDRESS", EVER,
        Env { name: "PORT", prefix: "0.0.0.0:", empty_counts: true };

    /// Most connections that wait in a listener's queue.
    backlog: Count = Int(2048), Socket, "--backlog INT", EVER;

    /// Worker processes.
    workers: Count = Int(1), Workers, "-w --workers INT", EVER, env("WEB_CONCURRENCY");

    /// The kind of worker: sync (each answer closes its connection), uring (keep-alive connections, thousands per process;
    /// requests run in greenlets if the application is patched by gevent, in threads if there are more than one, else one at
    /// a time), gthread (as uring, always in threads; also what sync becomes with more than one) or gevent (as uring, and the
    /// server patches before it imports the application).
    worker_class: Class = Text("sync"), Workers, "-k --worker-class STRING", EVER;

    /// Threads in which a worker runs the application; with more than one, sync becomes gthread. gevent needs none.
    threads: Count = Int(1), Workers, "--threads INT", "19.0";

    /// Most client connections of one worker, and so most of its requests in greenlets; at the limit it stops accepting.
    worker_connections: Count = Int(1000), Workers, "--worker-connections INT", EVER;

    /// Requests after which a worker is replaced; 0 is never.
    max_requests: Count = Int(0), Workers, "--max-requests INT", EVER;

    /// A random number up to this is added to max_requests of each worker, so that they are not replaced all at once.
    max_requests_jitter: Count = Int(0), Workers, "--max-requests-jitter INT", "19.2";

    /// Seconds of silence after which a worker is aborted and replaced; 0 is never.
    timeout: Seconds = Int(30), Workers, "-t --timeout INT", EVER;

    /// Seconds that a new worker has to import the application; then it is aborted and replaced. During a reload that gives
    /// the reload up. 0 is never.
    boot_timeout: Seconds = Int(0), Workers, "--boot-timeout SECONDS", OWN;

    /// Seconds that a stopping worker has for the requests in progress.
    graceful_timeout: Seconds = Int(30), Workers, "--graceful-timeout INT", EVER;

    /// Seconds that an idle keep-alive connection stays open; 0 switches keep-alive off.
    keepalive: Seconds = Int(2), Workers, "--keep-alive INT", EVER;

    /// Seconds that a client has to send the head of a request, from its first byte or from the accept.
    header_timeout: Seconds = Int(10), Workers, "--header-timeout SECONDS", OWN;

    /// Seconds for which a client may be silent in the middle of a request's body.
    body_timeout: Seconds = Int(30), Workers, "--body-timeout SECONDS", OWN;

    /// Seconds for which a client may take nothing of a response that waits for it.
    write_timeout: Seconds = Int(60), Workers, "--write-timeout SECONDS", OWN;

    /// auto, fast or python: accepted for Gunicorn's sake and without effect, there is one parser.
    http_parser: Text ["auto", "fast", "python"] = Text("auto"), Workers, "--http-parser STRING", "25.0.0";

    /// What moves the bytes: io_uring, epoll, or auto, which is io_uring where the kernel lets it work.
    io_driver: Driver ["auto", "uring", "epoll"] = Text("auto"), Workers, "--io-driver STRING", OWN,
        env("RGUNICORN_IO_DRIVER");

    /// Most 16 KiB chunks of Python frames that a worker keeps when greenlets and threads end, to make those that start
    /// next cheap; 0 keeps none.
    frame_cache_chunks: Count = Int(1000), Workers, "--frame-cache-chunks INT", OWN;

    /// Seconds for which application code may hold the loop of a uring or gevent worker before a warning names the request
    /// and shows the Python stacks of all threads and greenlets; 0 is never.
    loop_block_warning: Seconds = Int(1), Workers, "--loop-block-warning SECONDS", OWN;

    /// Most bytes of a request line; 0 is unlimited, and values above 8190 count as 8190.
    limit_request_line: Count = Int(4094), Security, "--limit-request-line INT", EVER;

    /// Most header fields of a request; 0 and values above 32768 count as 32768.
    limit_request_fields: Count = Int(100), Security, "--limit-request-fields INT", EVER;

    /// Most bytes of one header line; 0 counts as 8190.
    limit_request_field_size: Count = Int(8190), Security, "--limit-request-field_size INT", EVER;

    /// Accept header fields folded over several lines.
    permit_obsolete_folding: Flag = Flag(false), Security, "--permit-obsolete-folding", "23.0.0";

    /// Drop blanks between a header name and its colon, where they are refused otherwise.
    strip_header_spaces: Flag = Flag(false), Security, "--strip-header-spaces", "20.0.1";

    /// Accept methods of any length and case.
    permit_unconventional_http_method: Flag = Flag(false), Security, "--permit-unconventional-http-method", "22.0.0";

    /// Accept HTTP versions other than 1.x.
    permit_unconventional_http_version: Flag = Flag(false), Security, "--permit-unconventional-http-version", "22.0.0";

    /// Turn methods into upper case.
    casefold_http_method: Flag = Flag(false), Security, "--casefold-http-method", "22.0.0";

    /// Peers, as comma-separated IP addresses or networks, whose word on scheme and forwarder headers counts; * is
    /// all.
    forwarded_allow_ips: Peers = Text("127.0.0.1,::1"), Security, "--forwarded-allow-ips STRING", EVER,
        Env { name: "FORWARDED_ALLOW_IPS", prefix: "", empty_counts: true };

    /// off, v1, v2 or auto: the PROXY protocol before the first request of a connection.
    proxy_protocol: Text ["off", "v1", "v2", "auto"] = Text("off"), Mechanics, "--proxy-protocol MODE", EVER;

    /// Peers that may send a PROXY header, as comma-separated IP addresses or networks; * is everybody.
    proxy_allow_ips: Peers = Text("127.0.0.1,::1"), Mechanics, "--proxy-allow-from STRING", EVER;

    /// Headers by which a trusted proxy says that its client used TLS, and the value that says so.
    secure_scheme_headers: Map = Map(&[
        ("X-FORWARDED-PROTOCOL", "ssl"),
        ("X-FORWARDED-PROTO", "https"),
        ("X-FORWARDED-SSL", "on"),
    ]), Security, "", EVER;

    /// Header names with an underscore that a trusted proxy may set, in upper case; * is all.
    forwarder_headers: Commas = Text("SCRIPT_NAME,PATH_INFO"), Security, "--forwarder-headers STRING", "22.0.0";

    /// What becomes of other header names with an underscore: drop, refuse (400) or dangerous (kept).
    header_map: Text ["drop", "refuse", "dangerous"] = Text("drop"), Security, "--header-map STRING", "22.0.0";

    /// Import the application before the workers are forked. It saves memory; a reload does not see new code.
    preload_app: Flag = Flag(false), Mechanics, "--preload", EVER;

    /// Every worker opens TCP listeners of its own (SO_REUSEPORT), between which the kernel distributes connections; the
    /// master opens none.
    reuse_port: Flag = Flag(false), Mechanics, "--reuse-port", "19.8";

    /// The directory to change to before the application is imported. Without it: where the server was started.
    chdir: Maybe = Unset, Mechanics, "--chdir DIR", EVER;

    /// Detach from the terminal and run in the background.
    daemon: Flag = Flag(false), Mechanics, "-D --daemon", EVER;

    /// An environment variable for the application, KEY=VALUE. Repeat it for several.
    raw_env: List = List(&[]), Mechanics, "-e --env KEY=VALUE", EVER;

    /// The file that holds the master's process id while it runs.
    pidfile: Maybe = Unset, Mechanics, "-p --pid FILE", EVER;

    /// The user that workers run as, by name or number. Without it: who started the server.
    user: Account = Unset, Mechanics, "-u --user USER", EVER;

    /// The group that workers run as, by name or number.
    group: Account = Unset, Mechanics, "-g --group GROUP", EVER;

    /// The mode bits that unix sockets are created without.
    umask: Mode = Int(0), Mechanics, "-m --umask INT", EVER;

    /// Give workers the supplementary groups of user.
    initgroups: Flag = Flag(false), Mechanics, "--initgroups", "19.7";

    /// Directories to put first on the Python path, comma-separated.
    pythonpath: Maybe = Unset, Mechanics, "--pythonpath STRING", EVER;

    /// Accepted for Gunicorn's sake and without effect: there is no control socket.
    control_socket_disable: Flag = Flag(false), Mechanics, "--no-control-socket", "25.1.0";

    /// The access log file; - is the standard output. Without it there is none.
    accesslog: Maybe = Unset, Logging, "--access-logfile FILE", EVER;

    /// The form of an access record.
    access_log_format: Text = Text(r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#),
        Logging, "--access-logformat STRING", EVER;

    /// The error log file; - is the standard error.
    errorlog: Text = Text("-"), Logging, "--error-logfile --log-file FILE", EVER;

    /// The least severe level that is logged: debug, info, warning, error or critical. Anything else means info.
    loglevel: Text = Text("info"), Logging, "--log-level LEVEL", EVER;

    /// Keep the standard output and the standard error in daemon mode, unless they are terminals.
    enable_stdio_inheritance: Flag = Flag(false), Logging, "-R --enable-stdio-inheritance", EVER;

    /// The name in process titles. Without it: the application's.
    proc_name: Maybe = Unset, Naming, "-n --name STRING", EVER;

    /// Replace workers when a source file of what they have loaded changes. For development: an application with a syntax
    /// error then answers with it instead of ending the server.
    reload: Flag = Flag(false), Debugging, "--reload", "18.0";

    /// How changes are noticed: poll looks every second, inotify hears of them at once, auto is inotify where it works.
    reload_engine: Text ["auto", "poll", "inotify"] = Text("auto"), Debugging, "--reload-engine STRING", "19.7";

    /// A further file to watch, or a pattern of files. Repeat it for several.
    reload_extra_files: List = List(&[]), Debugging, "--reload-extra-file FILES", "19.8";
}

/// Functions of a configuration file that are called.
pub const HOOKS: [&str; 1] = ["post_fork"];

/// Names that Gunicorn knows and this release does not act on. A file that uses one gets a warning that says so,
/// instead of being told that it misspelt something.
pub(super) const NOT_YET: &[&str] = &[
    "asgi_disconnect_grace_period",
    "asgi_lifespan",
    "asgi_loop",
    "ca_certs",
    "capture_output",
    "cert_reqs",
    "certfile",
    "check_config",
    "child_exit",
    "ciphers",
    "control_socket",
    "control_socket_mode",
    "default_proc_name",
    "dirty_apps",
    "dirty_graceful_timeout",
    "dirty_post_fork",
    "dirty_threads",
    "dirty_timeout",
    "dirty_worker_exit",
    "dirty_worker_init",
    "dirty_workers",
    "disable_redirect_access_to_syslog",
    "do_handshake_on_connect",
    "dogstatsd_tags",
    "enable_backlog_metric",
    "http2_cleartext",
    "http2_initial_window_size",
    "http2_max_concurrent_streams",
    "http2_max_frame_size",
    "http2_max_header_list_size",
    "http_protocols",
    "keyfile",
    "logconfig",
    "logconfig_dict",
    "logconfig_json",
    "logger_class",
    "nworkers_changed",
    "on_dirty_starting",
    "on_exit",
    "on_reload",
    "on_starting",
    "paste",
    "post_request",
    "post_worker_init",
    "pre_exec",
    "pre_fork",
    "pre_request",
    "print_config",
    "protocol",
    "raw_paste_global_conf",
    "root_path",
    "sendfile",
    "spew",
    "ssl_context",
    "ssl_version",
    "statsd_host",
    "statsd_prefix",
    "suppress_ragged_eofs",
    "syslog",
    "syslog_addr",
    "syslog_facility",
    "syslog_prefix",
    "tmp_upload_dir",
    "uwsgi_allow_ips",
    "websocket_max_message_size",
    "when_ready",
    "worker_abort",
    "worker_exit",
    "worker_int",
    "worker_tmp_dir",
];
