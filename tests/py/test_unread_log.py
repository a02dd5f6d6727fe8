"""Logs whose reader has stopped: the server serves on, and tells later what was lost."""

import contextlib
import os
import pty
import socket
import threading

import pytest
from harness import wait_for

pytestmark = pytest.mark.own(reason="Gunicorn waits for the reader")

# More than a pipe and what the server holds back take together.
LONG = "/pid?" + "x" * 4000
REQUESTS = 1_000


def streams(kind, workdir):
    """A reading and a writing descriptor."""
    if kind == "pipe":
        return os.pipe()
    if kind == "socket":
        ours, theirs = socket.socketpair()
        return ours.detach(), theirs.detach()
    if kind == "terminal":
        return pty.openpty()
    os.mkfifo(workdir / "log")
    reader = os.open(workdir / "log", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(workdir / "log", os.O_WRONLY)
    os.set_blocking(reader, True)
    return reader, writer


class Reader:
    """Reads a descriptor to its end, from the moment at which it is made."""

    def __init__(self, fd):
        self.fd, self.text = fd, ""
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while data := os.read(self.fd, 65536):
                self.text += data.decode(errors="replace")
        except OSError:
            pass


@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket", "terminal"])
def test_a_log_that_nobody_reads_stops_no_worker(launch, workdir, kind):
    reader, writer = streams(kind, workdir)
    try:
        server = launch(
            "faults:app", "--access-logfile", "-", "--log-level", "debug", "--timeout", "3", bind="unix:s.sock",
            quiet=True, workdir=workdir, streams=writer,
        )  # fmt: skip
        flags = os.get_blocking(writer)
        pid = server.worker_pid()
        with server.client() as client:
            for _ in range(REQUESTS):
                assert client.get(LONG).body == str(pid).encode()
            assert client.get("/talk").status == 200
        # Nothing of it was made non-blocking for the others that have it, too.
        assert flags
        assert os.get_blocking(writer)
        assert server.worker_pid() == pid
        log = Reader(reader)
        said = "records of the access log were dropped: it was not read"
        wait_for("the loss to be told", lambda: server.worker_pid() and said in log.text)
        assert server.worker_pid() == pid
        wait_for("the log to flow", lambda: server.get("/pid?last").status == 200 and "/pid?last" in log.text)
        server.close()
        # A terminal ends a line where it is full.
        for line in [] if kind == "terminal" else log.text.splitlines():
            assert not line or line[0] in "[- " or line.startswith("said by"), line
    finally:
        os.close(writer)


def test_a_master_goes_on_as_well(launch, workdir):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    os.set_blocking(writer, True)
    try:
        server = launch("faults:app", bind="unix:s.sock", quiet=True, workdir=workdir, streams=writer, deaths=True)
        pid = server.worker_pid()
        os.kill(pid, 9)
        server.wait_workers(1, without=[pid])
        assert server.worker_pid() != pid
        log = Reader(reader)
        wait_for("the lines that waited", lambda: "Booting worker" in log.text)
    finally:
        os.close(writer)
