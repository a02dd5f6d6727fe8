"""What the tests of the Python loggers share: settings, requests, and Gunicorn's modules beside ours."""

from __future__ import annotations

import contextlib
import datetime
import gc
import importlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

TIME = re.compile(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]|\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\]")
SERVERS = ("gunicorn", "rgunicorn")
NAMES = ("gunicorn.error", "gunicorn.access", "")

SETTINGS: dict[str, Any] = {
    "accesslog": None,
    "access_log_format": '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
    "capture_output": False,
    "disable_redirect_access_to_syslog": False,
    "dogstatsd_tags": "",
    "errorlog": "-",
    "group": os.getgid(),
    "logconfig": None,
    "logconfig_dict": {},
    "logconfig_json": None,
    "loglevel": "info",
    "proc_name": "app:main",
    "statsd_host": None,
    "statsd_prefix": "",
    "syslog": False,
    "syslog_addr": "udp://localhost:514",
    "syslog_facility": "user",
    "syslog_prefix": None,
    "user": os.getuid(),
}


def settings(**changed: Any) -> SimpleNamespace:
    """A configuration, as far as loggers look at it."""
    assert changed.keys() <= SETTINGS.keys(), changed
    return SimpleNamespace(**(SETTINGS | changed))


def glogging(server: str) -> ModuleType:
    return importlib.import_module(f"{server}.glogging")


def statsd(server: str) -> ModuleType:
    return importlib.import_module(f"{server}.instrument.statsd")


def clean() -> None:
    """Takes all handlers and filters off the loggers that servers use."""
    for name in NAMES:
        logger = logging.getLogger(name)
        for handler in handlers_of(name):
            logger.removeHandler(handler)
            handler.close()
        for log_filter in list(logger.filters):
            logger.removeFilter(log_filter)
        logger.disabled = False


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """Collects what the body leaves behind: a later test would be blamed for its files and sockets.

    What was there before is not looked at: in a whole test run that takes a quarter of a second each time.
    """
    gc.freeze()
    try:
        yield
        gc.collect()
    finally:
        gc.unfreeze()


def outcomes(ask: Callable[[str], Any]) -> tuple[Any, Any]:
    """What both servers make of a question: an answer, or an exception with its text."""

    def outcome(server: str) -> Any:
        clean()
        try:
            return ask(server)
        except (RuntimeError, KeyError, TypeError, OSError) as error:
            return type(error).__name__, str(error)
        finally:
            clean()

    theirs, ours = (outcome(server) for server in SERVERS)
    return theirs, ours


def masked(text: str) -> str:
    """Without what changes from second to second."""
    return TIME.sub("[TIME]", text)


def described(handler: logging.Handler) -> dict[str, Any]:
    """What is visible of a handler."""
    formatter = handler.formatter
    return {
        "type": type(handler).__name__,
        "level": handler.level,
        "ours": getattr(handler, "_gunicorn", False),
        "stream": getattr(getattr(handler, "stream", None), "name", None),
        "path": getattr(handler, "baseFilename", None),
        "mode": getattr(handler, "mode", None),
        "address": getattr(handler, "address", None),
        "facility": getattr(handler, "facility", None),
        "format": formatter and formatter._fmt,
        "datefmt": formatter and formatter.datefmt,
    }


def handlers_of(name: str) -> list[Any]:
    """The handlers of a logger, but for those of pytest."""
    return [each for each in logging.getLogger(name).handlers if "_pytest" not in type(each).__module__]


def loggers_described() -> dict[str, Any]:
    def one(name: str) -> dict[str, Any]:
        logger = logging.getLogger(name)
        return {
            "level": logger.level,
            "propagate": logger.propagate,
            "disabled": logger.disabled,
            "handlers": [described(handler) for handler in handlers_of(name)],
        }

    return {name: one(name) for name in NAMES}


class Headers:
    """Headers with an `items` method, as other worker types have them."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def items(self) -> list[tuple[str, str]]:
        return self._pairs


def request(**changed: Any) -> tuple[Any, Any, dict[str, Any], datetime.timedelta]:
    """The arguments of `access`: response, request, environ, time."""
    environ = {
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/caf%C3%A9?x=1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7",
        "PATH_INFO": "/caf\xc3\xa9",
        "QUERY_STRING": "x=1",
        "HTTP_USER_AGENT": 'agent "1"',
        "HTTP_REFERER": "http://r.test/",
        "wsgi.url_scheme": "http",
        "wsgi.multithread": False,
        **changed.pop("environ", {}),
    }
    for name in changed.pop("without", ()):
        del environ[name]
    headers = changed.pop("headers", [("HOST", "a.test"), ("X-ONE", "1"), ("X-ONE", "2"), ("X-Q", 'x"y')])
    response_headers = changed.pop("response_headers", [("Content-Type", "text/plain"), ("X-Two", "2")])
    elapsed = datetime.timedelta(**changed.pop("elapsed", {"seconds": 3, "microseconds": 45678}))
    resp = SimpleNamespace(**{"status": "200 OK", "sent": 1234, "headers": response_headers} | changed)
    return resp, SimpleNamespace(headers=headers), environ, elapsed
