"""Which attributes the objects of the hooks have, and which of them can be written."""

import time

import gunicorn
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from hooklog import record

SERVER = (
    "log cfg app pid address num_workers timeout proc_name worker_class WORKERS LISTENERS START_CTX master_pid "
    "reexec_pid pidfile systemd worker_age kill_worker kill_workers reload stop halt wakeup spawn_worker manage_workers"
)
WORKER = (
    "pid ppid age alive booted aborted nr max_requests timeout cfg log app sockets tmp reloader notify "
    "tmp.notify tmp.last_update tmp.fileno app.cfg app.callable app.wsgi app.app_uri "
    "handle_exit handle_quit handle_abort handle_usr1 is_parent_alive nr_conns tpool"
)
REQUEST = (
    "method uri path query fragment version headers trailers body scheme remote_addr peer_addr proxy_protocol_info "
    "req_number must_close should_close cfg unreader unreader.read unreader.unread"
)
RESPONSE = (
    "status status_code headers headers_sent sent response_length chunked must_close should_close force_close write close"
)
CFG = "settings set is_ssl ssl_options address uid gid env worker_class_str proc_name workers bind timeout preload_app"
LOGGER = (
    "error_log access_log cfg loglevel logfile lock error_fmt datefmt access_fmt syslog_fmt LOG_LEVELS "
    "atoms_wrapper_class access_log_enabled setup critical error warning info debug exception log atoms access now "
    "reopen_files close_on_exec _get_user _set_handler _set_syslog_handler"
)
tmp_upload_dir = None


def missing(thing, names):
    """Those of the names, which may have dots in them, that the object lacks."""

    def lacks(path):
        found = thing
        for name in path.split("."):
            if not hasattr(found, name):
                return True
            found = getattr(found, name)
        return False

    return [path for path in names.split() if lacks(path)]


def writable(thing, *names):
    """Set attributes to what they are, and one that is new."""
    for name in names:
        setattr(thing, name, getattr(thing, name))
    thing.team_value = 1
    return thing.team_value == 1


def on_starting(server):
    record(
        "on_starting", missing=missing(server, SERVER) + missing(server.cfg, CFG) + missing(server.log, LOGGER),
        pid=server.pid, context=sorted(map(str, server.START_CTX)), writable=writable(server, "num_workers", "timeout"),
        logger=isinstance(server.log, Logger), workers=type(server.WORKERS).__name__,
    )  # fmt: skip


def when_ready(server):
    (listener,) = server.LISTENERS
    record(
        "when_ready", missing=missing(listener, "sock fileno getsockname"), text=str(listener),
        name=list(listener.getsockname()), address=server.address,
        listening=listener.sock.fileno() == listener.fileno(),
        worker_class=hasattr(server.worker_class, "init_process") or callable(server.worker_class),
        master_pid=server.master_pid, reexec_pid=server.reexec_pid, systemd=server.systemd, pidfile=server.pidfile,
        proc_name=server.proc_name,
    )  # fmt: skip


def pre_fork(server, worker):
    record(
        "pre_fork", missing=missing(worker, WORKER), booting=worker.pid, text=str(worker), age=worker.age,
        ppid=worker.ppid, timeout=worker.timeout, nr=worker.nr, alive=worker.alive, booted=worker.booted,
        unlimited=worker.max_requests, sockets=len(worker.sockets), same=[worker.app is server.app,
        worker.cfg is server.cfg, worker.log is server.log],
    )  # fmt: skip


def post_worker_init(worker):
    worker.notify()
    record(
        "post_worker_init", missing=missing(worker, WORKER + " wsgi"), text=str(worker), worker=worker.pid,
        loaded=[callable(worker.wsgi), worker.wsgi is worker.app.callable, worker.app.wsgi() is worker.wsgi],
        beaten=abs(worker.tmp.last_update() - time.monotonic()) < 10, app_uri=worker.app.app_uri,
        fileno=worker.tmp.fileno() >= 0,
        writable=writable(worker, "nr", "alive", "max_requests", "timeout", "cfg", "log", "wsgi"),
    )  # fmt: skip


def pre_request(worker, req):
    record(
        "pre_request", missing=missing(req, REQUEST), method=req.method, uri=req.uri, path=req.path, query=req.query,
        fragment=req.fragment, version=list(req.version), headers=[list(field) for field in req.headers],
        trailers=list(req.trailers), scheme=req.scheme, peer=list(req.peer_addr), remote=list(req.remote_addr),
        proxy=req.proxy_protocol_info, number=req.req_number, close=req.should_close(), body=hasattr(req.body, "read"),
        writable=writable(req, "method", "path", "query", "scheme", "headers"), version_type=type(req.version).__name__,
    )  # fmt: skip


def post_request(worker, req, environ, resp):
    record(
        "post_request", missing=missing(resp, RESPONSE), status=resp.status, status_code=resp.status_code,
        headers=[list(field) for field in resp.headers], headers_sent=resp.headers_sent, sent=resp.sent,
        length=resp.response_length, chunked=resp.chunked, close=resp.should_close(), environ=environ["PATH_INFO"],
        kind=type(environ).__name__, writable=writable(resp, "status", "headers"), same=req.team_value == 1,
    )  # fmt: skip


def on_exit(server):
    settings = server.cfg.settings
    record(
        "on_exit", value=settings["tmp_upload_dir"].value, got=settings["workers"].get(), size=len(settings) > 80,
        base=isinstance(server.app, BaseApplication), version=gunicorn.__version__, software=gunicorn.SERVER_SOFTWARE,
        server=gunicorn.SERVER, is_ssl=bool(server.cfg.is_ssl), ids=[server.cfg.uid, server.cfg.gid],
    )  # fmt: skip
