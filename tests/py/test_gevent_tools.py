"""gevent's tools and the patched standard library, used inside requests that overlap."""

import os
import signal

import pytest
from harness import bodies, wait_for

SEVERAL = 4


@pytest.fixture(scope="module")
def server(launch_gevent_module):
    return launch_gevent_module("coop_tools:app")


def test_pool_runs_as_many_as_it_may(server):
    assert bodies(server.together(["/pool?size=5"] * SEVERAL)) == ["5 2470"] * SEVERAL


@pytest.mark.parametrize("kind", ["gevent", "patched"])
def test_queue_between_requests(server, kind):
    takers = [f"/take?kind={kind}"] * SEVERAL
    givers = [f"/put?kind={kind}&item={number}" for number in range(SEVERAL)]
    found = bodies(server.together(takers + givers))
    assert sorted(found[:SEVERAL]) == ["0", "1", "2", "3"]


def test_async_result_between_requests(server):
    waiters = ["/result?name=answer"] * SEVERAL
    assert bodies(server.together([*waiters, "/set-result?name=answer&value=42"])) == ["42"] * SEVERAL + ["ok"]


def test_timeouts(server):
    assert bodies(server.together(["/timeout?s=0.02"] * SEVERAL)) == ["raised,socket"] * SEVERAL


def test_children_run_at_once(server):
    found = bodies(server.together([f"/child?name=children&n={SEVERAL}"] * SEVERAL))
    assert found == ["from the child 0"] * SEVERAL


def test_exit_statuses_of_children(server):
    assert bodies(server.together([f"/status?code={code}" for code in (0, 1, 7)])) == ["0", "1", "7"]


def test_fork_and_wait(server):
    assert bodies(server.together(["/fork"] * SEVERAL)) == ["7"] * SEVERAL


def test_native_threads_run_at_once(server):
    assert bodies(server.together([f"/threadpool?n={SEVERAL}"] * SEVERAL)) == ["together"] * SEVERAL


def test_patched_threads(server):
    assert bodies(server.together(["/thread"] * SEVERAL)) == ["10"] * SEVERAL


def test_names_are_resolved(server):
    for addresses in bodies(server.together(["/resolve"] * SEVERAL)):
        assert "127.0.0.1" in addresses.split(",")


def test_select(server):
    assert bodies(server.together(["/select"] * SEVERAL)) == ["True"] * SEVERAL


def test_the_loop_runs_while_no_request_does(launch_gevent):
    """Greenlets, patched threads and signal handlers of the application, without a request to wake the worker."""
    server = launch_gevent("coop:app", env={"COOP_BACKGROUND": "1"})
    pid = server.worker_pid()

    def size(name):
        path = server.workdir / name
        return path.stat().st_size if path.exists() else 0

    before = size("ticks")
    wait_for("20 more ticks", lambda: size("ticks") >= before + 20)
    for count in range(1, 4):
        os.kill(pid, signal.SIGUSR2)
        wait_for("the signal handler", lambda count=count: size("usr2") == count)
    assert server.worker_pid() == pid
