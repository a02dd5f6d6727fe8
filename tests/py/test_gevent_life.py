"""A cooperative worker's life: stopping, reloading, heartbeats and limits, while requests wait inside of it."""

import contextlib
import os
import re
import resource
import signal

import pytest
from harness import bodies, held, is_alive, wait_for
from masters import listening_sockets, sockets_of
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
        except (ConnectionRefusedError, ConnectionResetError):
            # Reset: the listener was closed in the middle of the handshake.
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


def test_term_waits_for_a_request_whose_client_has_left(launch_gevent):
    server = launch_gevent("coop:app")
    with waiting(server, 1) as [client]:
        client.reset()
        # Its end has been seen when another connection is served.
        assert server.get("/notes?name=none").body == b""
        server.kill(signal.SIGTERM)
        server.wait_log("Handling signal: term")
        release(server)
        assert server.wait_exit() == 0
    assert logged(server) == ["in", "out"]
    assert "graceful timeout" not in server.log


@pytest.mark.own
def test_a_crowd_that_computes_in_one_turn_is_no_standstill(launch_gevent):
    """All wake up at once, and take longer than the heartbeat together. Gunicorn's worker is killed for it."""
    server = launch_gevent("coop:app", "--timeout", "2", "--worker-connections", "200")
    pid = server.worker_pid()
    bodies(server.together(["/nap-and-compute?s=1&cpu=0.05"] * 80))
    assert server.worker_pid() == pid


@pytest.mark.own
def test_requests_without_a_connection_count(launch_gevent):
    """`worker_connections` bounds what is in progress, also when clients give up and come again."""
    server = launch_gevent("coop:app", "--worker-connections", "3")
    with waiting(server, 3) as clients:
        for client in clients:
            client.reset()
        with server.client() as late:
            late.send(request("/until?file=go"))
            # The kernel has it; the worker takes it only when one of the three has ended.
            late.sock.settimeout(0.5)
            with pytest.raises(TimeoutError):
                late.sock.recv(1)
            assert logged(server).count("in") == 3
            release(server)
            late.sock.settimeout(15)
            bodies([late.response()])


@pytest.mark.own
def test_those_that_are_killed_end_while_other_clients_go_on(launch_gevent):
    """The worker handles its connections until the last `finally` clause is over."""
    server = launch_gevent("coop:app", "--graceful-timeout", "1")
    with server.client() as other, server.client() as client:
        other.send(b"POST /until?file=go HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        client.send(request("/stubborn?file=go"))
        wait_for("both inside", lambda: logged(server).count("in") == 2)
        server.kill(signal.SIGTERM)
        server.wait_log("Worker graceful timeout")
        other.send(b"x" * 1000)
        assert server.wait_exit() == 0
    assert "end" in logged(server)
    assert "Traceback" not in server.log
    assert "panic" not in server.log


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


def test_a_leaving_worker_takes_no_wake_up(launch_gevent):
    """It waits for requests of its own, and next to it a sibling for the connections that come."""
    server = launch_gevent("coop:app", "-w", "2")
    port = server.address[1]
    wait_for("both workers", lambda: server.worker_pid() == server.wait_workers(2)[0])
    wait_for("both workers", lambda: server.worker_pid() == server.wait_workers(2)[1])
    pids = server.workers()
    with waiting(server, 8) as clients:
        # One may have taken all of them, and without any it would be gone before anybody looks.
        (_, staying), (_, leaving) = sorted(zip(held(server.pid, pids), pids, strict=True))
        # The kernel wakes whoever has waited longest: that is the other one.
        wait_for("an answer of the one that stays", lambda: server.worker_pid() == staying)
        os.kill(leaving, signal.SIGTERM)
        wait_for("the listener to be closed", lambda: not listening_sockets(port) & sockets_of(leaving))
        for _ in range(20):
            with server.client(timeout=5) as client:
                # Or the one that has taken its place.
                assert int(client.get("/pid").body) != leaving
        release(server)
        assert set(bodies([client.response() for client in clients])) <= {str(leaving), str(staying)}


@pytest.mark.own
@pytest.mark.one_thread
def test_reload_can_make_a_server_cooperative(launch):
    """`-k sync` has left gevent alone; the workers of the next settings are as if it had never been so."""
    server = launch("coop:app", config="worker_class = 'sync'\n", untyped=True)
    assert server.worker_pid()
    assert "greenlets" not in server.log
    for kind in ["uring", "gevent"]:
        mark = len(re.findall("runs requests in greenlets", server.log))
        (server.workdir / "test.conf.py").write_text(f"worker_class = {kind!r}\n")
        server.kill(signal.SIGHUP)
        server.wait_log("runs requests in greenlets", count=mark + 1)
    assert "hub was made before" not in server.log


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
