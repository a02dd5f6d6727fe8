"""A worker whose Python cannot run is replaced: in threads, too, where the loop goes on without it."""

import contextlib
import signal

import pytest
from harness import is_alive, wait_for
from rawhttp import request

TIMEOUT_S = 2


def start(launch, *args, **options):
    return launch("locks:app", "--timeout", str(TIMEOUT_S), *args, **options)


def assert_replaced(server, old):
    """The worker is timed out, and another one serves."""
    server.wait_log(rf"\[CRITICAL\] WORKER TIMEOUT \(pid:{old}\)")
    wait_for("its end", lambda: not is_alive(old))
    assert server.worker_pid() in server.wait_workers(1)


@pytest.mark.parametrize("way", ["sleep", "backtrack"])
def test_a_request_that_keeps_the_interpreter_lock_is_timed_out(launch, way):
    server = start(launch, deaths=True)
    old = server.worker_pid()
    with server.client() as client:
        client.send(request(f"/keep?way={way}"))
        assert_replaced(server, old)
        assert not client.rest().startswith(b"HTTP/1.1 200")


def test_so_is_a_worker_whose_lock_another_thread_keeps(launch):
    server = start(launch, deaths=True)
    old = server.worker_pid()
    with server.client() as idle:
        assert idle.get("/keep-behind").body == b"soon"
        assert_replaced(server, old)


@pytest.mark.parametrize("where", ["behind", "in-greenlet"])
def test_so_is_a_worker_with_greenlets(launch_gevent, where):
    server = start(launch_gevent, deaths=True)
    old = server.worker_pid()
    assert server.get(f"/keep-{where}").body == b"soon"
    assert_replaced(server, old)


def test_requests_in_all_threads_may_wait_for_longer_than_the_timeout(launch, flavour):
    """What waits without the lock proves nothing about Python, which can run."""
    if not flavour.threads:
        pytest.skip("a request of the loop's own thread may not")
    server = start(launch)
    pid = server.worker_pid()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(4)]
        for client in clients:
            client.send(request(f"/wait?s={3 * TIMEOUT_S}"))
        assert [int(client.response().body) for client in clients] == [pid] * 4
    assert server.workers() == [pid]


def test_a_lock_that_is_given_up_now_and_then_is_no_standstill(launch, flavour):
    """Three times the timeout in all, never for as long as that at once."""
    if not flavour.threads:
        pytest.skip("a request of the loop's own thread may not")
    server = start(launch)
    pid = server.worker_pid()
    answer = server.get(f"/keep-shortly?s=0.5&pause=0.05&n={6 * TIMEOUT_S}")
    assert int(answer.body) == pid
    assert server.workers() == [pid]


def test_a_stop_while_the_lock_is_kept_ends(launch):
    """Neither worker nor master waits for the lock for ever."""
    server = start(launch, "--graceful-timeout", "1", "--timeout", "0", deaths=True)
    with server.client() as client:
        client.send(request("/keep?way=sleep"))
        wait_for("the request to be inside", lambda: list(server.workdir.glob("in-*")))
        assert server.terminate(signal.SIGTERM) == 0
        client.rest()
