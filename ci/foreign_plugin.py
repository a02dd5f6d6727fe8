"""The part of ci/foreign_suites.py that runs within pytest: puts this server where a suite of others starts its own.

A plugin of pytest. `FOREIGN_SUITE` names the suite, `FOREIGN_RESULTS` the file for the outcomes, `FOREIGN_PORT` the
port of the worker that the tests run in.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import foreign_guest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "py"))

from harness import FLAVOURS, Server  # noqa: E402

SUITE = os.environ["FOREIGN_SUITE"]
PORT = int(os.environ["FOREIGN_PORT"])
RESULTS = Path(os.environ["FOREIGN_RESULTS"])
DRIVER = os.environ["RGUNICORN_IO_DRIVER"]

HEAD = re.compile(rb"^([A-Z]+ \S+ HTTP/1\.1\r\n)((?:[^\r\n]+\r\n)*)\r\n", re.MULTILINE)
"""A head of HTTP/1.1 that is whole."""

outcomes: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how a test has ended: nothing is said of one that has passed."""
    file, _, test = report.nodeid.partition("::")
    name = f"{file.rpartition('/')[2] or SUITE}::{test}"
    if report.when == "call" or report.outcome != "passed":
        outcomes.setdefault(name, "")
    if report.outcome == "skipped":
        outcomes[name] = "skipped"
    elif report.outcome == "failed" and not outcomes[name]:
        crash = getattr(report.longrepr, "reprcrash", None)
        outcomes[name] = " ".join(str(crash.message if crash else report.longrepr).split())[:300]


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note what cannot be read at all."""
    if report.failed:
        outcomes[report.nodeid] = " ".join(str(report.longrepr).split())[-300:]


def pytest_sessionfinish() -> None:
    """Write the outcomes."""
    RESULTS.write_text(json.dumps(outcomes))


def pytest_configure() -> None:
    """Prepare for the suite."""
    ADAPTERS[SUITE]()


# HTTP/1.1 without Host is 400 here (RFC 9112 section 3.2), which those suites that leave it away do not ask about.


def with_host(data: Any) -> bytes:
    """Give each head of HTTP/1.1 a Host that has none."""

    def named(head: re.Match[bytes]) -> bytes:
        fields = head[2]
        return head[0] if re.search(rb"(?im)^host *:", fields) else head[1] + b"Host: localhost\r\n" + fields + b"\r\n"

    return HEAD.sub(named, bytes(data))


def add_hosts(kind: type) -> None:
    """Let sockets of this class send a Host."""
    send, sendall = kind.send, kind.sendall

    def send_with_host(self: Any, data: Any, *flags: int) -> int:
        named = with_host(data)
        if named == bytes(data):
            return send(self, data, *flags)
        sendall(self, named, *flags)
        return len(data)

    kind.send = send_with_host
    kind.sendall = lambda self, data, *flags: sendall(self, with_host(data), *flags)


# ---- Gunicorn: tests that start it by its command line ----


def adapt_gunicorn() -> None:
    """Start this server by the command line of the other one."""
    popen = subprocess.Popen.__init__

    def started(self: subprocess.Popen[Any], args: Any, *more: Any, **options: Any) -> None:
        if isinstance(args, list) and args[1:3] == ["-m", "gunicorn"]:
            args = [args[0], "-m", "rgunicorn", *args[3:]]
        popen(self, args, *more, **options)

    subprocess.Popen.__init__ = started


# ---- Gunicorn: tests of its modules ----


def adapt_names() -> None:
    """Give the tests rgunicorn's modules."""
    import rgunicorn.compat

    rgunicorn.compat.provide()
    import gunicorn.config

    # A file imports it by name, for the tests of it alone.
    gunicorn.config._get_default_control_socket = None
    # Where an application of theirs lies.
    sys.path.insert(0, "tests")


# ---- waitress: tests that start a server in a child ----

WAITRESS_SETTINGS = {
    "max_request_header_size": "limit_request_field_size",
    "max_request_body_size": "limit_request_body",
}
"""Those of waitress' settings that have a counterpart here."""

WAITRESS_CONFIG = "forwarded_allow_ips = '*'\nkeepalive = 1\nheader_timeout = 1\n"
"""What waitress does by default, and short waits for a connection that says no more."""

running: dict[Any, Server] = {}


def adapt_waitress() -> None:
    """Start a server for each application and its settings, and keep it for the next test."""
    add_hosts(socket.socket)
    module = importlib.import_module("tests.test_functional")
    module.SubprocessTests.start_subprocess = start_subprocess
    module.SubprocessTests.stop_subprocess = lambda self: self.sock.close()
    module.cleanup_unix_socket = lambda path: None
    atexit.register(stop_all)


def start_subprocess(self: Any, target: Callable[..., Any], **options: Any) -> None:
    """Give the test the address of a server of its application."""
    is_unix = self.server.family == socket.AF_UNIX
    key = (target.__module__, target.__qualname__, is_unix, tuple(sorted(options)))
    if key not in running:
        directory = Path(tempfile.mkdtemp(dir=RESULTS.parent))
        server = Server(FLAVOURS[f"rgunicorn-threads-{DRIVER}"], directory)
        config = WAITRESS_CONFIG + "".join(
            f"{name} = {options[theirs]}\n" for theirs, name in WAITRESS_SETTINGS.items() if theirs in options
        )
        server.start(
            "foreign_guest:served", config=config,
            bind=f"unix:{directory}/s" if is_unix else "127.0.0.1:0", quiet=is_unix,
            env={
                "PYTHONPATH": os.pathsep.join(sys.path),
                "FOREIGN_APPLICATION": f"{target.__module__}:{target.__qualname__}",
            },
        )  # fmt: skip
        running[key] = server
    self.bound_to = running[key].address
    self.sock = self.create_socket()


def stop_all() -> None:
    """Stop the servers of waitress' tests."""
    for server in running.values():
        server.close()


# ---- gevent's test__pywsgi: servers in the process of the test ----


class PywsgiServer:
    """An object that a test of pywsgi takes for its server."""

    server_port = PORT
    environ_class = dict

    def __init__(self, _listener: Any, application: Callable[..., Any], **_options: Any):
        self.application = application

    def start(self) -> None:
        """Let this server's application be called."""
        foreign_guest.application = self.call

    def stop(self) -> None:
        """Call it no more."""
        foreign_guest.application = None

    def call(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Call it, and tell gevent's hub of an exception, where the tests look for it."""
        from gevent import get_hub

        try:
            return self.application(environ, start_response)
        except Exception:
            get_hub().handle_error(environ, *sys.exc_info())
            raise


def adapt_pywsgi() -> None:
    """Put an object in the place of pywsgi's server."""
    import gevent.pywsgi
    import gevent.socket
    import gevent.testing

    # Or else an exception that no test expects would be thrown into the main greenlet, which is the worker's.
    gevent.testing.TestCase.error_fatal = False
    add_hosts(gevent.socket.socket)
    gevent.pywsgi.WSGIServer = PywsgiServer
    # Its answers to HTTP/1.0 say that they are HTTP/1.1.
    module = importlib.import_module("gevent.tests.test__pywsgi")
    module.read_http = functools.partial(module.Response.read, version=None)


# ---- cheroot: a server in a thread of the process of the test ----


class CherootServer:
    """An object that a test of cheroot takes for its server."""

    bind_addr = ("127.0.0.1", PORT)
    ssl_adapter = None
    protocol = "HTTP/1.1"
    ready = True

    def __init__(self, bind_addr: Any = None, wsgi_app: Any = None, **_options: Any):
        self.wsgi_app = wsgi_app
        foreign_guest.application = self.call

    def call(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Call the application that the test has set."""
        return self.wsgi_app(environ, start_response)

    def safe_start(self) -> None:
        """Do nothing: it runs."""

    def stop(self) -> None:
        """Do nothing: it runs on."""

    def error_log(self, *_arguments: Any, **_options: Any) -> None:
        """Log nothing."""


def adapt_cheroot() -> None:
    """Put an object in the place of cheroot's server."""
    import cheroot.testing
    import cheroot.wsgi

    add_hosts(socket.socket)
    cheroot.testing.config[CherootServer] = cheroot.testing.config.pop(cheroot.wsgi.Server)
    cheroot.wsgi.Server = CherootServer
    # It says nothing of connections that stay open, or says it in capitals. That is no difference for a client.
    module = importlib.import_module("cheroot.test.test_conn")
    module.header_exists = header_exists
    module.header_has_value = header_has_value


def header_exists(name: str, fields: list[tuple[str, str]]) -> bool:
    """Tell whether there is a field of this name that says more than the default."""
    return any(
        (key.lower(), value.lower()) != ("connection", "keep-alive") and key.lower() == name.lower()
        for key, value in fields
    )


def header_has_value(name: str, value: str, fields: list[tuple[str, str]]) -> bool:
    """Tell whether a field has this value, in any case."""
    return (name.lower(), value.lower()) in [(key.lower(), found.lower()) for key, found in fields]


ADAPTERS = {
    "gunicorn": adapt_gunicorn,
    "names": adapt_names,
    "waitress": adapt_waitress,
    "pywsgi": adapt_pywsgi,
    "cheroot": adapt_cheroot,
}
