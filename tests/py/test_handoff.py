"""Connections that outlive their worker: they go to siblings when it leaves, and clients notice nothing."""

import contextlib
import json
import math
import os
import signal
import time

import pytest
from harness import held, wait_for
from load import Load
from rawhttp import request

WORKERS = 3
CLIENTS = 40
KEEPALIVE = ("--keep-alive", "120")

pytestmark = pytest.mark.own(reason="Gunicorn closes the connections of a worker that leaves")


@pytest.fixture(params=["127.0.0.1:0", "unix:server.sock"], ids=["tcp", "unix"])
def bind(request):
    return request.param


def pid_of(client, token):
    """The worker that answers on this connection now."""
    answer = client.get(f"/echo?token={token}")
    assert (answer.status, answer.body) == (200, str(token).encode())
    assert answer.header("Connection") != "close"
    return int(answer.header("X-Pid"))


def open_all(server, stack, count=CLIENTS):
    """Kept-alive connections, each with an answer, and the workers behind them."""
    clients = [stack.enter_context(server.client()) for _ in range(count)]
    return clients, {pid_of(client, number) for number, client in enumerate(clients)}


def assert_all_moved(clients, server, old):
    """Each connection is answered again, by a worker that was not there before."""
    for number, client in enumerate(clients):
        assert pid_of(client, number) in set(server.workers()) - set(old)


def test_a_reload(launch, bind):
    server = launch("steady:app", "-w", str(WORKERS), *KEEPALIVE, bind=bind)
    with contextlib.ExitStack() as stack:
        clients, _ = open_all(server, stack)
        for _ in range(3):
            old = server.wait_workers(WORKERS)
            server.kill(signal.SIGHUP)
            server.wait_workers(WORKERS, without=old)
            assert_all_moved(clients, server, old)


def test_counts(launch):
    """What has become of connections, of all workers together."""
    server = launch("steady:app", "-w", "2", "--log-level", "debug", *KEEPALIVE)
    with contextlib.ExitStack() as stack:
        clients, _ = open_all(server, stack)
        old = server.wait_workers(2)
        server.kill(signal.SIGHUP)
        server.wait_workers(2, without=old)
        assert_all_moved(clients, server, old)
    assert server.terminate() == 0
    counts = server.wait_log(r"Connections at the handoff queue: (\d+) given while leaving, .*?(\d+) taken")
    # Some may have gone to the other one before, to spread them.
    assert int(counts[1]) > 0
    assert int(counts[2]) >= len(clients)


def test_a_reload_of_greenlets(launch_gevent):
    server = launch_gevent("steady:app", "-w", "2", *KEEPALIVE)
    with contextlib.ExitStack() as stack:
        clients, _ = open_all(server, stack)
        old = server.wait_workers(2)
        server.kill(signal.SIGHUP)
        server.wait_workers(2, without=old)
        assert_all_moved(clients, server, old)


def test_a_reload_of_a_lone_worker(launch):
    """More connections than the queue between workers holds."""
    server = launch("steady:app", *KEEPALIVE)
    with contextlib.ExitStack() as stack:
        clients, old = open_all(server, stack)
        server.kill(signal.SIGHUP)
        server.wait_workers(1, without=old)
        assert_all_moved(clients, server, old)


def test_fewer_workers(launch):
    server = launch("steady:app", "-w", str(WORKERS), *KEEPALIVE)
    with contextlib.ExitStack() as stack:
        clients, _ = open_all(server, stack)
        for wanted in range(WORKERS - 1, 0, -1):
            server.kill(signal.SIGTTOU)
            server.wait_workers(wanted)
        assert {pid_of(client, number) for number, client in enumerate(clients)} == set(server.workers())


def test_fewer_workers_before_all_have_booted(launch):
    """The only one that serves is to leave, and keeps its connections until the next one does."""
    config = """
import os, time
def post_fork(server, worker):
    while worker.age > 1 and not os.path.exists("boot"):
        time.sleep(0.01)
"""
    server = launch("steady:app", "-w", "2", *KEEPALIVE, config=config)
    with contextlib.ExitStack() as stack:
        clients, [first] = open_all(server, stack)
        server.wait_workers(2)
        server.kill(signal.SIGTTOU)
        server.wait_log("Handling signal: ttou")
        assert {pid_of(client, number) for number, client in enumerate(clients)} == {first}
        (server.workdir / "boot").touch()
        server.wait_workers(1, without=[first])
        assert_all_moved(clients, server, [first])


def test_workers_that_are_recycled_all_the_time(launch, bind):
    """Each connection has answers of several workers, and is never closed."""
    recycled = ("--max-requests", "40", "--max-requests-jitter", "20")
    server = launch("steady:app", "-w", "4", *recycled, *KEEPALIVE, bind=bind)
    with contextlib.ExitStack() as stack:
        clients, _ = open_all(server, stack)
        pids = [set() for _ in clients]

        def have_moved():
            for number, (client, seen) in enumerate(zip(clients, pids, strict=True)):
                seen.add(pid_of(client, number))
            return len(set().union(*pids)) > 6 and all(len(seen) > 1 for seen in pids)

        wait_for("each connection to have moved", have_moved)


def test_a_connection_that_has_sent_nothing_yet(launch):
    server = launch("steady:app", "-w", "2", *KEEPALIVE)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(CLIENTS)]
        # The last one is served, so those before it were accepted or wait to be.
        old = server.wait_workers(2)
        server.kill(signal.SIGHUP)
        server.wait_workers(2, without=old)
        assert_all_moved(clients, server, old)


def test_a_request_in_progress_keeps_its_connection(launch):
    server = launch("steady:app", "-w", "2", *KEEPALIVE)
    old = server.wait_workers(2)
    with server.client() as client:
        client.send(request("/begun?token=slow&s=1"))
        wait_for("the request to begin", (server.workdir / "begun-slow").exists)
        server.kill(signal.SIGHUP)
        answer = client.response()
        assert (answer.body, answer.header("Connection") == "close") == (b"slow", False)
        assert int(answer.header("X-Pid")) in old
        server.wait_workers(2, without=old)
        assert_all_moved([client], server, old)


def test_what_the_proxy_has_said_stays(launch):
    """The header came once, before the first request, and holds for those at the next worker."""
    server = launch("http_app:app", "-w", "2", "--proxy-protocol", *KEEPALIVE)

    def told(answer):
        return {key: value for key, value in json.loads(answer.body).items() if isinstance(value, str)}

    with server.client() as client:
        client.send(b"PROXY TCP4 198.51.100.7 203.0.113.9 1000 2000\r\n", request("/environ"))
        before = told(client.response())
        assert [before[key] for key in ("REMOTE_ADDR", "REMOTE_PORT", "PROXY_ADDR")] == [
            "198.51.100.7", "1000", "203.0.113.9",
        ]  # fmt: skip
        old = server.wait_workers(2)
        server.kill(signal.SIGHUP)
        server.wait_workers(2, without=old)
        assert told(client.get("/environ")) == before


def test_time_goes_on_during_the_move(launch):
    """A connection at the next worker has what was left of its keep-alive time."""
    server = launch("steady:app", "-w", "2", "--keep-alive", "3")
    with server.client() as client:
        pid_of(client, 1)
        answered = time.monotonic()
        old = server.wait_workers(2)
        server.kill(signal.SIGHUP)
        server.wait_workers(2, without=old)
        client.assert_closed()
        assert time.monotonic() - answered > 2.9


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "unix:server.sock"], ids=["ipv4", "ipv6", "unix"])
def test_a_reload_keeps_trust(launch, bind):
    """Peers that are trusted stay so at the next worker, whatever kind of address the kernel names."""
    server = launch("http_app:app", "-w", "2", "--forwarded-allow-ips", "127.0.0.1,::1", *KEEPALIVE, bind=bind)
    with server.client() as client:
        for _ in range(3):
            client.send(request("/environ", headers={"X-Forwarded-Proto": "https"}))
            assert json.loads(client.response().body)["wsgi.url_scheme"] == "https"
            old = server.wait_workers(2)
            server.kill(signal.SIGHUP)
            server.wait_workers(2, without=old)


def test_a_reload_takes_trust_away(launch):
    """A connection of a proxy that is none any more, from the next answer on; none is trusted that was not."""
    settings = "proxy_protocol = True\nforwarded_allow_ips = {!r}\n"
    server = launch("http_app:app", "-w", "2", *KEEPALIVE, config=settings.format("127.0.0.1"))

    def scheme(client, *first):
        client.send(*first, request("/environ", headers={"X-Forwarded-Proto": "https"}))
        return json.loads(client.response().body)["wsgi.url_scheme"]

    def reload(allowed):
        (server.workdir / "test.conf.py").write_text(settings.format(allowed))
        old = server.wait_workers(2)
        server.kill(signal.SIGHUP)
        server.wait_workers(2, without=old)

    with server.client() as direct, server.client() as proxied:
        assert scheme(direct) == "https"
        assert scheme(proxied, b"PROXY TCP4 198.51.100.7 203.0.113.9 1000 2000\r\n") == "https"
        reload("127.0.0.1")
        assert (scheme(direct), scheme(proxied)) == ("https", "https")
        reload("198.51.100.7")
        assert (scheme(direct), scheme(proxied)) == ("http", "http")
        reload("127.0.0.1")
        assert (scheme(direct), scheme(proxied)) == ("http", "http")
        with server.client() as new:
            assert scheme(new) == "https"


def test_switched_off(launch):
    """Idle connections end with their worker, as under Gunicorn."""
    server = launch("steady:app", "-w", "2", "--no-handoff", *KEEPALIVE)
    with contextlib.ExitStack() as stack:
        clients, old = open_all(server, stack, 5)
        server.kill(signal.SIGHUP)
        server.wait_workers(2, without=old)
        for client in clients:
            client.assert_closed()


def test_switched_off_by_the_reload(launch, workdir):
    """The old workers give, and the new ones take: what is given is nobody else's."""
    server = launch("steady:app", "-w", "2", *KEEPALIVE, config="handoff = True\n")
    with contextlib.ExitStack() as stack:
        clients, _ = open_all(server, stack)
        old = server.wait_workers(2)
        (server.workdir / "test.conf.py").write_text("handoff = False\n")
        server.kill(signal.SIGHUP)
        server.wait_workers(2, without=old)
        assert_all_moved(clients, server, old)
        old = server.wait_workers(2)
        server.kill(signal.SIGHUP)
        server.wait_workers(2, without=old)
        for client in clients:
            client.assert_closed()


def test_a_stop_ends_them(launch):
    server = launch("steady:app", "-w", "2", *KEEPALIVE)
    with contextlib.ExitStack() as stack:
        clients, _ = open_all(server, stack, 5)
        server.kill(signal.SIGTERM)
        assert server.wait_exit() == 0
        for client in clients:
            client.assert_closed()


def test_a_worker_that_is_killed_takes_only_its_own_along(launch):
    """Nobody can give what a killed one had; the others' connections stay open."""
    server = launch("steady:app", "-w", "2", *KEEPALIVE, deaths=True)
    with contextlib.ExitStack() as stack:
        clients, _ = open_all(server, stack)
        # The second one may have booted behind the last of them, and gets its share then.
        wait_for("both to have some", lambda: all(held(server.pid, server.wait_workers(2))))
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        pids = server.wait_workers(2, without=[victim])

        def open_ones():
            """Those that are left, once it is known who has each: the kernel may end the others a moment later."""
            left = [client for client in clients if not client.is_closed()]
            return left if sum(held(server.pid, pids)) == len(left) else None

        left = wait_for("the end of the others", open_ones)
        assert 0 < len(left) < CLIENTS
        for number, client in enumerate(left):
            assert pid_of(client, number) in pids


@pytest.mark.timeout(180)
def test_a_load_during_all_of_it(launch, bind):
    """Reloads, more and fewer workers, recycled ones: no request fails, and no connection is closed."""
    server = launch("steady:app", "-w", "3", "--max-requests", "200", *KEEPALIVE, bind=bind)
    kept = {"echo": 6, "upload": 2, "stream": 2}
    wanted = [(signal.SIGHUP, 3), (signal.SIGTTIN, 4), (signal.SIGHUP, 4), (signal.SIGTTOU, 3), (signal.SIGHUP, 3)]
    with Load(server.address, kept, fresh_s=math.inf) as load:
        wait_for("answers of all kinds", lambda: all(load.tally.answers[kind] for kind in kept) or load.failures())
        for signum, workers in wanted * 2:
            old = server.workers() if signum == signal.SIGHUP else []
            server.kill(signum)
            server.wait_workers(workers, without=old)
            enough = load.answers() + 40
            wait_for("more answers", lambda enough=enough: load.answers() >= enough or load.failures())
    load.assert_no_failure()
    assert len(load.tally.by_pid) > 15
    assert load.tally.connections == sum(kept.values()), "none was closed"
