"""A busy worker never holds a new connection that an idle sibling could take."""

import contextlib
from collections import Counter

import pytest
from harness import wait_for
from rawhttp import Client, request

WORKERS = 4
BUSY = request("/begin", headers={"Connection": "close"})


@pytest.fixture(params=["127.0.0.1:0", "unix:server.sock"], ids=["tcp", "unix"])
def server(launch, request):
    """Four workers that are surely all there: each has answered."""
    server = launch("accepting:app", "-w", str(WORKERS), bind=request.param)
    pids = set(server.wait_workers(WORKERS))
    seen = set()
    wait_for("an answer of every worker", lambda: seen.add(int(server.get("/pid").body)) or seen == pids)
    return server


def busy(server):
    """How many requests are inside the application."""
    return len(list(server.workdir.glob("busy-*")))


def begin(stack, server):
    """A new connection with a request that blocks its worker. (An idle connection belongs to a worker already.)"""
    client = stack.enter_context(Client(server.address))
    client.send(BUSY)
    return client


@pytest.mark.own(reason="Gunicorn's sync worker does so, too; gthread takes several")
def test_a_burst_goes_to_all_workers(server):
    """As many blocking requests as workers, at once: each worker has one, and none waits behind another."""
    with contextlib.ExitStack() as stack:
        clients = [begin(stack, server) for _ in range(WORKERS)]
        wait_for("all workers to be busy", lambda: busy(server) == WORKERS)
        (server.workdir / "gate").touch()
        assert set(Counter(client.response().body for client in clients).values()) == {1}


@pytest.mark.one_thread
@pytest.mark.own(reason="a gthread worker is never busy in this sense")
def test_an_idle_worker_answers_while_the_others_are_busy(server):
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(1, WORKERS):
            clients.append(begin(stack, server))
            wait_for("another worker to be busy", lambda number=number: busy(server) == number)
        answers = Counter(server.get("/pid").body for _ in range(100))
        (server.workdir / "gate").touch()
        held = {client.response().body for client in clients}
    assert len(answers) == 1
    assert len(held) == WORKERS - 1
    assert not held & set(answers)
