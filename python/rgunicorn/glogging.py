"""Logging through Python's `logging`, with the names that users' own logger classes and `logconfig` files build on.

A server whose logger is the stock one writes both logs natively. A `Logger` is made where records have to pass through
Python: a class of the user's, handlers or filters of a `logconfig`, syslog, statsd. Everything that Gunicorn's class of
this name lets a subclass read, call or replace is here under the same name.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
from logging.config import dictConfig, fileConfig
from logging.handlers import SysLogHandler

from rgunicorn._rgunicorn import _open_log_file

# Type checkers take this for true; a worker has no use for `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import timedelta
    from typing import IO, Any, ClassVar

_ERROR_FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
_DATE_FORMAT = "[%Y-%m-%d %H:%M:%S %z]"

# Numbers of RFC 5424. `security` is the old name of `auth`; `logging` gives it another number.
SYSLOG_FACILITIES: dict[str, int] = {
    name: SysLogHandler.facility_names[name]
    for name in (
        *("auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "syslog", "user", "uucp"),
        *(f"local{number}" for number in range(8)),
    )
}
SYSLOG_FACILITIES["security"] = SysLogHandler.LOG_AUTH

_SYSLOG_PORT = 514
_SYSLOG_SOCKETS = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}

_STDOUT, _STDERR = 1, 2


def _default_logger(name: str, handler: str) -> dict[str, Any]:
    return {"level": "INFO", "handlers": [handler], "propagate": True, "qualname": name}


def _default_handler(stream: str) -> dict[str, Any]:
    return {"class": "logging.StreamHandler", "formatter": "generic", "stream": f"ext://sys.{stream}"}


# What `logconfig_dict` and `logconfig_json` replace keys of.
CONFIG_DEFAULTS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": _default_logger("gunicorn.error", "error_console"),
        "gunicorn.access": _default_logger("gunicorn.access", "console"),
    },
    "handlers": {"console": _default_handler("stdout"), "error_console": _default_handler("stderr")},
    "formatters": {
        "generic": {"format": _ERROR_FORMAT, "datefmt": _DATE_FORMAT, "class": "logging.Formatter"},
    },
}


def loggers() -> list[logging.Logger]:
    """List all loggers that exist by name; the root logger has none."""
    known = logging.root.manager.loggerDict.values()
    return [logger for logger in list(known) if isinstance(logger, logging.Logger)]


def _file_handlers() -> Iterator[logging.FileHandler]:
    """Yield each file handler of these loggers once."""
    found = (handler for logger in loggers() for handler in list(logger.handlers))
    yield from dict.fromkeys(handler for handler in found if isinstance(handler, logging.FileHandler))


# C0, DEL and C1, which would end a line or command a terminal; quotes and backslashes, so that it can be read back.
_ESCAPES = {code: f"\\x{code:02X}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_ESCAPES |= {ord(character): f"\\{character}" for character in '"\\'}


class SafeAtoms(dict[str, "Any"]):
    """The atoms of a log line: texts are escaped, what is missing is a dash, braced names count in any case."""

    def __init__(self, atoms: Mapping[str, Any]) -> None:
        super().__init__()
        for name, value in atoms.items():
            self[name] = value.translate(_ESCAPES) if isinstance(value, str) else value

    def __getitem__(self, key: str) -> Any:
        return self.get(key.lower() if key[:1] == "{" else key, "-")


def parse_syslog_address(addr: str) -> tuple[socket.SocketKind | None, str | tuple[str, int]]:
    """Return the socket type (`None`: whichever works) and address of a `syslog_addr`."""
    scheme, separator, rest = addr.partition("://")
    if separator and scheme == "unix":
        path, _, kind = rest.partition("#")
        return (socket.SOCK_DGRAM if kind == "dgram" else None), path
    if not separator or scheme not in _SYSLOG_SOCKETS:
        raise RuntimeError("invalid syslog address")
    if rest.startswith("[") and "]" in rest:
        host, _, port = rest[1:].partition("]")
        port = port.partition(":")[2] if ":" in port else str(_SYSLOG_PORT)
    else:
        host, colon, port = rest.partition(":")
        if not colon:
            host, port = host or "localhost", str(_SYSLOG_PORT)
    if not port.isdecimal():
        raise RuntimeError(f"{port!r} is not a valid port number.")
    return _SYSLOG_SOCKETS[scheme], (host.lower(), int(port))


def relay(logger: Any, records: Iterable[tuple[str, str]]) -> None:
    """Hand finished records, pairs of a level's name and a text, to a logger; what that raises ends in stderr."""
    for level, text in records:
        try:
            # By the method of the level, because subclasses count or filter there. Without arguments, the text is no
            # format.
            getattr(logger, level.lower())(text)
        except Exception:
            _complain(traceback.format_exc())


def is_stock(logger: Any, cfg: Any) -> bool:
    """Return whether the native error log writes what this logger would: nothing is configured or changed."""
    configured = cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json or cfg.syslog
    return type(logger) is Logger and not configured and _is_untouched(logger.error_log)


def access_is_stock(logger: Any, cfg: Any) -> bool:
    """Return whether the native access log writes what this logger would."""
    configured = cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json or cfg.syslog
    return type(logger) is Logger and not configured and _is_untouched(logger.access_log)


def _is_untouched(log: logging.Logger) -> bool:
    ours = all(getattr(handler, "_gunicorn", False) and not handler.filters for handler in log.handlers)
    return ours and not log.filters and not log.propagate and not log.disabled


def _complain(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text)


class FileHandler(logging.FileHandler):
    """A handler whose file is opened as the native logs open theirs: given to the workers, and not led astray."""

    def __init__(self, path: str, owner: tuple[int | None, int | None]) -> None:
        self._owner = owner
        super().__init__(path, encoding="utf-8", errors="backslashreplace")

    def _open(self) -> Any:
        def opener(path: str, _: int) -> int:
            return _open_log_file(path, *self._owner)

        return open(self.baseFilename, "a", encoding="utf-8", errors=self.errors, opener=opener)


class _Before:
    """The two loggers as they were before a setup."""

    def __init__(self, *logs: logging.Logger) -> None:
        self._state = [(log, log.level, log.propagate, list(log.handlers)) for log in logs]

    def restore(self) -> None:
        """Bring that state back, and close handlers of ours that came later."""
        for log, level, propagate, handlers in self._state:
            log.setLevel(level)
            log.propagate = propagate
            new, log.handlers[:] = list(log.handlers), handlers
            self._close(handler for handler in new if handler not in handlers)

    def close_replaced(self) -> None:
        """Free the files of our handlers that are no longer used."""
        for log, _, _, handlers in self._state:
            self._close(handler for handler in handlers if handler not in log.handlers)

    def _close(self, handlers: Iterable[logging.Handler]) -> None:
        for handler in handlers:
            if getattr(handler, "_gunicorn", False):
                with contextlib.suppress(OSError):
                    handler.close()


class Logger:
    """The server's logger: `gunicorn.error` and `gunicorn.access` of `logging`, set up by the settings."""

    LOG_LEVELS: ClassVar[dict[str, int]] = {
        name: getattr(logging, name.upper()) for name in ("critical", "error", "warning", "info", "debug")
    }
    loglevel: int = logging.INFO

    error_fmt = _ERROR_FORMAT
    datefmt = _DATE_FORMAT
    access_fmt = "%(message)s"
    syslog_fmt = "[%(process)d] %(message)s"

    atoms_wrapper_class: Callable[[dict[str, Any]], Any] = SafeAtoms

    # Computed by `setup`, which a subclass may have replaced.
    _access_log_enabled: bool | None = None

    def __init__(self, cfg: Any) -> None:
        self.error_log = logging.getLogger("gunicorn.error")
        self.access_log = logging.getLogger("gunicorn.access")
        self.error_log.propagate = self.access_log.propagate = False
        self.error_handlers: list[logging.Handler] = []
        self.access_handlers: list[logging.Handler] = []
        self.logfile: IO[str] | None = None
        self.lock = threading.Lock()
        self.cfg = cfg
        self.setup(cfg)

    def setup(self, cfg: Any) -> None:
        """Apply settings, at the start and at each reload; if that raises, the loggers are as before."""
        before, old = _Before(self.error_log, self.access_log), (self.cfg, self.loglevel, self._access_log_enabled)
        self.cfg = cfg
        self.loglevel = self._level(cfg.loglevel)
        self._access_log_enabled = self._wants_access_log()
        try:
            self._set_up_loggers(cfg)
            self._apply_logconfig(cfg)
            self._capture_output(cfg)
        except BaseException:
            self.cfg, self.loglevel, self._access_log_enabled = old
            before.restore()
            raise
        before.close_replaced()

    def _level(self, name: str) -> int:
        return self.LOG_LEVELS.get(name.lower(), logging.INFO)

    def _set_up_loggers(self, cfg: Any) -> None:
        self.error_log.setLevel(self.loglevel)
        self.access_log.setLevel(logging.INFO)
        for log in (self.error_log, self.access_log):
            for handler in [each for each in log.handlers if getattr(each, "_gunicorn", False)]:
                log.removeHandler(handler)
        self._set_handler(self.error_log, cfg.errorlog, logging.Formatter(self.error_fmt, self.datefmt))
        if cfg.accesslog is not None:
            fmt = logging.Formatter(self.access_fmt)
            self._set_handler(self.access_log, cfg.accesslog, fmt=fmt, stream=sys.stdout)
        if cfg.syslog:
            self._set_syslog_handler(self.error_log, cfg, self.syslog_fmt, "error")
            if not cfg.disable_redirect_access_to_syslog:
                self._set_syslog_handler(self.access_log, cfg, self.syslog_fmt, "access")

    def _apply_logconfig(self, cfg: Any) -> None:
        """Apply one of the three `logconfig` settings: the dictionary before JSON before ini."""
        if cfg.logconfig_dict:
            self._apply_dict(lambda: cfg.logconfig_dict)
        elif cfg.logconfig_json:
            if os.path.exists(cfg.logconfig_json):
                self._apply_dict(lambda: _read_json(cfg.logconfig_json))
        elif cfg.logconfig:
            if not os.path.exists(cfg.logconfig):
                raise RuntimeError(f"Error: log config '{cfg.logconfig}' not found")
            place = {"__file__": cfg.logconfig, "here": os.path.dirname(cfg.logconfig)}
            # Values of the ini file may refer to these as `%(here)s`.
            defaults = copy.deepcopy(CONFIG_DEFAULTS) | place
            fileConfig(cfg.logconfig, defaults=defaults, disable_existing_loggers=False)

    def _apply_dict(self, read: Callable[[], Any]) -> None:
        config: dict[str, Any] = copy.deepcopy(CONFIG_DEFAULTS)
        try:
            config.update(read())
            dictConfig(config)
        except (AttributeError, ImportError, TypeError, ValueError) as error:
            raise RuntimeError(str(error)) from error

    def _capture_output(self, cfg: Any) -> None:
        """Send what the process prints into the error log file, also from C code and child programs."""
        if not cfg.capture_output or cfg.errorlog in (None, "-"):
            return
        for stream in (sys.stdout, sys.stderr):
            # A stream may be closed, missing or full.
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.flush()
        with self.lock:
            new = os.fdopen(_open_log_file(cfg.errorlog, cfg.user, cfg.group), "a")
            self.logfile, old = new, self.logfile
            os.dup2(new.fileno(), _STDOUT)
            os.dup2(new.fileno(), _STDERR)
        if old is not None:
            old.close()

    def critical(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log that the server cannot go on."""
        # Most handlers keep trouble to themselves; those that open their file again do not.
        with contextlib.suppress(OSError):
            self.error_log.critical(msg, *args, **kwargs)

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log that something failed."""
        with contextlib.suppress(OSError):
            self.error_log.error(msg, *args, **kwargs)

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log that something is wrong, and work goes on."""
        with contextlib.suppress(OSError):
            self.error_log.warning(msg, *args, **kwargs)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log what happens."""
        with contextlib.suppress(OSError):
            self.error_log.info(msg, *args, **kwargs)

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log details."""
        with contextlib.suppress(OSError):
            self.error_log.debug(msg, *args, **kwargs)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log an error, with the exception that is being handled."""
        with contextlib.suppress(OSError):
            self.error_log.exception(msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: object, *args: object, **kwargs: Any) -> None:
        """Log at a level of `logging`, or one named as in the settings."""
        with contextlib.suppress(OSError):
            self.error_log.log(self._level(lvl) if isinstance(lvl, str) else lvl, msg, *args, **kwargs)

    def atoms(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> dict[str, Any]:
        """Return what a log line can be made of, by the names of `access_log_format`."""
        status = resp.status
        sent = getattr(resp, "sent", None)
        # Whole days are left out, as in the native log.
        seconds, micros = request_time.seconds, request_time.microseconds
        method, protocol = environ["REQUEST_METHOD"], environ["SERVER_PROTOCOL"]
        atoms = {
            "h": environ.get("REMOTE_ADDR", "-"),
            "l": "-",
            "u": self._get_user(environ) or "-",
            "t": self.now(),
            "r": f"{method} {environ['RAW_URI']} {protocol}",
            "s": status.split(None, 1)[0] if isinstance(status, str) else status,
            "m": method,
            "U": environ.get("PATH_INFO"),
            "q": environ.get("QUERY_STRING"),
            "H": protocol,
            "b": "-" if sent is None else str(sent),
            "B": sent,
            "f": environ.get("HTTP_REFERER", "-"),
            "a": environ.get("HTTP_USER_AGENT", "-"),
            "T": seconds,
            "M": seconds * 1000 + micros // 1000,
            "D": seconds * 1_000_000 + micros,
            "L": f"{seconds}.{micros:06}",
            "p": f"<{os.getpid()}>",
        }
        headers: Any = getattr(req, "headers", req)
        sources: tuple[tuple[str, Any], ...] = (("i", headers), ("o", resp.headers), ("e", environ))
        for letter, pairs in sources:
            for name, value in pairs.items() if hasattr(pairs, "items") else pairs:
                atoms[f"{{{name.lower()}}}{letter}"] = value
        return atoms

    @property
    def access_log_enabled(self) -> bool:
        """Whether access records are wanted: if not, nothing is computed for them."""
        enabled = self._access_log_enabled
        return self._wants_access_log() if enabled is None else enabled

    def _wants_access_log(self) -> bool:
        cfg = self.cfg
        if cfg.accesslog or cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json:
            return True
        return bool(cfg.syslog and not cfg.disable_redirect_access_to_syslog)

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Log one finished request."""
        if not self.access_log_enabled:
            return
        try:
            # A single mapping as argument is what `logging` takes the names of a format from.
            atoms = self.atoms_wrapper_class(self.atoms(resp, req, environ, request_time))
            self.access_log.info(self.cfg.access_log_format, atoms)
        except Exception:
            self.error(traceback.format_exc())

    def now(self) -> str:
        """Return the local time in the form of the Common Log Format."""
        return time.strftime("[%d/%b/%Y:%H:%M:%S %z]")

    def reopen_files(self) -> None:
        """Open log files again, after a rotation; a file that cannot be opened leaves its old one in use."""
        failures: list[tuple[str, OSError]] = []
        try:
            self._capture_output(self.cfg)
        except OSError as error:
            failures.append((self.cfg.errorlog, error))
        for handler in _file_handlers():
            with handler.lock or contextlib.nullcontext():
                try:
                    self._reopen(handler)
                except OSError as error:
                    failures.append((handler.baseFilename, error))
        for path, failure in failures:
            self.error("Cannot open the log file %s again: %s", path, failure)

    def _reopen(self, handler: logging.FileHandler) -> None:
        old: Any = handler.stream
        if not old:
            # It opens its file with its next record.
            return
        handler.stream = handler._open()
        with contextlib.suppress(OSError):
            old.close()

    def close_on_exec(self) -> None:
        """Keep the log files from programs that the process becomes or starts."""
        for handler in _file_handlers():
            with handler.lock or contextlib.nullcontext():
                stream: Any = handler.stream
                if stream:
                    os.set_inheritable(stream.fileno(), False)

    def _set_handler(
        self, log: logging.Logger, output: str | None, fmt: logging.Formatter, stream: IO[str] | None = None
    ) -> None:
        """Replace our handler of a logger by one that writes to a path, or to `stream` if that is a dash."""
        ours = [handler for handler in log.handlers if getattr(handler, "_gunicorn", False)]
        for handler in ours[:1]:
            log.removeHandler(handler)
        if output is None:
            return
        if output == "-":
            self._add_handler(log, logging.StreamHandler(stream), fmt)
            return
        owner = (self.cfg.user, self.cfg.group)
        try:
            # By the path as it was given: the handler makes an absolute one of it, also of none.
            os.close(_open_log_file(output, *owner))
            file_handler = FileHandler(output, owner)
        except OSError as error:
            raise RuntimeError(f"Error: '{output}' isn't writable [{error!r}]") from error
        self._add_handler(log, file_handler, fmt)

    def _set_syslog_handler(self, log: logging.Logger, cfg: Any, fmt: str, name: str) -> None:
        tag = f"gunicorn.{cfg.syslog_prefix or cfg.proc_name.replace(':', '.')}.{name}"
        facility = SYSLOG_FACILITIES.get(cfg.syslog_facility.lower())
        if facility is None:
            raise RuntimeError("unknown facility name")
        kind, address = parse_syslog_address(cfg.syslog_addr)
        try:
            handler = SysLogHandler(address=address, facility=facility, socktype=kind)
        except OSError as error:
            raise RuntimeError(f"Cannot reach syslog at {cfg.syslog_addr}: {error}") from error
        self._add_handler(log, handler, logging.Formatter(f"{tag}: {fmt}"))

    def _add_handler(self, log: logging.Logger, handler: logging.Handler, fmt: logging.Formatter) -> None:
        handler.setFormatter(fmt)
        # The mark tells a reload which handlers are its own to replace.
        handler._gunicorn = True  # type: ignore[attr-defined]
        log.addHandler(handler)

    def _get_user(self, environ: Mapping[str, Any]) -> str | None:
        """Return the user name of Basic authentication."""
        scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if not credentials or not scheme.lower().startswith("basic"):
            return None
        try:
            return base64.b64decode(credentials.strip().encode()).partition(b":")[0].decode()
        except ValueError as error:
            self.debug("No user name in the Authorization header: %s", error)
            return None


def _read_json(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)
