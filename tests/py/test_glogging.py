"""The Python logger does what Gunicorn's does: settings, handlers, atoms, lines, syslog, errors, subclasses."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from glogs import (
    SERVERS,
    SETTINGS,
    Headers,
    clean,
    collected,
    glogging,
    handlers_of,
    loggers_described,
    masked,
    outcomes,
    request,
    settings,
)

# Gunicorn leaves files to the garbage collector.
pytestmark = [pytest.mark.one_driver, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(autouse=True)
def own_loggers() -> Iterator[None]:
    before = logging.root.level
    clean()
    with collected():
        yield
        clean()
    logging.root.setLevel(before)


def same(ask: Callable[[str], Any]) -> Any:
    theirs, ours = outcomes(ask)
    assert ours == theirs
    return ours


# The contract of the class.


def test_names_of_the_module_and_of_the_class() -> None:
    theirs, ours = (glogging(server) for server in SERVERS)
    for name in ("CONFIG_DEFAULTS", "SYSLOG_FACILITIES"):
        assert getattr(ours, name) == getattr(theirs, name)
    for name in ("LOG_LEVELS", "loglevel", "error_fmt", "datefmt", "access_fmt", "syslog_fmt"):
        assert getattr(ours.Logger, name) == getattr(theirs.Logger, name)
    wanted = {name for name in dir(theirs.Logger(settings())) if not name.startswith("__")}
    wanted -= {"_compute_access_log_enabled", "_get_gunicorn_handler"}  # of no use to a subclass
    assert wanted <= set(dir(ours.Logger(settings())))
    assert ours.Logger.atoms_wrapper_class is ours.SafeAtoms


def test_known_loggers() -> None:
    logging.getLogger("test_glogging.child").addHandler(logging.NullHandler())

    def with_handlers(server: str) -> list[str]:
        return sorted(each.name for each in glogging(server).loggers() if each.handlers)

    assert "test_glogging.child" in same(with_handlers)


# Setup.

UDP = "udp://127.0.0.1:9"

SETUPS: dict[str, dict[str, Any]] = {
    "default": {},
    "stdout": {"accesslog": "-"},
    "files": {"accesslog": "access.log", "errorlog": "error.log"},
    "no error log": {"errorlog": None},
    "level": {"loglevel": "DEBUG"},
    "unknown level": {"loglevel": "verbose"},
    "unwritable": {"errorlog": "/no/such/error.log"},
    "directory": {"errorlog": "/tmp"},
    "empty path": {"errorlog": ""},
    "unwritable access log": {"accesslog": "/no/such/access.log"},
    "empty access log": {"accesslog": ""},
    "device": {"errorlog": "/dev/null"},
    "syslog": {"syslog": True, "syslog_addr": UDP},
    "syslog without access": {"syslog": True, "syslog_addr": UDP, "disable_redirect_access_to_syslog": True},
    "syslog that is not there": {"syslog": True, "syslog_addr": "unix:///no/such/socket"},
    "syslog prefix": {
        "syslog": True,
        "syslog_addr": "unix:///no#dgram",
        "syslog_prefix": "web",
        "syslog_facility": "LOCAL3",
    },
    "facility security": {"syslog": True, "syslog_addr": "unix:///no#dgram", "syslog_facility": "security"},
    "facility unknown": {"syslog": True, "syslog_facility": "local8"},
    "facility of logging only": {"syslog": True, "syslog_facility": "console"},
    "syslog scheme": {"syslog": True, "syslog_addr": "http://localhost"},
    "syslog port": {"syslog": True, "syslog_addr": "udp://localhost:syslog"},
    "ini missing": {"logconfig": "/no/such/file.ini"},
    "json missing": {"logconfig_json": "/no/such/file.json"},
    "dict version": {"logconfig_dict": {"version": 2}},
    "dict class": {"logconfig_dict": {"handlers": {"console": {"class": "no.such.Handler"}}}},
    "dict formatter": {"logconfig_dict": {"formatters": {"generic": {"()": "no.such"}}}},
    "dict level": {"logconfig_dict": {"root": {"level": "LOUD"}}},
    "dict handler unknown": {"logconfig_dict": {"root": {"handlers": ["other"]}}},
    "dict shape": {"logconfig_dict": {"loggers": 3}},
    "dict only a root": {"logconfig_dict": {"root": {"level": "DEBUG", "handlers": []}}},
    "dict with files": {"errorlog": "error.log", "accesslog": "access.log", "logconfig_dict": {"loggers": {}}},
    "dict before json before ini": {
        "logconfig_dict": {"root": {"level": "ERROR", "handlers": []}},
        "logconfig_json": "/no/such/file.json",
        "logconfig": "/no/such/file.ini",
    },
}


@pytest.mark.parametrize("changed", SETUPS.values(), ids=SETUPS)
def test_setup(changed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def ask(server: str) -> Any:
        logger = glogging(server).Logger(settings(**changed))
        return loggers_described(), logger.loglevel, logger.access_log_enabled, logger.logfile

    same(ask)


DICTS: dict[str, dict[str, Any]] = {
    "level": {"loggers": {"gunicorn.error": {"level": "DEBUG", "handlers": ["console"]}}},
    "no propagation": {"loggers": {"gunicorn.access": {"level": "INFO", "handlers": ["console"], "propagate": False}}},
    "file": {
        "handlers": {"console": {"class": "logging.FileHandler", "filename": "all.log"}},
        "loggers": {"gunicorn.error": {"handlers": ["console"]}},
    },
    "formatter": {"formatters": {"generic": {"format": "%(name)s %(message)s"}}},
    "disable others": {"disable_existing_loggers": True},
    "incremental": {"incremental": True, "loggers": {"gunicorn.error": {"level": "ERROR"}}},
    "empty": {},
}


@pytest.mark.parametrize("form", ["dict", "json"])
@pytest.mark.parametrize("config", DICTS.values(), ids=DICTS)
def test_dictionaries_replace_keys_of_the_default(
    form: str, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.json").write_text(json.dumps(config))
    changed = {"logconfig_dict": config} if form == "dict" else {"logconfig_json": "log.json"}

    def ask(server: str) -> Any:
        glogging(server).Logger(settings(**changed))
        logging.getLogger("gunicorn.error").warning("one")
        logging.getLogger("gunicorn.access").info("two")
        described = loggers_described()
        lines = masked(Path("all.log").read_text()) if Path("all.log").exists() else None
        Path("all.log").unlink(missing_ok=True)
        return described, lines

    same(ask)
    assert glogging("rgunicorn").CONFIG_DEFAULTS == glogging("gunicorn").CONFIG_DEFAULTS


@pytest.mark.parametrize("text", ["", "{", "[]", "[1]", "3", '{"version": 1, "root": 3}', '{"version": null}', "\xff"])
def test_json_that_means_nothing(text: str, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_bytes(text.encode("latin-1"))
    same(lambda server: (glogging(server).Logger(settings(logconfig_json=str(path))), loggers_described())[1])


INI = """
[loggers]
keys = root, gunicorn.error, gunicorn.access
[handlers]
keys = file
[formatters]
keys = short
[logger_root]
level = WARNING
handlers =
[logger_gunicorn.error]
level = DEBUG
handlers = file
propagate = 0
qualname = gunicorn.error
[logger_gunicorn.access]
level = INFO
handlers = file
propagate = 0
qualname = gunicorn.access
[handler_file]
class = FileHandler
formatter = short
args = ('%(here)s/all.log', 'a')
[formatter_short]
format = %(levelname)s %(message)s
"""


@pytest.mark.parametrize(
    "text",
    [
        INI,
        INI.replace("level = DEBUG", "level = LOUD"),
        INI.replace("handlers = file", "handlers = other"),
        INI.replace("%(here)s", "%(nowhere)s"),
        INI.replace("[formatters]", "[other]"),
        INI.replace("args =", "args = ("),
    ],
    ids=["good", "level", "handler", "variable", "section", "arguments"],
)
def test_ini_files(text: str, tmp_path: Path) -> None:
    path = tmp_path / "log.ini"
    path.write_text(text)

    def ask(server: str) -> Any:
        try:
            logger = glogging(server).Logger(settings(logconfig=str(path)))
        except Exception as error:
            return type(error), str(error)
        logger.debug("one %s", 1)
        logger.access(*request())
        lines = masked((tmp_path / "all.log").read_text())
        (tmp_path / "all.log").unlink()
        return loggers_described(), lines

    same(ask)


def test_a_reload_replaces_the_servers_handlers_only(tmp_path: Path) -> None:
    def ask(server: str) -> Any:
        foreign = logging.NullHandler()
        logging.getLogger("gunicorn.error").addHandler(foreign)
        syslog = {"syslog": True, "syslog_addr": "unix:///no#dgram"}
        logger = glogging(server).Logger(settings(accesslog=str(tmp_path / "a"), **syslog))
        first = loggers_described()
        logger.setup(settings(errorlog=str(tmp_path / "e"), loglevel="error", **syslog))
        second = loggers_described()
        logger.setup(settings())
        return first, second, loggers_described(), logger.loglevel, logger.access_log_enabled

    same(ask)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_files_are_given_to_the_user_and_group(tmp_path: Path) -> None:
    def ask(server: str) -> Any:
        paths = [tmp_path / f"{server}-error", tmp_path / f"{server}-access"]
        changed = {"errorlog": str(paths[0]), "accesslog": str(paths[1]), "user": 1234, "group": 567}
        glogging(server).Logger(settings(**changed))
        return [(path.stat().st_uid, path.stat().st_gid) for path in paths]

    assert same(ask) == [(1234, 567)] * 2


def test_texts_of_clients_are_escaped(tmp_path: Path) -> None:
    """Gunicorn escapes quotes alone."""
    path = tmp_path / "access"
    cfg = settings(accesslog=str(path), access_log_format="%(f)s", errorlog=None)
    glogging("rgunicorn").Logger(cfg).access(*request(environ={"HTTP_REFERER": 'a\\b"\x1b\r\n\x7f\x9b\xe9'}))
    assert path.read_text(encoding="utf-8") == 'a\\\\b\\"\\x1B\\x0D\\x0A\\x7F\\x9B\xe9\n'


@pytest.mark.parametrize("name", ["accesslog", "logconfig", "logconfig_json", "syslog", None])
@pytest.mark.parametrize("disabled", [False, True])
def test_when_access_records_are_wanted(name: str | None, disabled: bool) -> None:
    class Silent:
        def setup(self, cfg: Any) -> None:
            pass

    changed = {name: "x"} if name else {}

    def ask(server: str) -> Any:
        logger = type("Quiet", (Silent, glogging(server).Logger), {})
        return logger(settings(disable_redirect_access_to_syslog=disabled, **changed)).access_log_enabled

    assert same(ask) is (name is not None and not (name == "syslog" and disabled))


# Records.


def test_error_records(tmp_path: Path) -> None:
    def ask(server: str) -> Any:
        path = tmp_path / server
        logger = glogging(server).Logger(settings(errorlog=str(path), loglevel="debug"))
        for name in ("critical", "error", "warning", "info", "debug"):
            getattr(logger, name)("%s: %d%%", name, 5)
            getattr(logger, name)("100%")
            logger.log(name.upper(), "by name")
            logger.log(getattr(logging, name.upper()), "by number %(x)s", {"x": 1})
        logger.log("unknown", "as info")
        logger.log(15, "in between")
        logger.info("two\nlines")
        logger.info({"not": "text"})
        logger.info("extra", extra={"key": 1})
        try:
            raise ValueError("bad % value")
        except ValueError:
            logger.exception("caught %s", 1)
            logger.error("caught", exc_info=True)  # noqa: G201 - this spelling, too
        logger.setup(settings(errorlog=str(path), loglevel="error"))
        logger.warning("not seen")
        logger.error("caf\xe9 \u2603")
        return masked(path.read_text().replace(str(path), "PATH"))

    assert "[CRITICAL] critical: 5%" in same(ask)


REQUESTS: dict[str, dict[str, Any]] = {
    "usual": {},
    "status is a number": {"status": 404},
    "status without a reason": {"status": "204"},
    "status in bytes": {"status": b"200 OK"},
    "nothing sent": {"sent": 0},
    "sent unknown": {"sent": None},
    "no address": {"environ": {"REMOTE_ADDR": ""}},
    "bare environ": {"without": ["REMOTE_ADDR", "PATH_INFO", "QUERY_STRING", "HTTP_USER_AGENT", "HTTP_REFERER"]},
    "headers in a mapping": {"headers": Headers([("X-ONE", "m")]), "response_headers": Headers([("X-Two", "n")])},
    "headers in a dict": {"headers": {"X-ONE": "d"}, "response_headers": {}},
    "repeated response headers": {"response_headers": [("Set-Cookie", "a"), ("set-cookie", "b")]},
    "a day and more": {"elapsed": {"days": 1, "seconds": 3725, "microseconds": 45678}},
    "no time": {"elapsed": {}},
    "less than a millisecond": {"elapsed": {"microseconds": 999}},
    "almost a second": {"elapsed": {"microseconds": 999_999}},
    "odd values": {"environ": {"HTTP_REFERER": 'a"bc', "OBJECT": ["x", '"'], "{brace}": "b", "MiXed": 1}},
    "user": {"environ": {"HTTP_AUTHORIZATION": "Basic YW5uOnNlY3JldA=="}},
    "user in lower case": {"environ": {"HTTP_AUTHORIZATION": "basic  YW5uOnNlY3JldA== "}},
    "user without a colon": {"environ": {"HTTP_AUTHORIZATION": "Basic YW5u"}},
    "user with a quote": {"environ": {"HTTP_AUTHORIZATION": "Basic YSJiOmM="}},
    "no user name": {"environ": {"HTTP_AUTHORIZATION": "Basic OnNlY3JldA=="}},
    "nothing after the scheme": {"environ": {"HTTP_AUTHORIZATION": "Basic"}},
    "nothing after the blank": {"environ": {"HTTP_AUTHORIZATION": "Basic "}},
    "longer scheme": {"environ": {"HTTP_AUTHORIZATION": "Basically YW5uOng="}},
    "other scheme": {"environ": {"HTTP_AUTHORIZATION": "Bearer YW5uOng="}},
    "bad padding": {"environ": {"HTTP_AUTHORIZATION": "Basic YW5uO"}},
    "not UTF-8": {"environ": {"HTTP_AUTHORIZATION": "Basic /zpw"}},
    "foreign characters": {"environ": {"HTTP_AUTHORIZATION": "Basic YW\xe95u!OnNlY3JldA=="}},
}


@pytest.mark.parametrize("changed", REQUESTS.values(), ids=REQUESTS)
def test_atoms(changed: dict[str, Any]) -> None:
    def ask(server: str) -> Any:
        atoms = glogging(server).Logger(settings()).atoms(*request(**changed))
        return atoms | {"t": masked(atoms["t"])}

    assert same(ask)["t"] == "[TIME]"


FORMATS = (
    SETTINGS["access_log_format"],
    "%(h)s|%(l)s|%(u)s|%(r)s|%(s)s|%(m)s|%(U)s|%(q)s|%(H)s|%(b)s|%(B)s|%(f)s|%(a)s|%(T)s|%(M)s|%(D)s|%(L)s|%(p)s",
    "%({host}i)s|%({X-One}i)s|%({x-q}i)s|%({X-NONE}i)s|%({content-type}o)s|%({X-TWO}o)s|%({set-cookie}o)s",
    "%({wsgi.url_scheme}e)s|%({WSGI.MULTITHREAD}e)s|%({object}e)s|%({mixed}e)s|%({{brace}}e)s|%({request_method}E)s",
    "%(z)s|%()s|%({)s|%(T)05d|%(D)x|%(h)20s|%(U)-20s|%(a).3s|%%",
    "plain",
)


@pytest.mark.parametrize("changed", REQUESTS.values(), ids=REQUESTS)
def test_access_lines(changed: dict[str, Any], tmp_path: Path) -> None:
    def ask(server: str) -> Any:
        path = tmp_path / server
        for line_format in FORMATS:
            cfg = settings(accesslog=str(path), access_log_format=line_format, errorlog=None)
            glogging(server).Logger(cfg).access(*request(**changed))
        return masked(path.read_text(encoding="utf-8"))

    assert len(same(ask).splitlines()) >= len(FORMATS)


def test_nothing_is_computed_for_records_that_nobody_wants() -> None:
    def ask(server: str) -> Any:
        logger = glogging(server).Logger(settings())
        logger.atoms = None
        return logger.access(None, None, {}, None)

    assert same(ask) is None


def test_safe_atoms() -> None:
    atoms = {"a": 'x"y"', "n": 3, "none": None, "{x-a}i": "i", "{X-B}i": "never found", "b": b'"'}

    def ask(server: str) -> Any:
        safe = glogging(server).SafeAtoms(atoms)
        found = [safe[key] for key in ("a", "n", "none", "{X-A}i", "{x-a}I", "{X-B}i", "b", "A", "", "{")]
        return found, dict(safe), isinstance(safe, dict), "z" in safe, safe.get("z")

    same(ask)


# What users make of it.


def test_subclasses(tmp_path: Path) -> None:
    class NoHealth(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            return "/health" not in record.getMessage()

    def ask(server: str) -> Any:
        base = glogging(server).Logger

        class Upper(dict):
            def __getitem__(self, key: str) -> str:
                return key.upper()

        class Mine(base):
            error_fmt = "E %(message)s"
            access_fmt = "A %(message)s"
            atoms_wrapper_class = glogging(server).SafeAtoms

            def setup(self, cfg: Any) -> None:
                super().setup(cfg)
                self.access_log.addFilter(NoHealth())
                self._set_handler(self.access_log, str(tmp_path / server), fmt=logging.Formatter("B %(message)s"))
                self.info("set up at level %s", self.loglevel)

            def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> Any:
                return super().atoms(resp, req, environ, request_time) | {"id": "42", "{rid}x": 'q"'}

            def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
                if environ["PATH_INFO"] != "/ping":
                    super().access(resp, req, environ, request_time)

            def now(self) -> str:
                return "NOW"

        line = "%(t)s %(id)s %({RID}x)s %(r)s"
        cfg = settings(accesslog=str(tmp_path / server), errorlog=str(tmp_path / f"{server}.e"), access_log_format=line)
        logger = Mine(cfg)
        for uri in ("/", "/health", "/ping"):
            logger.access(*request(environ={"RAW_URI": uri, "PATH_INFO": uri}))
        logger.atoms_wrapper_class = Upper
        logger.access(*request())
        return (tmp_path / server).read_text(), (tmp_path / f"{server}.e").read_text()

    lines = same(ask)[0].splitlines()
    assert lines == ['B NOW 42 q\\" GET / HTTP/1.1', "B T ID {RID}X R"]


# Reopening and capturing.


def test_reopen(tmp_path: Path) -> None:
    def ask(server: str) -> Any:
        folder = tmp_path / server
        folder.mkdir()
        foreign = logging.getLogger("test_glogging.foreign")
        foreign.propagate = False
        foreign.addHandler(logging.FileHandler(folder / "foreign"))
        logger = glogging(server).Logger(settings(accesslog=str(folder / "a"), errorlog=str(folder / "e")))

        def write(text: str) -> None:
            logger.error(text)
            foreign.error(text)
            logger.access_log.info(text)

        write("one")
        for name in ("a", "e", "foreign"):
            (folder / name).rename(folder / f"{name}.1")
        write("two")
        logger.reopen_files()
        logger.close_on_exec()
        write("three")
        foreign.handlers.pop().close()
        return {path.name: masked(path.read_text()) for path in sorted(folder.iterdir())}

    files = same(ask)
    assert files["a.1"] == files["foreign.1"] == "one\ntwo\n"
    assert files["a"] == files["foreign"] == "three\n"


CAPTURE = """
import os, subprocess, sys
sys.path[:0] = [{here!r}]
from glogs import glogging, settings
print("before", flush=True)
cfg = settings(errorlog="error.log", capture_output=True)
logger = glogging({server!r}).Logger(cfg)
def write(text):
    print("out", text, flush=True)
    print("err", text, file=sys.stderr)
    subprocess.run(["sh", "-c", "echo child " + text + "; echo child err " + text + " >&2"], check=True)
    logger.info(text)
write("one")
os.rename("error.log", "error.log.1")
logger.reopen_files()
write("two")
logger.setup(cfg)
write("three")
"""


def test_output_is_captured(tmp_path: Path) -> None:
    def ask(server: str) -> Any:
        folder = tmp_path / server
        folder.mkdir()
        code = CAPTURE.format(server=server, here=str(Path(__file__).parent))
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        texts = [(folder / name).read_text() for name in ("error.log.1", "error.log")]
        lines = [[line.rpartition("] ")[2] for line in text.splitlines()] for text in texts]
        return lines, done.stdout, done.stderr

    lines, stdout, stderr = same(ask)
    assert lines[0] == ["out one", "err one", "child one", "child err one", "one"]
    assert (stdout, stderr) == ("before\n", "")


# syslog.


@pytest.mark.parametrize(
    "address",
    [
        *("unix:///dev/log", "unix:///dev/log#dgram", "unix:///dev/log#stream", "unix:///a#b#dgram"),
        *("unix://rel", "unix://"),
        *("udp://localhost", "udp://LOCALHOST:1234", "udp://", "udp://:99", "udp://h:", "udp://h:x", "udp://h:1:2"),
        *("tcp://h:1", "tcp://[::1]", "tcp://[::1]:601", "udp://[FE80::1]:7", "udp://[::1]:x", "tcp://192.0.2.1:0514"),
        *("http://h", "", "h:1", "unix:/dev/log", "udp:/h", "UDP://h", "://h"),
    ],
)
def test_syslog_addresses(address: str) -> None:
    same(lambda server: glogging(server).parse_syslog_address(address))


@pytest.mark.parametrize("changed", [{}, {"syslog_prefix": "web", "syslog_facility": "local7"}, {"proc_name": "a:b:c"}])
@pytest.mark.parametrize("kind", ["unix", "unix-any", "udp"])
@pytest.mark.parametrize("access", [True, False])
def test_syslog_packets(changed: dict[str, Any], kind: str, access: bool, workdir: Path) -> None:
    def ask(server: str) -> Any:
        path = workdir / f"{server}.sock"
        family, address = (socket.AF_INET, ("127.0.0.1", 0)) if kind == "udp" else (socket.AF_UNIX, str(path))
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind(address)
            sock.settimeout(10)
            if kind == "udp":
                to = f"udp://127.0.0.1:{sock.getsockname()[1]}"
            else:
                to = f"unix://{path}" + ("#dgram" if kind == "unix" else "")
            cfg = settings(syslog=True, syslog_addr=to, disable_redirect_access_to_syslog=not access, **changed)
            logger = glogging(server).Logger(cfg)
            logger.error("caf\xe9 %s", "one")
            logger.access(*request())
            logger.critical("the end")
            packets = [sock.recv(4096)]
            while b"the end" not in packets[-1]:
                packets.append(sock.recv(4096))
        return [masked(packet.decode()) for packet in packets]

    assert len(same(ask)) == 2 + access


def test_syslog_stream(workdir: Path) -> None:
    def ask(server: str) -> Any:
        path = workdir / f"{server}.sock"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
            sock.listen()
            logger = glogging(server).Logger(settings(syslog=True, syslog_addr=f"unix://{path}#stream"))
            logger.error("one")
            handlers_of("gunicorn.error")[-1].close()
            peer, _ = sock.accept()
            with peer, peer.makefile("rb") as stream:
                return stream.read()

    assert same(ask).endswith(b"one\x00")
