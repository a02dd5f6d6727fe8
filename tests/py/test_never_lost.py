"""Never a lost request: whatever an operator does to a server under load, every request gets its answer.

The clients of `load.py` retry nothing, and none of their requests may fail. What is allowed to fail are the requests
inside a worker that is killed.
"""

import contextlib
import os
import signal
import time

import pytest
from harness import wait_for
from load import CLIENTS, Load

WORKERS = 2
HUPS = 20
# Answers between two steps of an operator, so that each step meets a server under load.
ANSWERS_PER_STEP = 40
# How long the quick phases last.
PHASE_S = 8.0
SETTLE_S = 20.0

pytestmark = [pytest.mark.own(reason="Gunicorn loses some at every one of these"), pytest.mark.timeout(120)]


@pytest.fixture(params=["127.0.0.1:0", "unix:server.sock"], ids=["tcp", "unix"])
def bind(request):
    return request.param


@contextlib.contextmanager
def loaded(server):
    """The load, begun: each kind of client has been answered. Nobody may be lost up to the end of it."""
    with Load(server.address) as load:
        wait_for("answers of all kinds", lambda: all(load.tally.answers[kind] for kind in CLIENTS) or load.failures())
        yield load
        go_on(load)
    load.assert_no_failure()
    print(load.tally)


def go_on(load, answers=ANSWERS_PER_STEP):
    """Wait until so many more requests were answered."""
    enough = load.answers() + answers
    wait_for("more answers", lambda: load.answers() >= enough or load.failures())
    load.assert_no_failure()


def test_hup(launch):
    """Twenty reloads, each waited for until all workers are new ones."""
    server = launch("steady:app", "-w", str(WORKERS))
    with loaded(server) as load:
        for _ in range(HUPS):
            old = server.workers()
            server.kill(signal.SIGHUP)
            server.wait_workers(WORKERS, without=old)
            go_on(load)
    assert len(load.tally.by_pid) >= WORKERS * HUPS / 2


def test_hups_in_a_row(launch, bind):
    """Reloads that give up the ones before them."""
    server = launch("steady:app", "-w", str(WORKERS), bind=bind)
    with loaded(server) as load:
        for _ in range(HUPS):
            server.kill(signal.SIGHUP)
            go_on(load, 10)
        server.wait_log("Hang up: Master", count=2)


def test_max_requests(launch, bind):
    """Workers that come and go all the time."""
    server = launch("steady:app", "-w", "4", "--max-requests", "40", "--max-requests-jitter", "20", bind=bind)
    with loaded(server) as load:
        time.sleep(PHASE_S)
    assert len(load.tally.by_pid) > 8


def test_ttin_and_ttou(launch):
    server = launch("steady:app", "-w", str(WORKERS))
    with loaded(server) as load:
        for _ in range(4):
            server.kill(signal.SIGTTIN)
            server.wait_workers(WORKERS + 1)
            go_on(load)
            server.kill(signal.SIGTTOU)
            server.wait_workers(WORKERS)
            go_on(load)
    assert len(load.tally.by_pid) > WORKERS
