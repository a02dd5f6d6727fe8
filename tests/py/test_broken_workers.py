"""Errors that "cannot happen": a worker that cannot go on is replaced at once, and the log stays readable."""

import contextlib
import os
import re
import signal
import time

import pytest
from harness import wait_for
from rawhttp import Client, request

pytestmark = pytest.mark.own(reason="Gunicorn has no driver, no watchdog and no pauses between forks")

FAULTS = ["closerange", "close-driver", "close-listeners", "close-pipes", "forbid-waits"]


def strike(server, fault):
    """Ask for a fault; whether its request is answered does not matter."""
    with contextlib.suppress(OSError, AssertionError), Client(server.address) as client:
        client.send(request(f"/{fault}"))
        client.response()


def answer(server):
    with contextlib.suppress(OSError, AssertionError):
        return server.worker_pid()
    return None


def check_replaced(server, fault):
    pid = server.worker_pid()
    strike(server, fault)
    # A listener that is gone is noticed when it is used.
    with contextlib.suppress(OSError, AssertionError):
        server.get("/pid")
    server.wait_log(r"failed for good, the worker leaves")
    assert server.wait_workers(1, without=[pid]) != [pid]
    assert server.worker_pid() != pid
    log = server.log
    assert log.count("failed for good") == 1
    assert f"Worker (pid:{pid}) exited with code 1." in log
    assert log.count("\n") < 60, log


@pytest.mark.parametrize("fault", FAULTS)
def test_a_worker_that_cannot_go_on_is_replaced(launch, fault):
    if fault == "close-pipes" and (launch.flavour.threads or "epoll" in launch.flavour.name):
        pytest.skip("closes what its threads write to; and epoll says nothing about what is closed")
    check_replaced(launch("faults:app", deaths=True), fault)


@pytest.mark.parametrize("fault", ["closerange", "close-driver", "forbid-waits"])
def test_a_worker_of_greenlets_that_cannot_go_on_is_replaced(launch_gevent, fault):
    check_replaced(launch_gevent("faults:app", deaths=True), fault)


@pytest.mark.parametrize("fault", ["close-driver", "forbid-waits"])
def test_greenlets_in_progress_do_not_hold_up_the_end(launch_gevent, fault):
    server = launch_gevent("faults:app", deaths=True)
    pid = server.worker_pid()
    with server.client() as waiting:
        waiting.send(request("/sleep?s=30"))
        time.sleep(0.2)
        strike(server, fault)
        server.wait_workers(1, without=[pid])
    assert server.worker_pid() != pid


def test_without_threads_for_the_watchdog_workers_serve(launch):
    """RLIMIT_NPROC does not hold for root."""
    if launch.flavour.threads:
        pytest.skip("its requests need threads")
    limit = """
import os, resource

def post_fork(server, worker):
    if os.path.exists("limit"):
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
"""
    account = ["--user", "65534", "--group", "65534"] if os.geteuid() == 0 else []
    server = launch("faults:app", "--workers", "2", "--preload", *account, config=limit, deaths=True)
    server.wait_log("Booting worker", count=2)
    victim = server.worker_pid()
    (server.workdir / "limit").touch()
    os.kill(victim, signal.SIGKILL)
    server.wait_log(r"\[WARNING\] Cannot watch the loop, serving without \(loop_block_warning\)")
    pids = server.wait_workers(2, without=[victim])
    os.kill(pids[0], signal.SIGKILL)
    pids = server.wait_workers(2, without=[victim, pids[0]])
    # Connections that the killed one had taken are lost with it.
    assert wait_for("an answer", lambda: answer(server)) in pids


def test_a_replacement_that_does_not_boot_is_tried_again(launch):
    server = launch("faults:app", "--workers", "2", deaths=True)
    wait_for("two that serve", lambda: len({server.worker_pid() for _ in range(5)} | set(server.workers())) == 2)
    server.worker_pid()
    time.sleep(1.2)  # The master looks once a second whether all have booted.
    victim = server.workers()[0]
    (server.workdir / "broken").touch()
    os.kill(victim, signal.SIGKILL)
    server.wait_log("Worker failed to boot. The others serve on, and it is tried again.", count=3)
    assert server.get("/pid").status == 200
    assert server.process.poll() is None
    (server.workdir / "broken").unlink()
    wait_for("two workers", lambda: len(server.workers()) == 2)
    assert server.worker_pid() in server.workers()


def test_a_first_start_that_fails_ends_the_server_as_ever(launch, workdir):
    (workdir / "broken").touch()
    server = launch("faults:app", "--workers", "2", deaths=True, workdir=workdir)
    assert server.wait_exit() == 3
    assert "Reason: Worker failed to boot." in server.log


def test_workers_that_die_at_once_are_forked_ever_more_rarely(launch, workdir):
    (workdir / "crashes").touch()
    server = launch("faults:app", deaths=True, workdir=workdir)
    server.wait_log(r"Workers end as soon as they begin: the next one in 100 ms")
    begun = time.monotonic()
    server.wait_log(r"Workers end as soon as they begin: the next one in 1600 ms")
    # 1.5 s, less what this process may have waited for the processor.
    assert time.monotonic() - begun > 0.75
    assert len(re.findall("Booting worker", server.log)) <= 7
    (workdir / "crashes").unlink()
    assert server.worker_pid()


def test_a_worker_that_has_worked_is_replaced_at_once(launch):
    server = launch("faults:app", deaths=True)
    for _ in range(5):
        pid = server.worker_pid()
        os.kill(pid, signal.SIGKILL)
        server.wait_workers(1, without=[pid])
    server.worker_pid()
    assert "Workers end as soon as they begin" not in server.log
