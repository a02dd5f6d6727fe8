"""Clients that take memory and places, and give nothing: the others are served, and the worker's memory has a bound."""

from __future__ import annotations

import contextlib
import select
import socket
import statistics
import time

import pytest
from harness import rss_kb, wait_for
from rawhttp import Client, request

MANY = 1000
# The memory that a worker of these tests has for requests, and what it takes beside that: its buffers for reception, a
# kilobyte for each connection and each answer, and what the allocator does not give back.
BUDGET_BYTES = 16 << 20
BESIDE_KB = 24 * 1024
# Requests of a well-behaved client beside each kind of attack.
REQUESTS = 40
# Half of them are answered within this time, on a machine that does other things as well.
USUAL_S_MAX = 0.5
ACCESS = ("--access-logfile", "access.log", "--access-logformat", "%(m)s %(U)s %(s)s")

# Together they are twice the memory. A rest stays away for ever.
FIELDS = b"".join(b"X-%d: %s\r\n" % (index, b"a" * 7500) for index in range(4))
SLOW_HEAD = b"GET /pid HTTP/1.1\r\nHost: a\r\n" + FIELDS + b"X-Slow: "
SLOW_BODY = b"POST /partial HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 30_000
HOLDER = request("/pid")
ATTACKS = {
    "heads": [SLOW_HEAD],
    "bodies": [SLOW_BODY],
    "holders": [HOLDER],
    "together": [SLOW_HEAD, SLOW_BODY, HOLDER],
}


class Attackers:
    """Connections that send what they have as far as they can, then a byte now and then, if that is half a request."""

    def __init__(self, address: tuple[str, int], data: bytes):
        self.drips = data is not HOLDER
        self.rests: dict[socket.socket, bytes] = {}
        for _ in range(MANY):
            sock = socket.socket()
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(address)
            self.rests[sock] = data

    def push(self) -> int:
        """Send what the kernel takes; count those who have something left to send."""
        poll = select.poll()
        by_fd = {sock.fileno(): sock for sock, rest in self.rests.items() if rest}
        for fd in by_fd:
            poll.register(fd, select.POLLOUT)
        for fd, _ in poll.poll(20):
            sock = by_fd[fd]
            try:
                self.rests[sock] = self.rests[sock][sock.send(self.rests[sock]) :]
            except BlockingIOError:
                pass
            except OSError:
                self.rests[sock] = b""
        return sum(map(bool, self.rests.values()))

    def drip(self) -> None:
        for sock, rest in self.rests.items():
            if self.drips and not rest:
                with contextlib.suppress(OSError):
                    sock.send(b"a")

    def close(self) -> None:
        for sock in self.rests:
            sock.close()


@contextlib.contextmanager
def attacked(server, pieces):
    """While so many of each kind hold their connections."""
    with contextlib.ExitStack() as stack:
        crowds = [stack.enter_context(contextlib.closing(Attackers(server.address, data))) for data in pieces]
        # Those who wait in the kernel's queue have sent only what a socket takes.
        rests = [-1]

        def at_rest() -> bool:
            rests.append(sum(crowd.push() for crowd in crowds))
            return rests[-1] == 0 or rests[-1] == rests[-2]

        wait_for("what the attackers can send", at_rest)
        yield crowds


def serve_beside(server, crowds):
    """Let a client be served beside them; returns the seconds that half of its requests take at most."""
    took = []
    for _ in range(REQUESTS):
        for crowd in crowds:
            crowd.push()
            crowd.drip()
        begun = time.monotonic()
        assert server.get("/pid").status == 200
        took.append(time.monotonic() - begun)
    return statistics.median(took)


def start_bounded(start, *args):
    limits = ("--worker-connections", str(MANY), "--limit-request-memory", str(BUDGET_BYTES))
    return start("bulk:app", "-w", "1", "--keep-alive", "75", "--backlog", "4096", *limits, *args)


def check_attack(server, pieces):
    before = rss_kb(server.worker_pid())
    with attacked(server, pieces) as crowds:
        # A worker that has had to wait for the first of them to be idle for long enough.
        assert server.get("/pid").status == 200
        usual = serve_beside(server, crowds)
        grown = rss_kb(server.worker_pid()) - before
    print(f"\n{len(pieces)} kind(s): median {usual * 1000:.1f} ms, {grown} kB more")
    assert usual <= USUAL_S_MAX
    assert grown <= BUDGET_BYTES // 1024 + BESIDE_KB


@pytest.mark.own(reason="Gunicorn accepts no more")
@pytest.mark.parametrize("kind", ATTACKS)
def test_others_are_served_and_memory_is_bounded(launch, many_files, kind):
    if "gevent" in launch.flavour.name:
        pytest.skip("the test below is about it")
    check_attack(start_bounded(launch), ATTACKS[kind])


@pytest.mark.own(reason="Gunicorn accepts no more")
@pytest.mark.parametrize("kind", ["heads", "holders", "together"])
def test_others_are_served_and_memory_is_bounded_with_gevent(launch_gevent, many_files, kind):
    """A body that streams is with the application."""
    pieces = [data for data in ATTACKS[kind] if data is not SLOW_BODY]
    check_attack(start_bounded(launch_gevent), pieces)


@pytest.mark.own
def test_the_oldest_unfinished_request_is_refused(launch):
    server = launch("http_app:app", "--limit-request-memory", "100000", "--worker-connections", "10", *ACCESS)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(5)]
        for client in clients:
            client.send(SLOW_HEAD)
            server.get()
        answer = clients[0].response()
        assert (answer.status, answer.reason) == (503, "Service Unavailable")
        assert answer.header("Connection") == "close"
        clients[0].assert_closed()
        # The last one is not the oldest.
        clients[4].send(b"\r\n\r\n")
        assert clients[4].response().status == 200
        server.wait_log(r"\[WARNING\] Requests hold more memory than limit_request_memory allows")
    assert server.terminate() == 0
    assert "GET /pid 503" in (server.workdir / "access.log").read_text().splitlines()


@pytest.mark.own
def test_uploads_go_to_disk_rather_than_be_refused(launch):
    if "gevent" in launch.flavour.name:
        pytest.skip("bodies that are read while they arrive are not stored")
    server = launch("http_app:app", "--limit-request-memory", "200000", "--worker-connections", "20")
    body = bytes(range(256)) * 300
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(10)]
        for client in clients:
            client.send(request("/echo", method="POST", headers={"Content-Length": str(len(body))}))
        for begin in range(0, len(body), 9600):
            for client in clients:
                client.send(body[begin : begin + 9600])
        for client in clients:
            answer = client.response()
            assert (answer.status, answer.body) == (200, body)


HALF_A_POST = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1234"


@pytest.mark.own
def test_the_longest_idle_connection_makes_room(launch):
    server = launch("http_app:app", "--worker-connections", "2", "--keep-alive", "75")
    with server.client() as first, server.client() as second, server.client() as third:
        third.send(request())
        assert third.response().status == 200
        gone = select.select([first.sock, second.sock], [], [], 10)[0]
        assert gone[0].recv(1) == b""
        server.wait_log(r"All 2 connections are taken \(worker_connections\)")


@pytest.mark.own
def test_half_a_request_makes_room(launch):
    """Not where the application reads it: then it is in progress."""
    server = launch("http_app:app", "--worker-connections", "2", "--keep-alive", "75", *ACCESS)
    streams = "gevent" in server.flavour.name
    slow_data = SLOW_HEAD if streams else HALF_A_POST
    with server.client() as busy, server.client() as slow:
        busy.send(HALF_A_POST if streams else SLOW_HEAD)
        slow.send(slow_data)
        with server.client() as third:
            third.send(request())
            assert third.response().status == 200
            gone = slow if streams else first_with_input([busy, slow])
            answer = gone.response()
            assert (answer.status, answer.reason) == (408, "Request Timeout")
            gone.assert_closed()
            if streams:
                busy.send(b"56789")
                assert busy.response().body == b"123456789"
    assert server.terminate() == 0
    assert "408" in (server.workdir / "access.log").read_text()


def first_with_input(clients):
    """Return the first of the clients that has got something."""
    ready = select.select([client.sock for client in clients], [], [], 10)[0]
    return next(client for client in clients if client.sock in ready)


@pytest.mark.own
def test_each_of_several_workers_makes_room(launch):
    """They hold as many as they may, and each of them looks whether the other has room."""
    limit = 20
    server = launch("http_app:app", "-w", "2", "--worker-connections", str(limit), "--keep-alive", "75")
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(server.client()) for _ in range(2 * limit)]
        for client in holders:
            client.send(request())
        answered = [stack.enter_context(server.client()) for _ in range(limit)]
        for client in answered:
            assert client.get().status == 200
        for client in holders:
            client.sock.settimeout(10)
        # Whoever had to go was served before.
        assert all(client.response().status == 200 for client in holders)


@pytest.mark.own
def test_without_evict_after_new_clients_wait(launch):
    server = launch("http_app:app", "--worker-connections", "2", "--keep-alive", "75", "--evict-after", "0")
    with server.client() as first, server.client() as second:
        assert first.get().status == second.get().status == 200
        with Client(server.address, timeout=1.5) as third:
            third.send(request())
            with pytest.raises(TimeoutError):
                third.response()
            first.close()
            third.sock.settimeout(10)
            assert third.response().status == 200


def drip_until_answered(client, path):
    """Send a byte of a body from time to time, until there is an answer."""
    client.send(request(path, method="POST", headers={"Content-Length": "100000"}))
    until = time.monotonic() + 40
    while time.monotonic() < until and not select.select([client.sock], [], [], 0.3)[0]:
        client.send(b"x")
    return client.response()


@pytest.mark.own
def test_a_body_below_the_rate_is_refused(launch):
    server = launch("http_app:app", "--body-min-rate", "500", *ACCESS)
    with server.client() as client:
        answer = drip_until_answered(client, "/echo")
        assert (answer.status, answer.reason) == (408, "Request Timeout")
        client.assert_closed()
    server.terminate()
    assert (server.workdir / "access.log").read_text().splitlines() == ["POST /echo 408"]


@pytest.mark.own
def test_a_body_below_the_rate_is_a_fault_for_those_who_read_it(launch_gevent):
    server = launch_gevent("http_app:app", "--body-min-rate", "500")
    with server.client() as client:
        answer = drip_until_answered(client, "/caught")
        assert (answer.status, answer.body) == (200, b"RequestBodyError")
        client.assert_closed()
