"""A cooperative worker's life: stopping, reloading, heartbeats and limits, while requests wait inside of it."""

import contextlib
import resource
import signal

import pytest
from harness import bodies, is_alive, wait_for
from rawhttp import request

CROWD = 2000


def logged(server):
    """What `/until` has written."""
    path = server.workdir / "log"
    return path.read_text().split() if path.exists() else []


def release(server):
    (server.workdir / "go").touch()


@contextlib.contextmanager
def waiting(server, count):
    """Connections whose requests wait for `release`."""
    before = logged(server).count("in")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(count)]
        for client in clients:
            client.send(request("/until?file=go"))
        wait_for(f"{count} requests inside", lambda: logged(server).count("in") == before + count)
        yield clients


def test_term_waits_for_every_request(launch_gevent):
    server = launch_gevent("coop:app")
    with waiting(server, 5) as clients:
        server.kill(signal.SIGTERM)
        server.wait_log("Handling signal: term")
        release(server)
        bodies([client.response() for client in clients])
    assert server.wait_exit() == 0


def test_term_refuses_new_connections_while_it_waits(launch_gevent):
    server = launch_gevent("coop:app")

    def refused():
        try:
            server.client().close()
        except ConnectionRefusedError:
            return True
        return False

    with waiting(server, 2) as clients:
        server.kill(signal.SIGTERM)
        wait_for("the listener to close", refused)
        release(server)
        bodies([client.response() for client in clients])
    assert server.wait_exit() == 0


def test_term_gives_up_after_the_graceful_timeout(launch_gevent):
    server = launch_gevent("coop:app", "--graceful-timeout", "1")
    with waiting(server, 3) as clients:
        server.kill(signal.SIGTERM)
        for client in clients:
            client.assert_closed()
    assert server.wait_exit() == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT], ids=lambda signum: signum.name)
def test_quick_stop_does_not_wait(launch_gevent, signum):
    server = launch_gevent("coop:app", "--graceful-timeout", "40")
    with waiting(server, 3):
        assert server.terminate(signum) == 0


def test_greenlets_of_the_application_do_not_hold_up_the_exit(launch_gevent):
    server = launch_gevent("coop:app", env={"COOP_BACKGROUND": "1"})
    server.worker_pid()
    assert server.terminate() == 0


def test_reload_lets_old_requests_finish(launch_gevent):
    server = launch_gevent("coop:app")
    with waiting(server, 3) as clients:
        [old] = server.workers()
        server.kill(signal.SIGHUP)
        wait_for("an answer of a new worker", lambda: server.worker_pid() != old)
        assert is_alive(old)
        release(server)
        assert bodies([client.response() for client in clients]) == [str(old)] * 3
    wait_for("the old worker to leave", lambda: not is_alive(old))


def test_max_requests_lets_waiting_requests_finish(launch_gevent):
    server = launch_gevent("coop:app", "--max-requests", "5")
    with waiting(server, 2) as clients:
        [old] = server.workers()
        for _ in range(3):
            server.get("/meet?name=alone&n=1")
        server.wait_log("Autorestarting worker")
        release(server)
        assert bodies([client.response() for client in clients]) == [str(old)] * 2
    wait_for("an answer of a new worker", lambda: server.worker_pid() != old)


def test_a_request_may_wait_longer_than_the_heartbeat(launch_gevent):
    server = launch_gevent("coop:app", "--timeout", "1")
    pid = server.worker_pid()
    assert server.get("/sleep?s=3").status == 200
    assert server.worker_pid() == pid


def test_a_blocked_worker_is_killed(launch_gevent):
    server = launch_gevent("coop:app", "--timeout", "1", deaths=True)
    pid = server.worker_pid()
    with server.client() as client:
        client.send(request("/burn?s=30"))
        server.wait_log(rf"WORKER TIMEOUT \(pid:{pid}\)")
        wait_for("the worker's end", lambda: not is_alive(pid))
    wait_for("a new worker", lambda: server.workers() and server.worker_pid() != pid)


def test_connections_beyond_the_limit_wait(launch_gevent):
    """The third request comes in only when one of the first two has gone out."""
    server = launch_gevent("coop:app", "--worker-connections", "2", "--keep-alive", "1")
    with waiting(server, 2) as clients, server.client() as third:
        third.send(request("/until?file=go"))
        release(server)
        bodies([client.response() for client in clients])
        for client in clients:
            client.close()
        bodies([third.response()])
    assert logged(server).index("out") < [at for at, word in enumerate(logged(server)) if word == "in"][2]


@pytest.mark.own
def test_thousands_of_requests_at_once(launch_gevent):
    """One worker; each waits a second inside. Only the order of magnitude is asserted: by far less than 2,000 s."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CROWD + 200:
        pytest.skip(f"needs {CROWD + 200} descriptors, the limit is {hard}")
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        server = launch_gevent("coop:app", "--worker-connections", str(CROWD + 100), "--backlog", "4096")
        pid = server.worker_pid()
        answers = server.together(["/sleep?s=1"] * CROWD, timeout=40)
        assert bodies(answers) == ["ok"] * CROWD
        assert server.worker_pid() == pid
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
