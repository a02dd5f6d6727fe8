"""The Python logger in bad weather. Gunicorn is not asked: some of this it does not survive."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from glogs import clean, collected, glogging, handlers_of, request, settings

pytestmark = [pytest.mark.one_driver, pytest.mark.own]


@pytest.fixture(autouse=True)
def own_loggers() -> Iterator[None]:
    before = logging.root.level
    clean()
    with collected():
        yield
        clean()
    logging.root.setLevel(before)


def failing(**changed: Any) -> Any:
    return glogging("rgunicorn").Logger(settings(**changed))


def test_a_failed_setup_leaves_the_loggers_as_they_were(tmp_path: Path) -> None:
    logger = failing(errorlog=str(tmp_path / "e"), accesslog=str(tmp_path / "a"), loglevel="debug")
    before = logger.loglevel, logger.cfg, handlers_of("gunicorn.error"), handlers_of("gunicorn.access")
    for changed in (
        {"accesslog": "/no/such/log"},
        {"syslog": True, "syslog_facility": "none"},
        {"logconfig_dict": {"loggers": {"gunicorn.error": {"level": "LOUD"}}}},
        {"errorlog": str(tmp_path / "other"), "logconfig": "/no/such"},
    ):
        with pytest.raises(RuntimeError):
            logger.setup(settings(**changed))
        now = logger.loglevel, logger.cfg, handlers_of("gunicorn.error"), handlers_of("gunicorn.access")
        assert now == before
        assert (logger.error_log.level, logger.error_log.propagate) == (logging.DEBUG, False)
        logger.debug("still here")
        logger.access(*request())
    assert (tmp_path / "e").read_text().count("still here") == 4
    assert len((tmp_path / "a").read_text().splitlines()) == 4


def test_a_syslog_that_refuses_ends_the_setup() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(RuntimeError, match=rf"^Cannot reach syslog at tcp://127\.0\.0\.1:{port}: .*refused"):
        failing(syslog=True, syslog_addr=f"tcp://127.0.0.1:{port}")


def test_unwritable_logs_are_named_also_with_capture_output() -> None:
    with pytest.raises(RuntimeError, match=r"^Error: '/no/such/e' isn't writable "):
        failing(errorlog="/no/such/e", capture_output=True)


def test_a_full_disk_raises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    logger = failing(errorlog="/dev/full", accesslog="/dev/full")
    for _ in range(3):
        logger.critical("gone")
        logger.access(*request())
    logger.reopen_files()
    logger.error("gone")
    logger.setup(settings())
    assert "No space left" in capsys.readouterr().err


def test_a_directory_that_vanishes_raises_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    logger = failing(errorlog=str(folder / "e"), accesslog=str(folder / "a"))
    held = (folder / "e").open()
    for name in ("a", "e"):
        (folder / name).unlink()
    folder.rmdir()
    logger.reopen_files()
    text = held.read()
    held.close()
    assert text.count("Cannot open the log file") == 2, text
    for handler in handlers_of("gunicorn.error") + handlers_of("gunicorn.access"):
        handler.close()
    logger.error("cannot be opened any more")
    logger.access(*request())
    folder.mkdir()
    logger.error("again")
    assert "again" in (folder / "e").read_text()


def test_a_syslog_that_goes_raises_nothing(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = workdir / "log.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        logger = failing(syslog=True, syslog_addr=f"unix://{path}#dgram", errorlog=None)
        logger.error("one")
        assert sock.recv(4096).endswith(b"one\x00")
    logger.error("to nobody")
    path.unlink()
    logger.error("to nowhere")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(10)
        logger.error("two")
        assert sock.recv(4096).endswith(b"two\x00")


def test_atoms_that_fail_are_logged(tmp_path: Path) -> None:
    path = tmp_path / "e"
    logger = failing(errorlog=str(path), accesslog=os.devnull)
    logger.access(*request(without=["RAW_URI"]))
    assert "KeyError: 'RAW_URI'" in path.read_text()


def test_text_that_cannot_be_encoded_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "e"
    failing(errorlog=str(path))
    # Past pytest, which cannot encode it either.
    record = logging.makeLogRecord({"levelno": logging.ERROR, "msg": "a \udcff file"})
    handlers_of("gunicorn.error")[0].handle(record)
    assert path.read_bytes().endswith(b"a \\udcff file\n")


def test_replaced_files_are_closed(tmp_path: Path) -> None:
    logger = failing(errorlog=str(tmp_path / "e"))
    (handler,) = handlers_of("gunicorn.error")
    stream = handler.stream
    logger.setup(settings())
    assert stream.closed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_reopened_files_are_given_away(tmp_path: Path) -> None:
    path = tmp_path / "e"
    logger = failing(errorlog=str(path), user=1234, group=567)
    path.rename(tmp_path / "e.1")
    logger.reopen_files()
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 567)


def test_relay_calls_the_method_of_each_level_and_raises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []

    class Log:
        def warning(self, msg: object, *args: object) -> None:
            seen.append((msg, args))

        def error(self, msg: object) -> None:
            raise ValueError("of the logger")

    records = [("WARNING", "100% %s"), ("ERROR", "lost"), ("DEBUG", "no such method"), ("WARNING", "last")]
    glogging("rgunicorn").relay(Log(), records)
    assert seen == [("100% %s", ()), ("last", ())]
    err = capsys.readouterr().err
    assert "ValueError: of the logger" in err
    assert "AttributeError" in err


def test_the_module_is_quick_to_import_and_needs_no_gunicorn() -> None:
    code = textwrap.dedent("""
        import sys
        import rgunicorn.glogging, rgunicorn.instrument.statsd
        assert not {"gunicorn", "typing_extensions", "asyncio"} & set(sys.modules), sorted(sys.modules)
    """)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
