"""`reuse_port`: every worker listens by itself, on one port, and the master does not."""

import os
import re
import signal
import socket
from pathlib import Path

import pytest
from harness import run_to_end, wait_for
from masters import Load, heir, listening_sockets, sockets_of, starts, upgrade, wait_answers, wait_content

LISTENING = r"\[INFO\] Listening at:  \((\d+)\)"


@pytest.fixture
def port():
    """A port that nobody has."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def start(launch, port, *args, workers=2, **options):
    """A server whose workers have answered. It does not log where it listens."""
    server = launch("life:app", "--reuse-port", "-w", str(workers), *args, bind=f"127.0.0.1:{port}",
                    at=("127.0.0.1", port), **options)  # fmt: skip
    wait_answers(server, server.wait_workers(workers))
    return server


def test_every_worker_listens_and_the_master_does_not(launch, port):
    server = start(launch, port)
    assert int(server.wait_log(LISTENING)[1]) == server.pid
    sockets = listening_sockets(port)
    assert len(sockets) == 2
    assert not sockets & sockets_of(server.pid)
    for worker in server.workers():
        assert len(sockets & sockets_of(worker)) == 1


def test_the_number_of_sockets_follows_the_number_of_workers(launch, port):
    server = start(launch, port)
    server.kill(signal.SIGTTIN)
    wait_for("three sockets", lambda: len(listening_sockets(port)) == 3)
    wait_answers(server, server.wait_workers(3))
    server.kill(signal.SIGTTOU)
    wait_for("two sockets", lambda: len(listening_sockets(port)) == 2)
    assert server.terminate() == 0
    assert listening_sockets(port) == set()


def test_hup(launch, port):
    server = start(launch, port)
    before = server.workers()
    server.kill(signal.SIGHUP)
    wait_answers(server, server.wait_workers(2, without=before))
    wait_for("two sockets", lambda: len(listening_sockets(port)) == 2)


@pytest.mark.own
def test_upgrade(launch, port):
    """Gunicorn's new master fails for lack of sockets to take over, and leaves its pid file behind."""
    server = start(launch, port, "--pid", "app.pid")
    with Load(server.address, clients=2) as load:
        load.wait_more()
        server.kill(signal.SIGUSR2)
        server.wait_log(LISTENING, count=2)
        new = heir(server, int(re.findall(LISTENING, server.log)[1]))
        wait_answers(server, new.wait_workers(2))
        assert (server.workdir / "app.pid.2").read_text() == f"{new.pid}\n"
        assert len(listening_sockets(port)) == 4
        load.wait_more()
    # Without load: what the kernel has put into a queue that is about to close is lost with it.
    load.check()
    assert server.terminate() == 0
    server.wait_log("Master has been promoted")
    wait_content(server.workdir / "app.pid", f"{new.pid}\n")
    wait_for("the second pid file to go", lambda: not (server.workdir / "app.pid.2").exists())
    wait_answers(new, new.workers())
    assert len(listening_sockets(port)) == 2
    assert starts(server) == [server.pid, new.pid]


@pytest.mark.own
def test_a_taken_port_ends_the_start(flavour, workdir):
    """Gunicorn's master starts, and ends when its first worker has tried for five seconds."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run_to_end(flavour, workdir, "--reuse-port", "-b", f"127.0.0.1:{port}", "life:app")
    assert ended.returncode == 1
    assert f"Connection in use: ('127.0.0.1', {port})" in ended.stderr
    assert f"Can't connect to ('127.0.0.1', {port})" in ended.stderr
    assert "Booting worker" not in ended.stderr


@pytest.mark.own
def test_any_port_is_refused(flavour, workdir):
    """Under Gunicorn each worker gets another port, and nobody knows which."""
    ended = run_to_end(flavour, workdir, "--reuse-port", "-b", "127.0.0.1:0", "life:app")
    assert ended.returncode == 1
    assert "Error: bind: with reuse_port each worker would get a port of its own" in ended.stderr


@pytest.mark.own
def test_a_worker_that_cannot_listen_says_why(launch, port):
    """It could when the server started."""
    server = start(launch, port, workers=1, deaths=True)
    server.kill(signal.SIGTTOU)
    os.kill(server.workers()[0], signal.SIGSTOP)
    # The only way to take a port of ours from us is to have it without SO_REUSEPORT, when nobody of us has it.
    worker = server.workers()[0]
    os.kill(server.pid, signal.SIGSTOP)
    os.kill(worker, signal.SIGKILL)
    wait_for("the port", lambda: not listening_sockets(port))
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", port))
        thief.listen()
        os.kill(server.pid, signal.SIGCONT)
        assert server.wait_exit() == 3
    server.wait_log(rf"\[ERROR\] connection to \('127\.0\.0\.1', {port}\) failed: \[Errno 98\] Address already in use")
    server.wait_log("Reason: Worker failed to boot")


@pytest.mark.own
def test_unix_sockets_are_shared_all_the_same(launch, port):
    """Under Gunicorn each worker takes the path away from the one before; the last one has it."""
    config = f"bind = ['unix:server.sock', '127.0.0.1:{port}']\nreuse_port = True\nworkers = 2\n"
    server = launch("life:app", bind=None, config=config)
    wait_answers(server, server.wait_workers(2))
    server.address = ("127.0.0.1", port)
    wait_answers(server, server.workers())
    assert len(listening_sockets(port)) == 2
    assert server.terminate() == 0
    assert not (server.workdir / "server.sock").exists()


def switched(launch, port, first):
    """A server that is told to reload with the other value of reuse_port."""
    text = "bind = '127.0.0.1:{}'\nreuse_port = {}\n"
    server = launch("life:app", bind=None, config=text.format(port, first), at=("127.0.0.1", port))
    wait_answers(server, server.wait_workers(1))
    (server.workdir / "test.conf.py").write_text(text.format(port, not first))
    return server


@pytest.mark.own
def test_a_reload_cannot_switch_it_off(launch, port):
    """Under Gunicorn the master tries to open what its workers have, and serves nobody."""
    server = switched(launch, port, True)
    workers = server.workers()
    server.kill(signal.SIGHUP)
    server.wait_log("Reload failed, nothing has changed: .*reuse_port has changed: that takes a restart")
    assert server.workers() == workers
    assert server.worker_pid() == workers[0]


@pytest.mark.own
def test_a_reload_cannot_switch_it_on(launch, port):
    """Gunicorn's next workers cannot listen."""
    server = switched(launch, port, False)
    before, sockets = server.workers(), listening_sockets(port)
    server.kill(signal.SIGHUP)
    wait_answers(server, server.wait_workers(1, without=before))
    server.wait_log(r"\[WARNING\] reuse_port takes a restart: the sockets that are open stay shared")
    assert listening_sockets(port) == sockets


@pytest.mark.own
@pytest.mark.parametrize("first", [True, False], ids=["off", "on"])
def test_an_upgrade_can_switch_it_off_and_keeps_shared_sockets(launch, port, first):
    server = switched(launch, port, first)
    new = upgrade(server)
    wait_answers(server, new.wait_workers(1))
    assert server.terminate() == 0
    server.wait_log("Master has been promoted")
    assert len(listening_sockets(port) & sockets_of(new.pid)) == 1
    before = new.workers()
    new.kill(signal.SIGHUP)
    wait_answers(new, new.wait_workers(1, without=before))


@pytest.mark.own
def test_connections_do_not_wait_for_an_application_that_is_not_imported(launch, port, workdir):
    """Under Gunicorn half of them do, and are lost with a worker that does not boot."""
    (workdir / "late.py").write_text(
        "import os, time\nfrom life import app\nwhile os.path.exists('hold'):\n    time.sleep(0.01)\n"
    )
    server = launch("late:app", "--reuse-port", bind=f"127.0.0.1:{port}", at=("127.0.0.1", port), workdir=workdir)
    first = server.worker_pid()
    (workdir / "hold").touch()
    server.kill(signal.SIGTTIN)
    server.wait_log("Booting worker", count=2)
    assert len(server.wait_workers(2)) == 2
    assert {server.worker_pid() for _ in range(30)} == {first}
    assert len(listening_sockets(port)) == 1
    (workdir / "hold").unlink()
    wait_answers(server, server.workers())
    assert len(listening_sockets(port)) == 2


@pytest.mark.own
def test_a_unix_socket_alone(launch):
    """Gunicorn's workers end at once, and are replaced for ever, where the kernel refuses SO_REUSEPORT for it."""
    server = launch("life:app", "--reuse-port", "-w", "2", bind="unix:server.sock", quiet=True)
    assert Path(server.address).is_socket()
    wait_answers(server, server.wait_workers(2))
