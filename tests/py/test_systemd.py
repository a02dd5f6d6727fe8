"""Sockets that a service manager has opened, and what it is told: sd_listen_fds(3), sd_notify(3)."""

import contextlib
import os
import re
import signal
import socket
import struct
import sys
import time
from pathlib import Path

import pytest
from harness import wait_for
from masters import Load, starts, upgrade
from rawhttp import TIMEOUT_S, Client, connect

pytestmark = pytest.mark.one_driver

TCP, UNIX = "127.0.0.1:0", "activated.sock"
SOCKETS = pytest.mark.parametrize("address", [TCP, UNIX], ids=["tcp", "unix"])


def manager(*arguments):
    """A prefix that starts a command with sockets."""
    return [sys.executable, str(Path(__file__).with_name("activate.py")), *arguments, "--"]


class Listener:
    """The end of a manager that hears notices: datagrams, and who has sent them."""

    def __init__(self, folder):
        self.path = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(self.path)
        self._socket.setblocking(False)
        self.heard: list[tuple[int, dict[str, str]]] = []

    def close(self):
        self._socket.close()

    def all(self, key):
        """Every value of one variable so far, in order."""
        return [notice[key] for _, notice in self.listen() if key in notice]

    def listen(self):
        """Everything so far: (pid, variables)."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
                pid = struct.unpack("3i", ancillary[0][2])[0]
                self.heard.append((pid, dict(line.split("=", 1) for line in data.decode().splitlines())))
        return self.heard

    def wait(self, key, value=None, count=1):
        """Wait for the variable, `count` times; the last such notice and its sender."""

        def found():
            fits = [one for one in self.listen() if key in one[1] and value in (None, one[1][key])]
            return fits[count - 1] if len(fits) >= count else None

        return wait_for(f"{key}={value} ({count}) among {self.heard}", found)


@pytest.fixture
def notices(workdir):
    listener = Listener(workdir)
    yield listener
    listener.close()


def notified(launch, notices, *args, env=None, **options):
    """A server that notifies."""
    return launch("life:app", *args, env={"NOTIFY_SOCKET": notices.path} | (env or {}), **options)


@SOCKETS
def test_the_sockets_of_the_manager_serve(launch, address):
    server = launch("life:app", bind="127.0.0.1:1", prefix=manager(address))
    assert server.get("/version").status == 200
    assert len(server.addresses) == 1
    # Programs that the application starts shall not look for them.
    for name in ("LISTEN_PID", "LISTEN_FDS"):
        assert server.get(f"/env?name={name}").body == b"unset"
    assert server.terminate() == 0
    # The file is the manager's.
    assert (server.workdir / UNIX).exists() == (address == UNIX)


def test_several_sockets(launch):
    server = launch("life:app", "-w", "2", prefix=manager(TCP, UNIX, TCP))
    assert len(server.addresses) == 3
    for address in server.addresses:
        with Client(address) as client:
            assert client.get("/version").status == 200


def test_connections_that_wait_for_the_start(launch, workdir):
    """The manager listens before there is a server, and that is what activation is for."""
    server = launch("life:app", prefix=manager(UNIX), workdir=workdir, at=str(workdir / UNIX))
    waiting = [connect(str(workdir / UNIX)) for _ in range(5)]
    for sock in waiting:
        sock.sendall(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
    for sock in waiting:
        assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")
        sock.close()
    server.wait_log("Listening at")


def test_sockets_for_another_process(launch):
    server = launch("life:app", prefix=manager("--pid", "1", TCP))
    assert server.get("/env?name=LISTEN_FDS").body == b"1"
    assert len(server.addresses) == 1


@SOCKETS
def test_reload_keeps_them(launch, address):
    server = launch("life:app", bind="127.0.0.1:1", prefix=manager(address))
    before = server.worker_pid()
    with Load(server.address) if server.flavour.own else contextlib.nullcontext() as load:
        server.kill(signal.SIGHUP)
        server.wait_workers(1, without=[before])
        if load:
            load.wait_more()
    if load:
        load.check()
    assert server.get("/version").status == 200
    assert len(starts(server)) == 1
    assert server.terminate() == 0
    assert (server.workdir / UNIX).exists() == (address == UNIX)


@SOCKETS
@pytest.mark.own(reason="the next master of Gunicorn's may fail to get them, and leaves more to chance")
def test_upgrade_hands_them_on(launch, address):
    server = launch("life:app", bind="127.0.0.1:1", prefix=manager(address))
    server.worker_pid()
    master = server
    for _ in range(2):
        new = upgrade(master)
        assert "is not open" not in server.log
        master.kill(signal.SIGTERM)
        new.wait_log(rf"\[{new.pid}\] \[INFO\] Master has been promoted\.")
        before = new.worker_pid()
        new.kill(signal.SIGHUP)
        new.wait_workers(1, without=[before])
        assert new.get("/version").status == 200
        assert new.get("/env?name=RGUNICORN_ACTIVATED").body == b"unset"
        master = new
    assert master.terminate() == 0
    assert (server.workdir / UNIX).exists() == (address == UNIX)


@pytest.mark.own(reason="Gunicorn fails with a traceback")
@pytest.mark.parametrize("count", ["many", "-1", "7"])
def test_a_number_of_sockets_that_is_none(launch, tmp_path, count):
    script = f'LISTEN_FDS={count} LISTEN_PID=$$ exec "$0" "$@"'
    with pytest.raises(AssertionError, match="ended \\(1\\)"):
        launch("life:app", prefix=["sh", "-c", script])


def test_ready(launch, notices):
    server = notified(launch, notices)
    pid, notice = notices.wait("READY", "1")
    assert pid == server.pid
    assert notice["STATUS"]


@pytest.mark.own(reason="Gunicorn is ready before any worker is")
def test_ready_means_that_somebody_answers(launch, notices):
    gate = notices.path + ".gate"
    waits = f"    while not os.path.exists({gate!r}): time.sleep(0.01)\n"
    config = f"import os, time\ndef post_fork(server, worker):\n{waits}"
    server = notified(launch, notices, "-w", "2", config=config)
    server.wait_log("Booting worker", count=2)
    assert notices.all("READY") == []
    Path(gate).touch()
    notices.wait("READY")
    assert server.get("/version").status == 200
    notices.wait("STATUS", "2 of 2 workers serve")
    assert notices.all("READY") == ["1"]


@pytest.mark.own(reason="Gunicorn says nothing")
def test_reload(launch, notices):
    server = notified(launch, notices)
    notices.wait("READY")
    before, begun = server.worker_pid(), time.monotonic_ns() // 1000
    server.kill(signal.SIGHUP)
    _, notice = notices.wait("RELOADING", "1")
    assert begun <= int(notice["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    notices.wait("READY", count=2)
    # The old worker has been told to stop by then, and takes connections until it has heard of it.
    wait_for("an answer of the new worker", lambda: server.worker_pid() != before)
    order = [key for _, one in notices.heard for key in one if key in ("READY", "RELOADING")]
    assert order == ["READY", "RELOADING", "READY"]


@pytest.mark.own(reason="Gunicorn says nothing, and does not survive it")
def test_reload_that_fails(launch, notices):
    server = notified(launch, notices, config="workers = 1\n")
    notices.wait("READY")
    before = server.worker_pid()
    (server.workdir / "test.conf.py").write_text("workers = 'many'\n")
    server.kill(signal.SIGHUP)
    notices.wait("RELOADING")
    notices.wait("READY", count=2)
    assert server.worker_pid() == before


@pytest.mark.own(reason="Gunicorn says nothing")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGQUIT], ids=lambda signum: signum.name)
def test_stop(launch, notices, signum):
    server = notified(launch, notices)
    notices.wait("READY")
    assert server.terminate(signum) == 0
    assert notices.all("STOPPING") == ["1"]


@pytest.mark.own(reason="Gunicorn says nothing")
def test_stop_because_of_an_application_that_does_not_load(launch, notices):
    with pytest.raises(AssertionError, match="ended \\(3\\)"):
        launch("no_such_module:app", env={"NOTIFY_SOCKET": notices.path}, deaths=True).wait_log("no such line")
    assert notices.all("READY") == []
    assert notices.all("STOPPING") == ["1"]


@pytest.mark.own(reason="Gunicorn says nothing")
def test_signs_of_life(launch, notices):
    server = notified(launch, notices, env={"WATCHDOG_USEC": "200000"})
    assert notices.wait("WATCHDOG", "1", count=4)[0] == server.pid


@pytest.mark.own(reason="Gunicorn says nothing")
def test_signs_of_life_that_others_are_asked_for(launch, notices):
    server = notified(launch, notices, env={"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
    notices.wait("READY")
    server.get("/version")
    assert notices.all("WATCHDOG") == []


@pytest.mark.own(reason="Gunicorn says nothing")
def test_an_upgrade_names_the_new_main_process(launch, notices):
    script = 'WATCHDOG_USEC=400000 WATCHDOG_PID=$$ exec "$0" "$@"'
    server = notified(launch, notices, prefix=["sh", "-c", script])
    notices.wait("READY")
    new = upgrade(server)
    assert new.get("/version").status == 200
    assert {pid for pid, _ in notices.listen()} == {server.pid}, "a new master is silent while it is one of two"
    server.kill(signal.SIGTERM)
    pid, notice = notices.wait("MAINPID")
    assert (pid, notice["MAINPID"]) == (server.pid, str(new.pid))
    assert notices.all("STOPPING") == []
    pid, _ = notices.wait("READY", count=2)
    assert pid == new.pid
    assert notices.wait("WATCHDOG", count=len(notices.all("WATCHDOG")) + 2)[0] == new.pid
    assert new.terminate() == 0
    notices.wait("STOPPING")


def test_nobody_hears(launch, workdir):
    server = launch("life:app", env={"NOTIFY_SOCKET": str(workdir / "gone")})
    assert server.get("/version").status == 200
    assert server.terminate() == 0


@pytest.mark.own(reason="Gunicorn takes any text")
def test_an_address_that_is_none(launch):
    with pytest.raises(AssertionError, match="NOTIFY_SOCKET"):
        launch("life:app", env={"NOTIFY_SOCKET": "relative"})


def test_an_abstract_address(launch):
    name = f"rgunicorn-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(TIMEOUT_S)
        launch("life:app", env={"NOTIFY_SOCKET": f"@{name}"})
        assert re.search(b"^READY=1$", listener.recv(4096), re.MULTILINE)
