"""Kept-alive connections spread over the workers, whatever made their numbers differ, and clients notice nothing."""

import contextlib
import os
import random
import signal
import time

import pytest
from harness import held, is_alive, wait_for
from rawhttp import Client, request

CONNECTIONS = 200
# The fullest worker holds at most so many times the mean, and not later than this.
UNEVEN_MAX = 1.2
EVEN_WITHIN_S = 5
KEEPALIVE = ("--keep-alive", "120")

pytestmark = pytest.mark.own(reason="Gunicorn's connections stay where they are")


@pytest.fixture(params=["127.0.0.1:0", "unix:server.sock"], ids=["tcp", "unix"])
def bind(request):
    return request.param


class Crowd:
    """Kept-alive connections of one server. None is ever opened again."""

    def __init__(self, server, stack):
        self.server = server
        self.stack = stack
        self.clients = []

    def open(self, count=CONNECTIONS):
        """All at once; the answers are read when all requests are sent."""
        new = [self.stack.enter_context(Client(self.server.address)) for _ in range(count)]
        for client in new:
            client.send(request("/pid"))
        for client in new:
            assert client.response().status == 200
        self.clients += new

    def open_slowly(self, count=CONNECTIONS):
        """One after the other, each when the one before has been answered."""
        for _ in range(count):
            self.open(1)

    def ask(self, client):
        """The worker that answers on this connection now."""
        answer = client.get("/pid")
        assert (answer.status, answer.header("Connection") == "close") == (200, False)
        return int(answer.body)

    def forget_closed(self):
        """Only the connections count that the server has not closed."""
        self.clients = [client for client in self.clients if not client.is_closed()]

    def assert_all_served(self):
        """Each connection is open, and each worker has its share of the answers."""
        pids = [self.ask(client) for client in self.clients]
        assert set(pids) <= set(self.server.workers())

    def is_even(self, pids):
        counts = held(self.server.pid, pids)
        return sum(counts) == len(self.clients) and max(counts) * len(pids) <= UNEVEN_MAX * len(self.clients)

    def wait_even(self, workers, without=(), meanwhile=lambda: None):
        """Wait until the connections are spread over so many workers; `without` have left."""
        pids = self.server.wait_workers(workers, without=without)

        def is_even():
            meanwhile()
            return self.is_even(pids)

        begun = time.monotonic()
        try:
            wait_for("an even spread", is_even, timeout=EVEN_WITHIN_S)
            print(f"even after {time.monotonic() - begun:.2f} s: {held(self.server.pid, pids)}")
        except AssertionError:
            pytest.fail(f"{held(self.server.pid, pids)} after {EVEN_WITHIN_S} s")


@pytest.fixture
def crowd_of():
    with contextlib.ExitStack() as stack:
        yield lambda server: Crowd(server, stack)


def test_after_a_burst(launch, bind, crowd_of):
    server = launch("accepting:app", "-w", "4", *KEEPALIVE, bind=bind)
    server.wait_workers(4)
    crowd = crowd_of(server)
    crowd.open()
    crowd.wait_even(4)
    crowd.assert_all_served()


def test_after_one_worker_was_busy(launch, bind, crowd_of):
    """The others have taken all that came meanwhile."""
    server = launch("accepting:app", "-w", "4", *KEEPALIVE, bind=bind)
    server.wait_workers(4)
    crowd = crowd_of(server)
    with server.client() as long:
        long.send(request("/begin", headers={"Connection": "close"}))
        wait_for("the request to begin", lambda: list(server.workdir.glob("busy-*")))
        crowd.open_slowly()
        (server.workdir / "gate").touch()
        assert long.response().status == 200
    crowd.wait_even(4)
    crowd.assert_all_served()


def test_after_a_worker_was_killed(launch, bind, crowd_of):
    """Its own connections are lost; its successor gets a share of the others'."""
    server = launch("accepting:app", "-w", "4", *KEEPALIVE, bind=bind, deaths=True)
    server.wait_workers(4)
    crowd = crowd_of(server)
    crowd.open()
    crowd.wait_even(4)
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    wait_for("its end", lambda: not is_alive(victim))
    # The kernel may end them a moment after their worker.
    crowd.wait_even(4, without=[victim], meanwhile=crowd.forget_closed)
    assert 0 < CONNECTIONS - len(crowd.clients) <= UNEVEN_MAX * CONNECTIONS / 4
    crowd.assert_all_served()


def add_workers(server):
    """Two more than there are."""
    for _ in range(2):
        workers = len(server.workers())
        server.kill(signal.SIGTTIN)
        server.wait_workers(workers + 1)


@pytest.mark.parametrize("asks", [False, True], ids=["idle", "asked"])
def test_after_more_workers(launch, bind, crowd_of, asks):
    server = launch("accepting:app", "-w", "2", *KEEPALIVE, bind=bind)
    server.wait_workers(2)
    crowd = crowd_of(server)
    crowd.open()
    dice = random.Random(1)
    add_workers(server)
    crowd.wait_even(4, meanwhile=lambda: asks and crowd.ask(dice.choice(crowd.clients)))
    crowd.assert_all_served()


def test_after_a_reload_and_more_workers(launch, crowd_of):
    """Connections that workers have from others go on to the next."""
    server = launch("accepting:app", "-w", "2", *KEEPALIVE)
    old = server.wait_workers(2)
    crowd = crowd_of(server)
    crowd.open()
    server.kill(signal.SIGHUP)
    crowd.wait_even(2, without=old)
    add_workers(server)
    crowd.wait_even(4, without=old)
    crowd.assert_all_served()


def test_after_more_workers_with_greenlets(launch_gevent, crowd_of):
    server = launch_gevent("accepting:app", "-w", "2", *KEEPALIVE)
    server.wait_workers(2)
    crowd = crowd_of(server)
    crowd.open()
    add_workers(server)
    crowd.wait_even(4)
    crowd.assert_all_served()
