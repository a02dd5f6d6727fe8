//! The rows of the table: every setting, once. To add one, add a row; its doc comment is its help text.

use std::time::Duration;

use super::settings::Settings;
use super::table::DefaultValue::{Flag, Int, List, Map, None as Unset, Text};
use super::table::{
    Env, IoDriver, Row, SINCE_ALWAYS, SINCE_OWN, Section, ValueKind, accessor, env, settings,
};

settings! {
    /// The configuration file: a path, file:PATH or python:MODULE. Without it, gunicorn.conf.py in the current
    /// directory is read if there is one.
    config: OptText = Text("./gunicorn.conf.py"), Config, "-c --config CONFIG", SINCE_ALWAYS;

    /// The application, MODULE:NAME, when the command line names none.
    wsgi_app: OptText = Unset, Config, "", "20.1.0";

    /// An address to listen on: HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N. Repeat it for several.
    bind: List = List(&["127.0.0.1:8000"]), Socket, "-b --bind ADDRESS", SINCE_ALWAYS,
        Env { name: "PORT", prefix: "0.0.0.0:", empty_counts: true };

    /// Most connections that wait in a listener's queue.
    backlog: Count = Int(2048), Socket, "--backlog INT", SINCE_ALWAYS;

    /// Worker processes.
    workers: Count = Int(1), Workers, "-w --workers INT", SINCE_ALWAYS, env("WEB_CONCURRENCY");

    /// The kind of worker: sync (each answer closes its connection), uring (keep-alive connections, thousands
    /// per process; requests run in greenlets if the application is patched by gevent, in threads if there
    /// are more than one, else one at a time), gthread (as uring, always in threads; also what sync becomes
    /// with more than one) or gevent (as uring, and the server patches before it imports the application). Or the
    /// dotted path of a class that others have written for Gunicorn, which has to be installed beside.
    worker_class: Class = Text("sync"), Workers, "-k --worker-class STRING", SINCE_ALWAYS;

    /// Threads in which a worker runs the application; with more than one, sync becomes gthread. gevent needs none.
    threads: Count = Int(1), Workers, "--threads INT", "19.0";

    /// Most client connections of one worker, and so most of its requests in greenlets; at the limit it stops
    /// accepting, unless one can be closed for a new one (evict_after).
    worker_connections: Count = Int(1000), Workers, "--worker-connections INT", SINCE_ALWAYS;

    /// Seconds for which a connection must have been idle, or its request unfinished, until it may be closed in favour
    /// of a new one that waits because all worker_connections are taken; 0 is never, as with Gunicorn.
    evict_after: Seconds = Int(1), Workers, "--evict-after SECONDS", SINCE_OWN;

    /// Requests after which a worker is replaced; 0 is never.
    max_requests: Count = Int(0), Workers, "--max-requests INT", SINCE_ALWAYS;

    /// A random number up to this is added to max_requests of each worker, so that they are not replaced all at once.
    max_requests_jitter: Count = Int(0), Workers, "--max-requests-jitter INT", "19.2";

    /// Seconds of silence after which a worker is aborted and replaced; 0 is never.
    timeout: Seconds = Int(30), Workers, "-t --timeout INT", SINCE_ALWAYS;

    /// Seconds that a new worker has to import the application; then it is aborted and replaced. During a
    /// reload that gives the reload up. 0 is never.
    boot_timeout: Seconds = Int(0), Workers, "--boot-timeout SECONDS", SINCE_OWN;

    /// Seconds that a stopping worker has for the requests in progress.
    graceful_timeout: Seconds = Int(30), Workers, "--graceful-timeout INT", SINCE_ALWAYS;

    /// Give idle connections to other workers when a worker leaves (reload, max_requests, fewer workers), so that none
    /// is closed while the server goes on, and when it has more than its share. --no-handoff closes them instead, as
    /// Gunicorn does, or leaves them where they are.
    handoff: Sendfile = Flag(true), Workers, "--no-handoff", SINCE_OWN;

    /// Milliseconds for which the application may hold a worker until connections that wait for it, and those on which
    /// requests come, go to workers that have time; 0 is for ever. Not with --no-handoff.
    handoff_after_ms: Count = Int(5), Workers, "--handoff-after-ms INT", SINCE_OWN;

    /// Seconds that an idle connection stays open; 0 switches keep-alive off. A new one that has sent nothing yet
    /// stays open for so long, too, and for header_timeout if that is longer (Gunicorn has no such rule).
    keepalive: Seconds = Int(2), Workers, "--keep-alive INT", SINCE_ALWAYS;

    /// Seconds that a client has to send the head of a request, from its first byte on, or from that of the PROXY
    /// header before it. Until then a connection is an idle one, see keepalive.
    header_timeout: Seconds = Int(10), Workers, "--header-timeout SECONDS", SINCE_OWN;

    /// Seconds for which a client may be silent in the middle of a request's body.
    body_timeout: Seconds = Int(30), Workers, "--body-timeout SECONDS", SINCE_OWN;

    /// Bytes of a request's body that must come in each second, on average over 10 seconds; a slower one is answered
    /// with 408. Time in which the worker does not read does not count. 0 allows any rate.
    body_min_rate: Count = Int(0), Workers, "--body-min-rate BYTES", SINCE_OWN;

    /// Seconds for which a client may take nothing of a response that waits for it.
    write_timeout: Seconds = Int(60), Workers, "--write-timeout SECONDS", SINCE_OWN;

    /// Seconds that a request must have waited for its turn until a client that has shut its side of the
    /// connection, and so may be gone or wait for its answer, is taken for gone: its request is not run. 0 is
    /// never.
    abandon_timeout: Seconds = Int(5), Workers, "--abandon-timeout SECONDS", SINCE_OWN;

    /// auto, fast or python: accepted for Gunicorn's sake and without effect, there is one parser.
    http_parser: Text ["auto", "fast", "python"] = Text("auto"), Workers, "--http-parser STRING", "25.0.0";

    /// The kernel interface that moves the bytes: io_uring, epoll, or auto, which is io_uring where the
    /// kernel lets it work.
    io_driver: Driver ["auto", "uring", "epoll"] = Text("auto"), Workers, "--io-driver STRING", SINCE_OWN,
        env("RGUNICORN_IO_DRIVER");

    /// Most 16 KiB chunks of Python frames that a worker keeps when greenlets and threads end, to make those that start
    /// next cheap; 0 keeps none.
    frame_cache_chunks: Count = Int(1000), Workers, "--frame-cache-chunks INT", SINCE_OWN;

    /// Receive and send on gevent's sockets by methods of the server's own, which wait on its loop without Python code
    /// in between. --no-gevent-sockets leaves them to gevent. Of workers whose requests run in greenlets.
    gevent_sockets: Sendfile = Flag(true), Workers, "--no-gevent-sockets", SINCE_OWN,
        env("RGUNICORN_GEVENT_SOCKETS");

    /// Seconds for which application code may hold the loop of a uring or gevent worker before a warning
    /// names the request and shows the Python stacks of all threads and greenlets; 0 is never.
    loop_block_warning: Seconds = Int(1), Workers, "--loop-block-warning SECONDS", SINCE_OWN;

    /// Most bytes of a request line; 0 is unlimited, and values above 8190 count as 8190.
    limit_request_line: Count = Int(4094), Security, "--limit-request-line INT", SINCE_ALWAYS;

    /// Most header fields of a request; 0 and values above 32768 count as 32768.
    limit_request_fields: Count = Int(100), Security, "--limit-request-fields INT", SINCE_ALWAYS;

    /// Most bytes of one header line; 0 counts as 8190.
    limit_request_field_size: Count = Int(8190), Security, "--limit-request-field_size INT", SINCE_ALWAYS;

    /// Most bytes of a request body. A larger one is answered with 413 and its connection closed: at once where the
    /// client tells the length, else when so much has come. 0 is unlimited.
    limit_request_body: Count = Int(0), Security, "--limit-request-body BYTES", SINCE_OWN;

    /// Most bytes of memory in each worker for requests that are not with the application yet. When half of it is
    /// taken, bodies go to their files earlier; when all is, the oldest unfinished requests are answered with 503. 0 is
    /// unlimited.
    limit_request_memory: Count = Int(67108864), Security, "--limit-request-memory BYTES", SINCE_OWN;

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
    forwarded_allow_ips: Peers = Text("127.0.0.1,::1"), Security, "--forwarded-allow-ips STRING", SINCE_ALWAYS,
        Env { name: "FORWARDED_ALLOW_IPS", prefix: "", empty_counts: true };

    /// Headers by which a trusted proxy says that its client used TLS, and the value that says so.
    secure_scheme_headers: Map = Map(&[
        ("X-FORWARDED-PROTOCOL", "ssl"),
        ("X-FORWARDED-PROTO", "https"),
        ("X-FORWARDED-SSL", "on"),
    ]), Security, "", SINCE_ALWAYS;

    /// Header names with an underscore that a trusted proxy may set, in upper case; * is all.
    forwarder_headers: Commas = Text("SCRIPT_NAME,PATH_INFO"), Security, "--forwarder-headers STRING", "22.0.0";

    /// The treatment of other header names with an underscore: drop, refuse (400) or dangerous (kept).
    header_map: Text ["drop", "refuse", "dangerous"] = Text("drop"), Security, "--header-map STRING", "22.0.0";

    /// Import the application before the workers are forked. It saves memory; a reload does not see new code.
    preload_app: Flag = Flag(false), Mechanics, "--preload", SINCE_ALWAYS;

    /// Every worker opens TCP listeners of its own (SO_REUSEPORT), between which the kernel distributes
    /// connections; the master opens none.
    reuse_port: Flag = Flag(false), Mechanics, "--reuse-port", "19.8";

    /// The directory to change to before the application is imported. Without it: where the server was started.
    chdir: OptText = Unset, Mechanics, "--chdir DIR", SINCE_ALWAYS;

    /// Detach from the terminal and run in the background.
    daemon: Flag = Flag(false), Mechanics, "-D --daemon", SINCE_ALWAYS;

    /// An environment variable for the application, KEY=VALUE. Repeat it for several.
    raw_env: List = List(&[]), Mechanics, "-e --env KEY=VALUE", SINCE_ALWAYS;

    /// The file that holds the master's process id while it runs.
    pidfile: OptText = Unset, Mechanics, "-p --pid FILE", SINCE_ALWAYS;

    /// The user that workers run as, by name or number. Without it: the one that started the server.
    user: Account = Unset, Mechanics, "-u --user USER", SINCE_ALWAYS;

    /// The group that workers run as, by name or number.
    group: Account = Unset, Mechanics, "-g --group GROUP", SINCE_ALWAYS;

    /// The mode bits that unix sockets are created without.
    umask: Mode = Int(0), Mechanics, "-m --umask INT", SINCE_ALWAYS;

    /// Give workers the supplementary groups of user.
    initgroups: Flag = Flag(false), Mechanics, "--initgroups", "19.7";

    /// Take from workers, for good, what a program with set-user-ID bits or file capabilities would gain by being run
    /// (PR_SET_NO_NEW_PRIVS): sudo and ping, say, then fail in them.
    no_new_privs: Flag = Flag(false), Mechanics, "--no-new-privs", SINCE_OWN;

    /// Directories to put first on the Python path, comma-separated.
    pythonpath: OptText = Unset, Mechanics, "--pythonpath STRING", SINCE_ALWAYS;

    /// Accepted for Gunicorn's sake and without effect: there is no control socket.
    control_socket_disable: Flag = Flag(false), Control, "--no-control-socket", "25.1.0";

    /// The access log file; - is the standard output. Without it there is none.
    accesslog: OptText = Unset, Logging, "--access-logfile FILE", SINCE_ALWAYS;

    /// The form of an access record.
    access_log_format: Text = Text(r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#),
        Logging, "--access-logformat STRING", SINCE_ALWAYS;

    /// The error log file; - is the standard error.
    errorlog: Text = Text("-"), Logging, "--error-logfile --log-file FILE", SINCE_ALWAYS;

    /// The least severe level that is logged: debug, info, warning, error or critical. Anything else means info.
    loglevel: Text = Text("info"), Logging, "--log-level LEVEL", SINCE_ALWAYS;

    /// Keep the standard output and the standard error in daemon mode, unless they are terminals.
    enable_stdio_inheritance: Flag = Flag(false), Logging, "-R --enable-stdio-inheritance", SINCE_ALWAYS;

    /// The name in process titles. Without it: the application's.
    proc_name: OptText = Unset, Naming, "-n --name STRING", SINCE_ALWAYS;

    /// Replace workers when a source file of what they have loaded changes. For development: an application
    /// with a syntax error then answers with it instead of ending the server.
    reload: Flag = Flag(false), Debugging, "--reload", "18.0";

    /// How changes are noticed: poll looks every second, inotify hears of them at once, auto is inotify where it works.
    reload_engine: Text ["auto", "poll", "inotify"] = Text("auto"), Debugging, "--reload-engine STRING", "19.7";

    /// A further file to watch, or a pattern of files. Repeat it for several.
    reload_extra_files: List = List(&[]), Debugging, "--reload-extra-file FILES", "19.8";

    /// The name that proc_name falls back on. Internal: the application's, unless a configuration file says otherwise.
    default_proc_name: Text = Text("gunicorn"), Naming, "", SINCE_ALWAYS;

    /// Print every line of Python that is executed, in the master and the workers. For desperate debugging.
    spew: Flag = Flag(false), Debugging, "--spew", SINCE_ALWAYS;

    /// Load the configuration and the application, say what is wrong with them, and exit: 0 if nothing is.
    check_config: Flag = Flag(false), Debugging, "--check-config", SINCE_ALWAYS;

    /// Print all settings, then do what --check-config does.
    print_config: Flag = Flag(false), Debugging, "--print-config", "20.0";

    /// Send files of wsgi.file_wrapper by sendfile(2). --no-sendfile reads and sends them block by block instead.
    sendfile: Sendfile = Unset, Mechanics, "--no-sendfile", "19.2", env("SENDFILE");

    /// Where the heartbeat files of workers would lie. A directory that must exist, and without effect: heartbeats are
    /// in shared memory.
    worker_tmp_dir: OptText = Unset, Mechanics, "--worker-tmp-dir DIR", SINCE_ALWAYS;

    /// Accepted for Gunicorn's sake and without effect.
    tmp_upload_dir: OptText = Unset, Mechanics, "", SINCE_ALWAYS;

    /// A PasteDeploy configuration, FILE or FILE#SECTION, that makes the application. Needs the package PasteDeploy.
    paste: OptText = Unset, Mechanics, "--paste --paster STRING", "19.0";

    /// A value for PasteDeploy's global configuration, KEY=VALUE. Repeat it for several.
    raw_paste_global_conf: List = List(&[]), Mechanics, "--paste-global CONF", "19.7";

    /// Expect a PROXY header before the first request of a connection: off, v1, v2 or auto (either). The bare
    /// flag is auto.
    proxy_protocol: Proxy = Text("off"), Mechanics, "--proxy-protocol MODE?", SINCE_ALWAYS;

    /// Peers that may send a PROXY header: IP addresses and networks, or * for all. Others get a 403.
    proxy_allow_ips: Peers = Text("127.0.0.1,::1"), Mechanics, "--proxy-allow-from IPS", SINCE_ALWAYS;

    /// The protocol that is spoken: http, as Gunicorn's uwsgi is not there.
    protocol: Text = Text("http"), Mechanics, "--protocol STRING", "25.0.0";

    /// Peers that may speak uwsgi. Without effect: the protocol is not there.
    uwsgi_allow_ips: Peers = Text("127.0.0.1,::1"), Mechanics, "--uwsgi-allow-from IPS", "25.0.0";

    /// The root path of ASGI applications. Without effect on WSGI.
    root_path: Text = Text(""), Mechanics, "--root-path STRING", "24.0.0";

    /// Keep access records out of syslog when log_syslog is on.
    disable_redirect_access_to_syslog: Flag = Flag(false), Logging, "--disable-redirect-access-to-syslog", "19.8";

    /// Write what the application prints to standard output and standard error into the error log file.
    capture_output: Flag = Flag(false), Logging, "--capture-output", "19.6";

    /// The logger: a dotted path, or a class in a configuration file. One of your own is called for every record.
    logger_class: Object = Text("gunicorn.glogging.Logger"), Logging, "--logger-class STRING", SINCE_ALWAYS;

    /// A configuration file for Python's logging, in its ini form.
    logconfig: OptText = Unset, Logging, "--log-config FILE", SINCE_ALWAYS;

    /// A configuration for Python's logging, a dict. It goes before the other two.
    logconfig_dict: Object = Map(&[]), Logging, "", "19.8";

    /// A configuration file for Python's logging, a dict in JSON.
    logconfig_json: OptText = Unset, Logging, "--log-config-json FILE", "20.0";

    /// Where syslog is: udp://HOST:PORT, tcp://HOST:PORT or unix://PATH, the last with #dgram or #stream if it matters.
    syslog_addr: Text = Text("udp://localhost:514"), Logging, "--log-syslog-to SYSLOG_ADDR", SINCE_ALWAYS;

    /// Send logs to syslog, too.
    syslog: Flag = Flag(false), Logging, "--log-syslog", SINCE_ALWAYS;

    /// The tag of syslog records, between gunicorn. and .error or .access. Without it: proc_name.
    syslog_prefix: OptText = Unset, Logging, "--log-syslog-prefix SYSLOG_PREFIX", SINCE_ALWAYS;

    /// The syslog facility, by its name.
    syslog_facility: Text = Text("user"), Logging, "--log-syslog-facility SYSLOG_FACILITY", SINCE_ALWAYS;

    /// Where metrics go: HOST:PORT of a statsd server, HOST (port 8125), unix:PATH or unix://PATH.
    statsd_host: Statsd = Unset, Logging, "--statsd-host STATSD_ADDR", "19.1";

    /// Tags of every metric, separated by commas, in DogStatsD's form.
    dogstatsd_tags: Text = Text(""), Logging, "--dogstatsd-tags DOGSTATSD_TAGS", "20.0";

    /// The beginning of the names of metrics. A dot is added if it has none at its end.
    statsd_prefix: Text = Text(""), Logging, "--statsd-prefix STATSD_PREFIX", "19.2";

    /// Send the length of the accept queues as a metric, too (TCP listeners).
    enable_backlog_metric: Flag = Flag(false), Logging, "--enable-backlog-metric", "23.1";

    /// Write access records as JSON objects, one a line. access_log_format has no effect then.
    access_log_json: Flag = Flag(false), Logging, "--access-log-json", SINCE_OWN;

    /// Requests that are not logged: a path, a path's beginning with * behind it, or a status such as 200 or
    /// 2xx. Repeat it for several.
    access_log_exclude: List = List(&[]), Logging, "--access-log-exclude PATH_OR_STATUS", SINCE_OWN;

    /// The file with the private key of the server's certificate.
    keyfile: OptText = Unset, Tls, "--keyfile FILE", SINCE_ALWAYS;

    /// The file with the server's certificate and those between it and a root.
    certfile: OptText = Unset, Tls, "--certfile FILE", SINCE_ALWAYS;

    /// Accepted for Gunicorn's sake and without effect, as there: an ssl_context hook chooses versions.
    ssl_version: Object = Int(2), Tls, "--ssl-version VERSION", SINCE_ALWAYS;

    /// Whether clients need a certificate: 0 no, 1 optional, 2 yes.
    cert_reqs: Count = Int(0), Tls, "--cert-reqs INT", SINCE_ALWAYS;

    /// The file with the certificates by which those of clients are checked.
    ca_certs: OptText = Unset, Tls, "--ca-certs FILE", SINCE_ALWAYS;

    /// Take the end of a connection without TLS's own farewell for a normal end.
    suppress_ragged_eofs: Flag = Flag(true), Tls, "--suppress-ragged-eofs", SINCE_ALWAYS;

    /// Do the TLS handshake as soon as a connection is accepted.
    do_handshake_on_connect: Flag = Flag(false), Tls, "--do-handshake-on-connect", SINCE_ALWAYS;

    /// The ciphers of TLS 1.2, in OpenSSL's form.
    ciphers: OptText = Unset, Tls, "--ciphers CIPHERS", SINCE_ALWAYS;

    /// Called in the master when the configuration is there and nothing else: on_starting(server).
    on_starting: Hook ["1"] = Text("<OnStarting.on_starting()>"), Hooks, "", SINCE_ALWAYS;

    /// Called in the master when it reloads: on_reload(server).
    on_reload: Hook ["1"] = Text("<OnReload.on_reload()>"), Hooks, "", SINCE_ALWAYS;

    /// Called in the master when its sockets listen, before the first worker: when_ready(server).
    when_ready: Hook ["1"] = Text("<WhenReady.when_ready()>"), Hooks, "", SINCE_ALWAYS;

    /// Called in the master before each fork: pre_fork(server, worker).
    pre_fork: Hook ["2"] = Text("<Prefork.pre_fork()>"), Hooks, "", SINCE_ALWAYS;

    /// Called in each worker, first of all: post_fork(server, worker).
    post_fork: Hook ["2"] = Text("<Postfork.post_fork()>"), Hooks, "", SINCE_ALWAYS;

    /// Called in each worker when the application is loaded: post_worker_init(worker).
    post_worker_init: Hook ["1"] = Text("<PostWorkerInit.post_worker_init()>"), Hooks, "", SINCE_ALWAYS;

    /// Called in a worker that got INT or QUIT: worker_int(worker).
    worker_int: Hook ["1"] = Text("<WorkerInt.worker_int()>"), Hooks, "", SINCE_ALWAYS;

    /// Called in a worker that got ABRT, which is what a time-out sends: worker_abort(worker).
    worker_abort: Hook ["1"] = Text("<WorkerAbort.worker_abort()>"), Hooks, "", SINCE_ALWAYS;

    /// Called in a child of the master that is about to become its successor (USR2): pre_exec(server).
    pre_exec: Hook ["1"] = Text("<PreExec.pre_exec()>"), Hooks, "", SINCE_ALWAYS;

    /// Called in the worker before each request: pre_request(worker, req).
    pre_request: Hook ["2"] = Text("<PreRequest.pre_request()>"), Hooks, "", SINCE_ALWAYS;

    /// Called in the worker after each request: post_request(worker, req[, environ[, resp]]).
    post_request: Hook ["2", "3", "4"] = Text("<PostRequest.post_request()>"), Hooks, "", SINCE_ALWAYS;

    /// Called in the master after the end of a worker: child_exit(server, worker).
    child_exit: Hook ["2"] = Text("<ChildExit.child_exit()>"), Hooks, "", SINCE_ALWAYS;

    /// Called in a worker as the last thing: worker_exit(server, worker).
    worker_exit: Hook ["2"] = Text("<WorkerExit.worker_exit()>"), Hooks, "", SINCE_ALWAYS;

    /// Called in the master when the wanted number of workers is set: nworkers_changed(server, new, old). old
    /// is None at the start.
    nworkers_changed: Hook ["3"] = Text("<NumWorkersChanged.nworkers_changed()>"), Hooks, "", SINCE_ALWAYS;

    /// Called in the master as the last thing: on_exit(server).
    on_exit: Hook ["1"] = Text("<OnExit.on_exit()>"), Hooks, "", SINCE_ALWAYS;

    /// Makes the TLS context: ssl_context(config, default_ssl_context_factory).
    ssl_context: Hook ["2"] = Text("<NewSSLContext.ssl_context()>"), Hooks, "", SINCE_ALWAYS;

    /// The event loop of Gunicorn's ASGI worker. Without effect with ours.
    asgi_loop: Text ["auto", "asyncio", "uvloop"] = Text("auto"), Workers, "--asgi-loop STRING", "24.0.0";

    /// ASGI's lifespan protocol in Gunicorn's ASGI worker. Without effect with ours.
    asgi_lifespan: Text ["auto", "on", "off"] = Text("auto"), Workers, "--asgi-lifespan STRING", "24.0.0";

    /// A grace period of Gunicorn's ASGI worker. Without effect with ours.
    asgi_disconnect_grace_period: Count = Int(3), Workers, "--asgi-disconnect-grace-period INT", "25.0.0";

    /// The largest WebSocket message of Gunicorn's ASGI worker. Without effect with ours.
    websocket_max_message_size: Count = Int(16_777_216), Workers, "--websocket-max-message-size INT", "25.0.0";

    /// HTTP versions, h1 or h2, by preference. Only h1 is there.
    http_protocols: Commas = Text("h1"), Http2, "--http-protocols STRING", "25.0.0";

    /// HTTP/2 without TLS. Without effect: HTTP/2 is not there.
    http2_cleartext: Cleartext = Text("off"), Http2, "--http2-cleartext STRING", "26.0.0";

    /// A limit of HTTP/2. Without effect.
    http2_max_concurrent_streams: Count = Int(100), Http2, "--http2-max-concurrent-streams INT", "25.0.0";

    /// A limit of HTTP/2. Without effect.
    http2_initial_window_size: Count = Int(65_535), Http2, "--http2-initial-window-size INT", "25.0.0";

    /// A limit of HTTP/2. Without effect.
    http2_max_frame_size: Count = Int(16_384), Http2, "--http2-max-frame-size INT", "25.0.0";

    /// A limit of HTTP/2. Without effect.
    http2_max_header_list_size: Count = Int(65_536), Http2, "--http2-max-header-list-size INT", "25.0.0";

    /// Objects kept in processes of their own, MODULE:CLASS. Not there.
    dirty_apps: List = List(&[]), Dirty, "--dirty-app STRING", "25.0.0";

    /// How many such processes. Not there: refused together with dirty_apps.
    dirty_workers: Count = Int(0), Dirty, "--dirty-workers INT", "25.0.0";

    /// Their time-out. Without effect.
    dirty_timeout: Count = Int(300), Dirty, "--dirty-timeout INT", "25.0.0";

    /// Their threads. Without effect.
    dirty_threads: Count = Int(1), Dirty, "--dirty-threads INT", "25.0.0";

    /// Their time to stop. Without effect.
    dirty_graceful_timeout: Count = Int(30), Dirty, "--dirty-graceful-timeout INT", "25.0.0";

    /// A hook of those processes. Never called.
    on_dirty_starting: Hook ["1"] = Text("<OnDirtyStarting.on_dirty_starting()>"), DirtyHooks, "", "25.0.0";

    /// A hook of those processes. Never called.
    dirty_post_fork: Hook ["2"] = Text("<DirtyPostFork.dirty_post_fork()>"), DirtyHooks, "", "25.0.0";

    /// A hook of those processes. Never called.
    dirty_worker_init: Hook ["1"] = Text("<DirtyWorkerInit.dirty_worker_init()>"), DirtyHooks, "", "25.0.0";

    /// A hook of those processes. Never called.
    dirty_worker_exit: Hook ["2"] = Text("<DirtyWorkerExit.dirty_worker_exit()>"), DirtyHooks, "", "25.0.0";

    /// The control socket's path. The control interface is not there.
    control_socket: OptText = Unset, Control, "--control-socket PATH", "25.1.0";

    /// The mode of the control socket's file. Without effect.
    control_socket_mode: Mode = Int(0o600), Control, "--control-socket-mode INT", "25.1.0";
}

/// Settings on which only worker classes of others act.
pub(super) const OF_ASGI: &[Id] = &[
    Id::asgi_loop,
    Id::asgi_lifespan,
    Id::asgi_disconnect_grace_period,
    Id::websocket_max_message_size,
    Id::root_path,
];

/// Settings that this release does not act on. A value other than the built-in one gets a warning that says so.
pub(super) const WITHOUT_EFFECT: &[Id] = &[
    Id::uwsgi_allow_ips,
    Id::http2_cleartext,
    Id::http2_max_concurrent_streams,
    Id::http2_initial_window_size,
    Id::http2_max_frame_size,
    Id::http2_max_header_list_size,
    Id::dirty_apps,
    Id::dirty_workers,
    Id::dirty_timeout,
    Id::dirty_threads,
    Id::dirty_graceful_timeout,
    Id::on_dirty_starting,
    Id::dirty_post_fork,
    Id::dirty_worker_init,
    Id::dirty_worker_exit,
    Id::control_socket,
    Id::control_socket_mode,
];
