"""Answers that go on for long share their worker with others, and end with it.

Judged by how many items they give meanwhile, and not by the time.
"""

import contextlib
import signal
import threading

import pytest
from harness import wait_for
from rawhttp import request

KINDS = ["waits", "computes", "gives-nothing", "hurries"]
SLOW = [kind for kind in KINDS if kind != "hurries"]
ROUNDS = 5
# Items of slow streams while an answer is under way: until the connection is seen, until its request is, and the one
# that is being made at the moment.
ITEMS_PER_ANSWER_MAX = 4
IDLE_S = 60.0


class Reader(threading.Thread):
    """Reads a stream as fast as it comes, until its end."""

    def __init__(self, stack, server, kind, seconds=0.05, *, start=True):
        super().__init__(daemon=True)
        self.client = stack.enter_context(server.client(IDLE_S))
        self.client.send(request(f"/stream?kind={kind}&s={seconds}", headers={"Connection": "close"}))
        # The first chunk.
        self.client.until(b"\r\n\r\n")
        self.client.until(b"\r\n")
        self.pid = int(self.client.until(b"\n"))
        if start:
            self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while self.client.sock.recv(1 << 16):
                pass


def given(client):
    return int(client.get("/given").body)


def assert_others_served(server, streams=1):
    """Answers on a connection that is there, and on new ones, while few items are given."""
    with server.client() as kept:
        before = given(kept)
        for _ in range(ROUNDS):
            assert kept.get("/pid").status == 200
            assert server.get("/pid").status == 200
        answers = 2 * ROUNDS + 1
        assert given(kept) - before <= answers * ITEMS_PER_ANSWER_MAX * streams


@pytest.mark.parametrize("kind", SLOW)
def test_a_slow_stream_holds_nobody_up(launch, kind):
    server = launch("long_streams:app")
    with contextlib.ExitStack() as stack:
        Reader(stack, server, kind)
        assert_others_served(server)


@pytest.mark.own(reason="Gunicorn's threads take turns at computing, each for its time slice")
def test_nor_do_several(launch, flavour):
    """A request comes before all streams that could go on; it waits for one item."""
    server = launch("long_streams:app")
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            Reader(stack, server, "computes")
        # In threads they go on side by side.
        assert_others_served(server, streams=3 if flavour.threads else 1)


@pytest.mark.own(reason="Gunicorn lets others run when a client reads too slowly, and not before")
@pytest.mark.parametrize("streams", [1, 3])
def test_nor_do_streams_that_compute_in_greenlets(launch_gevent, streams):
    server = launch_gevent("long_streams:app")
    with contextlib.ExitStack() as stack:
        for _ in range(streams):
            Reader(stack, server, "computes")
        assert_others_served(server)


@pytest.mark.own(reason="a worker of Gunicorn's takes connections that wait behind its streams")
@pytest.mark.parametrize("kind", ["waits", "hurries"])
def test_new_connections_are_served_while_all_workers_stream(launch, kind):
    server = launch("long_streams:app", "-w", "2")
    pids = set(server.wait_workers(2))
    with contextlib.ExitStack() as stack:
        seen = set()
        wait_for("a stream of each", lambda: seen.add(Reader(stack, server, kind).pid) or seen == pids)
        for _ in range(ROUNDS):
            assert server.get("/pid").status == 200


def test_a_worker_that_streams_slowly_is_not_timed_out(launch):
    """Its loop turns with each item."""
    server = launch("long_streams:app", "--timeout", "2")
    with contextlib.ExitStack() as stack:
        pid = Reader(stack, server, "waits", 0.2).pid
        with server.client() as client:
            wait_for("some seconds' worth of items", lambda: given(client) > 20)
        assert server.workers() == [pid]


def closed(server):
    path = server.workdir / "closed"
    return len(path.read_text()) if path.exists() else 0


@pytest.mark.own(reason="Gunicorn's worker is killed")
@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_cuts_streams_when_its_time_is_over(launch, kind):
    """The worker leaves by itself, and the streams' `finally` clauses run."""
    server = launch("long_streams:app", "--graceful-timeout", "1")
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            Reader(stack, server, kind)
        assert server.terminate() == 0
        assert closed(server) == 2
    server.wait_log("Worker exiting")
    assert "SIGKILL" not in server.log


@pytest.mark.own(reason="Gunicorn's worker is killed")
@pytest.mark.parametrize("kind", KINDS)
def test_the_greenlets_of_streams_end_so_too(launch_gevent, kind):
    server = launch_gevent("long_streams:app", "--graceful-timeout", "1")
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            Reader(stack, server, kind)
        assert server.terminate() == 0
        assert closed(server) == 2
    assert "SIGKILL" not in server.log


@pytest.mark.one_thread
@pytest.mark.own(reason="Gunicorn's threads wait until they are killed")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT], ids=lambda signum: signum.name)
def test_a_quick_stop_closes_streams(launch, signum):
    server = launch("long_streams:app")
    with contextlib.ExitStack() as stack:
        Reader(stack, server, "waits")
        assert server.terminate(signum) == 0
        assert closed(server) == 1


@pytest.mark.parametrize("kind", ["waits", "computes", "hurries"])
def test_a_stream_ends_when_its_client_leaves(launch, kind):
    server = launch("long_streams:app")
    with contextlib.ExitStack() as stack:
        reader = Reader(stack, server, kind)
        with server.client() as client:
            client.get("/pid")
            reader.client.reset()
            before = given(client)
            wait_for("the end of the stream", lambda: closed(server))
            assert kind == "hurries" or given(client) - before <= 20


@pytest.mark.own(reason="Gunicorn's response goes on for good")
def test_so_does_one_that_gives_nothing(launch):
    server = launch("long_streams:app")
    with contextlib.ExitStack() as stack:
        # A thread that reads would keep the socket open.
        Reader(stack, server, "gives-nothing", start=False).client.reset()
        wait_for("the end of the stream", lambda: closed(server))
