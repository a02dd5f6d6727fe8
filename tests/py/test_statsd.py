"""The statsd logger sends what Gunicorn's sends, and a statsd that is gone or stuck holds up nobody."""

from __future__ import annotations

import itertools
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from glogs import SERVERS, clean, collected, outcomes, request, settings, statsd
from harness import run_to_end

pytestmark = [pytest.mark.one_driver, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(autouse=True)
def own_loggers() -> Iterator[None]:
    clean()
    with collected():
        yield
        clean()


def packets(server: str, use: Callable[[Any], None], family: socket.AddressFamily, path: Path, **changed: Any) -> Any:
    """What a statsd receives while a logger is used."""
    addresses: dict[Any, Any] = {
        socket.AF_UNIX: str(path),
        socket.AF_INET: ("127.0.0.1", 0),
        socket.AF_INET6: ("::1", 0),
    }
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind(addresses[family])
        sock.settimeout(10)
        address = sock.getsockname()
        host = address if family == socket.AF_UNIX else address[:2]
        cfg = settings(errorlog="/dev/null", statsd_host=host, **changed)
        logger = statsd(server).Statsd(cfg)
        received: list[bytes] = []

        def read() -> None:
            while not received or not received[-1].startswith(b"end"):
                received.append(sock.recv(4096))

        # Such a socket holds few datagrams.
        reader = threading.Thread(target=read)
        reader.start()
        try:
            use(logger)
        finally:
            logger._sock_send("end")
            reader.join()
            logger.sock.close()
    return received[:-1]


def same(use: Callable[[Any], None], workdir: Path, family: Any = socket.AF_UNIX, **changed: Any) -> list[bytes]:
    theirs, ours = outcomes(lambda server: packets(server, use, family, workdir / server, **changed))
    assert ours == theirs
    assert isinstance(ours, list), ours
    return ours


def levels(logger: Any) -> None:
    for name in ("critical", "error", "warning", "info", "debug", "exception"):
        getattr(logger, name)("%s", name)
    logger.log(logging.ERROR, "not counted")
    logger.log("critical", "not counted")


def metrics(logger: Any) -> None:
    for mtype in ("gauge", "counter", "histogram", "timer", "other", None):
        for value in (1, 0, -2.5, None, "text"):
            extra = {"metric": "m", "value": value, "mtype": mtype}
            logger.log(logging.INFO, "", extra=extra)
            logger.info("", extra=extra)
            logger.debug("with text %s", 1, extra=extra)
    logger.info("", extra={"metric": "", "value": 1, "mtype": "gauge"})
    logger.info("", extra={"value": 1, "mtype": "gauge"})
    logger.info("", extra={})
    logger.info("", extra=None)
    logger.info(None)


def helpers(logger: Any) -> None:
    logger.gauge("g", 1.5)
    logger.increment("i", 2)
    logger.increment("i", 2, 0.25)
    logger.increment("i", 2, sampling_rate=1)
    logger.decrement("d", 3)
    logger.decrement("d", 3, sampling_rate=0.5)
    logger.timer("t", 12.25)
    logger.histogram("h", 7)
    logger._sock_send(b"bytes:1|c")


def requests(logger: Any) -> None:
    for status in ("200 OK", "404", 500, b"302 Found"):
        for elapsed in ({}, {"microseconds": 1}, {"seconds": 3, "microseconds": 45678}, {"days": 1, "seconds": 1}):
            logger.access(*request(status=status, elapsed=elapsed))


USES = {"levels": levels, "metrics": metrics, "helpers": helpers, "requests": requests}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("tags", ["", "env:test,app:a"])
def test_packets(use: Callable[[Any], None], tags: str, workdir: Path) -> None:
    sent = same(use, workdir, dogstatsd_tags=tags, statsd_prefix="web")
    assert len(sent) > 3
    assert all(packet.endswith(b"|#env:test,app:a") is bool(tags) for packet in sent)


@pytest.mark.parametrize("prefix", ["", "web", "web.", "web...", "a.b", "a.b..", "w", "w.", ".", "..", ".w", "a b"])
def test_prefixes(prefix: str, workdir: Path) -> None:
    same(lambda logger: logger.gauge("m", 1), workdir, statsd_prefix=prefix)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_addresses(family: socket.AddressFamily, workdir: Path) -> None:
    assert same(helpers, workdir, family)


def test_names() -> None:
    theirs, ours = (statsd(server) for server in SERVERS)
    for name in (name for name in vars(theirs) if name.endswith(("_VAR", "_TYPE"))):
        assert getattr(ours, name) == getattr(theirs, name)
    missing = {name for name in dir(theirs.Statsd) if not name.startswith("__")} - set(dir(ours.Statsd))
    assert missing <= {"_compute_access_log_enabled", "_get_gunicorn_handler"}


def test_access_lines_are_written_as_well(tmp_path: Path) -> None:
    cfg = settings(accesslog=str(tmp_path / "a"), statsd_host="/no/such/socket", access_log_format="%(s)s")
    statsd("rgunicorn").Statsd(cfg).access(*request())
    assert (tmp_path / "a").read_text() == "200\n"


# Bad weather.


def test_no_statsd_is_no_failure(tmp_path: Path) -> None:
    path = tmp_path / "e"
    for host in ("/no/such/socket", ("no.such.host.invalid", 8125), None):
        logger = statsd("rgunicorn").Statsd(settings(errorlog=str(path), statsd_host=host))
        for use in USES.values():
            use(logger)
    # Gunicorn does not say so; nothing else tells of it.
    assert len(re.findall(r"\[WARNING\] No connection to statsd at ", path.read_text())) == 2
    assert path.read_text().count("statsd") == 2


def test_a_new_statsd_on_the_same_path_is_found(workdir: Path) -> None:
    path, log = workdir / "s", workdir / "e"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        logger = statsd("rgunicorn").Statsd(settings(errorlog=str(log), statsd_host=str(path)))
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(10)
        logger.gauge("lost", 1)
        logger.gauge("found", 1)
        assert sock.recv(4096) == b"found:1|g"
    assert log.read_text().count("Cannot send to statsd") == 1
    logger.sock.close()


def test_a_statsd_that_does_not_read_holds_up_nobody(workdir: Path) -> None:
    path, log = workdir / "s", workdir / "e"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        logger = statsd("rgunicorn").Statsd(settings(errorlog=str(log), statsd_host=str(path)))
        while not log.stat().st_size:
            logger.gauge("m", 1)
        assert "Cannot send to statsd" in log.read_text()
        # Nobody waits meanwhile, and nobody says it again.
        logged = log.read_text()
        for _ in range(100):
            logger.gauge("dropped", 1)
        assert log.read_text() == logged
        # Later it is tried again.
        logger._paused_until = time.monotonic()
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            all(sock.recv(4096) == b"m:1|g" for _ in itertools.count())
        logger.gauge("back", 1)
        assert sock.recv(4096) == b"back:1|g"
        logger.sock.close()


def test_what_cannot_be_sent_is_a_warning(workdir: Path) -> None:
    log = workdir / "e"

    def use(logger: Any) -> None:
        logger.gauge("caf\xe9", 1)
        logger.error("counted")

    sent = same(use, workdir)
    assert sent == [b"gunicorn.log.error:1|c|@1.0"]
    logger = statsd("rgunicorn").Statsd(settings(errorlog=str(log), statsd_host="/no/such"))
    logger.gauge("caf\xe9", 1)
    assert "[WARNING] Cannot send to statsd\nTraceback" in log.read_text()


FORMS = ["{host}:{port}", "localhost:{port}", "unix:{path}", "unix://{path}", "unix:statsd.sock"]


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_address(launch: Any, workdir: Path, form: str) -> None:
    family = socket.AF_UNIX if form.startswith("unix") else socket.AF_INET
    receives(launch, workdir, form, family)


@pytest.mark.own(reason="Gunicorn sends nothing there, and says nothing")
def test_an_ipv6_address(launch: Any, workdir: Path) -> None:
    receives(launch, workdir, "[::1]:{port}", socket.AF_INET6)


def receives(launch: Any, workdir: Path, form: str, family: socket.AddressFamily) -> None:
    """A statsd at an address of this form hears of a request."""
    path = workdir / "statsd.sock"
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        host = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}.get(family, "")
        sock.bind(str(path) if family == socket.AF_UNIX else (host, 0))
        port = sock.getsockname()[1] if family != socket.AF_UNIX else 0
        address = form.format(host=host, port=port, path=path)
        server = launch("life:app", "--statsd-host", address, workdir=workdir)
        assert server.get("/pid").status == 200
        while not sock.recv(4096).startswith(b"gunicorn.requests:1|c"):
            pass


@pytest.mark.parametrize("address", ["udp://localhost:8125", "localhost:statsd"])
def test_no_address(flavour: Any, workdir: Path, address: str) -> None:
    done = run_to_end(flavour, workdir, "--bind", "127.0.0.1:0", "--statsd-host", address, "life:app")
    assert done.returncode in ((1,) if flavour.own else (1, 2)), done.stderr
    assert "Listening" not in done.stderr
    if flavour.own:
        assert f"statsd_host: '{address}' is no address: " in done.stderr
        assert "unix://PATH)" in done.stderr


@pytest.mark.own(reason="Gunicorn is silent")
@pytest.mark.parametrize("address", ["unix:missing.sock", "no-such-host.invalid:8125"])
def test_a_statsd_that_cannot_be_reached(launch: Any, address: str) -> None:
    server = launch("life:app", "--statsd-host", address)
    assert server.get("/pid").status == 200
    server.wait_log(r"\[WARNING\] No connection to statsd at ")
