"""A machine that does not let connections pass between workers: one warning says so, and all else is as ever."""

import contextlib
import errno
import os
import signal
from collections import Counter

import pytest
import syscalls
from harness import wait_for
from rawhttp import request
from syscalls import Denials, Rule

pytestmark = [
    pytest.mark.own(reason="Gunicorn's connections end with their worker"),
    pytest.mark.skipif(syscalls.available() is not None, reason=str(syscalls.available())),
]

WORKERS = 2
CLIENTS = 12
OPTIONS = ("-w", str(WORKERS), "--keep-alive", "60", "--loop-block-warning", "0")
WHILE_BUSY = r"\[WARNING\] Cannot give connections to other workers while the application works: "
AT_ALL = r"\[WARNING\] Cannot give connections to other workers, they end with this one: "


@pytest.fixture
def restricted(launch, workdir):
    """A server some of whose calls fail from the start on."""
    with contextlib.ExitStack() as stack:

        def start(calls, error, *options):
            denials = Denials(workdir, calls)
            stack.callback(denials.close)
            denials.rule = Rule(calls[0], error, lambda pid: True)
            return launch("steady:app", *OPTIONS, *options, workdir=workdir, prefix=denials.prefix)

        yield start


def pid_of(client, token):
    answer = client.get(f"/echo?token={token}")
    assert (answer.status, answer.body) == (200, str(token).encode())
    return int(answer.header("X-Pid"))


def shares(clients):
    """How many connections each worker has."""
    counts = Counter(pid_of(client, "share") for client in clients)
    return [*counts.values(), 0][:WORKERS]


def assert_waits_for_busy(server, clients):
    """Requests on a busy worker's connections are answered by that one, when it has time."""
    # The first to boot has more at first, and gives them.
    wait_for("both to have a third", lambda: min(shares(clients)) >= CLIENTS // 3)
    clients[0].send(request("/until?token=0"))
    wait_for("it to begin", (server.workdir / "begun-0").exists)
    for client in clients[1:]:
        client.send(request("/echo?token=1"))
    # Whichever of them the other worker has, it has seen before these.
    for number in range(2 * CLIENTS):
        with server.client() as other:
            pid_of(other, number)
    behind = [client for client in clients[1:] if not client.has_input()]
    (server.workdir / "over-0").touch()
    busy = int(clients[0].response().header("X-Pid"))
    answered_by = {client: int(client.response().header("X-Pid")) for client in clients[1:]}
    assert busy in {answered_by[client] for client in behind}
    assert all(client in behind for client in clients[1:] if answered_by[client] == busy)


def assert_serves(server):
    """New connections are answered, and workers come and go."""
    old = server.wait_workers(WORKERS)
    server.kill(signal.SIGHUP)
    new = server.wait_workers(WORKERS, without=old)
    assert server.worker_pid() in new


def test_without_a_queue(restricted):
    # The trial of io_uring needs one as well.
    server = restricted(["socketpair"], errno.EPERM, "--io-driver", "auto")
    server.wait_log(r"Worker \d+ runs .*; no handoff\n", count=WORKERS)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(CLIENTS)]
        for number, client in enumerate(clients):
            pid_of(client, number)
        assert_serves(server)
        # As without handoff: they have ended with their worker.
        for client in clients:
            client.assert_closed()
    assert server.log.count("Connections end with their worker") == 1


@pytest.mark.one_thread
@pytest.mark.parametrize(
    ("call", "error"), [("membarrier", errno.ENOSYS), ("membarrier", errno.EPERM), ("clone3", errno.EAGAIN)]
)
def test_without_a_helper(restricted, call, error):
    """Requests wait for a busy worker. One that leaves gives its connections all the same."""
    server = restricted([call], error)
    server.wait_log(r"Worker \d+ runs ", count=WORKERS)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(CLIENTS)]
        assert_waits_for_busy(server, clients)
        server.wait_log(WHILE_BUSY + os.strerror(error))
        assert_serves(server)
        assert {pid_of(client, 4) for client in clients} <= set(server.workers())
        assert server.log.count("while the application works") <= 2 * WORKERS


def test_where_descriptors_may_not_pass(restricted):
    server = restricted(["sendmsg"], errno.EPERM)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(CLIENTS)]
        for number, client in enumerate(clients):
            pid_of(client, number)
        assert_serves(server)
        server.wait_log(AT_ALL + os.strerror(errno.EPERM))
        for client in clients:
            client.assert_closed()
    assert server.log.count("they end with this one") <= WORKERS


@pytest.mark.one_thread
def test_with_nothing_given_while_busy(launch):
    server = launch("steady:app", *OPTIONS, "--handoff-after-ms", "0")
    server.wait_log(r"Worker \d+ runs .*; handoff, but not while busy\n", count=WORKERS)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(CLIENTS)]
        assert_waits_for_busy(server, clients)
        assert_serves(server)
        assert {pid_of(client, 4) for client in clients} <= set(server.workers())
