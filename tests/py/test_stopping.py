"""A stop loses nobody, and does not take long: at TERM what is connected is answered, and what is idle is closed."""

import contextlib
import select
import signal
import time

import pytest
from harness import sockets, wait_for
from rawhttp import Client, request

IDLE = 1000
# Older than the moment in which the next request may be on its way (`DRAIN_FRESH` in worker/lifecycle.rs).
IDLE_S = 0.7
# Connections that wait in the kernel's queue.
QUEUED = 30


@pytest.fixture(params=["127.0.0.1:0", "unix:server.sock"], ids=["tcp", "unix"])
def bind(request):
    return request.param


def begin(server, token, seconds):
    """A client whose request runs in the application."""
    client = server.client()
    client.send(request(f"/begun?token={token}&s={seconds}"))
    wait_for("the request to begin", (server.workdir / f"begun-{token}").exists)
    return client


def assert_last_answer(client, token):
    """The answer says that it is the last one, and is."""
    answer = client.response()
    assert (answer.status, answer.body) == (200, token.encode())
    assert answer.header("Connection") == "close"
    assert_clean_end(client)
    client.close()


def assert_clean_end(client):
    """No byte and no reset."""
    assert client.buffer + client.sock.recv(4096) == b""


def open_idle(server, stack):
    """Connections that have all been answered, the last of them `IDLE_S` ago."""
    clients = []
    for number in range(IDLE):
        client = stack.enter_context(server.client())
        assert client.get(f"/echo?token={number}").body == str(number).encode()
        clients.append(client)
    time.sleep(IDLE_S)
    return clients


@pytest.mark.own(reason="Gunicorn's gthread polls and needs up to 2.3 s")
def test_a_thousand_idle_connections(launch, bind, many_files):
    """Closed without a wait for their own time or the server's, each with a clean end.

    That nothing at all is waited for, a simulation shows in its own time (`worker/stop.rs`): here the machine's other
    work is in the time.
    """
    patience = ("--keep-alive", "300", "--graceful-timeout", "300")
    server = launch("steady:app", *patience, "--worker-connections", str(IDLE + 10), bind=bind)
    with contextlib.ExitStack() as stack:
        clients = open_idle(server, stack)
        server.kill(signal.SIGTERM)
        assert server.wait_exit() == 0
        for client in clients:
            assert_clean_end(client)


@pytest.mark.one_thread
@pytest.mark.own(reason="Gunicorn resets them")
def test_connections_that_wait_when_term_comes_are_answered(launch, bind):
    """The only worker is busy, so the kernel alone has accepted them."""
    server = launch("steady:app", bind=bind)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(begin(server, "first", 1))
        waiting = [stack.enter_context(server.client()) for _ in range(QUEUED)]
        for number, client in enumerate(waiting):
            client.send(request(f"/echo?token=w{number}"))
        server.kill(signal.SIGTERM)
        server.wait_log("Handling signal: term")
        assert_last_answer(first, "first")
        for number, client in enumerate(waiting):
            assert_last_answer(client, f"w{number}")
        assert server.wait_exit() == 0


@pytest.mark.own(reason="Gunicorn resets them")
@pytest.mark.parametrize("quiet", [True, False], ids=["quiet", "busy"])
def test_connections_that_wait_behind_the_limit_are_answered(launch, bind, quiet):
    """As many connections as the worker may have are idle, so it accepts no more, and is stopped.

    The others have their turn, whether the idle ones can be closed at once or have a moment for their next request.
    """
    limits = ("--worker-connections", "5", "--evict-after", "0")
    server = launch("steady:app", "--keep-alive", "30", *limits, bind=bind)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(server.client()) for _ in range(5)]
        for client in idle:
            assert client.get("/echo?token=i").body == b"i"
        if quiet:
            time.sleep(IDLE_S)
        waiting = [stack.enter_context(server.client()) for _ in range(QUEUED)]
        for number, client in enumerate(waiting):
            client.send(request(f"/echo?token=w{number}"))
        assert not select.select([client.sock for client in waiting], [], [], 0.1)[0]
        server.kill(signal.SIGTERM)
        for number, client in enumerate(waiting):
            assert_last_answer(client, f"w{number}")
        for client in idle:
            assert_clean_end(client)
        assert server.wait_exit() == 0


@pytest.mark.one_thread
@pytest.mark.own(reason="Gunicorn's gthread resets some")
def test_a_stop_of_all_workers_at_once(launch, bind):
    """What waits for four busy workers is answered, whichever of them leaves last."""
    server = launch("steady:app", "-w", "4", bind=bind)
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(begin(server, f"b{number}", 0.5)) for number in range(4)]
        waiting = [stack.enter_context(server.client()) for _ in range(QUEUED)]
        for number, client in enumerate(waiting):
            client.send(request(f"/echo?token=w{number}"))
        server.kill(signal.SIGTERM)
        for number, client in enumerate(busy):
            assert_last_answer(client, f"b{number}")
        for number, client in enumerate(waiting):
            assert_last_answer(client, f"w{number}")
        assert server.wait_exit() == 0


@pytest.mark.own(reason="a request that Gunicorn's sync worker would never see")
def test_requests_on_kept_alive_connections_during_a_stop(launch, bind):
    """The clients were answered a moment ago; their next requests come when the worker has been told to leave."""
    server = launch("steady:app", bind=bind)
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(server.client()) for _ in range(5)]
        first = stack.enter_context(begin(server, "first", 0.2))
        for number, client in enumerate(kept):
            client.send(request(f"/echo?token=a{number}"))
        assert first.response().body == b"first"
        for number, client in enumerate(kept):
            assert client.response().body == f"a{number}".encode()
        (pid,) = server.workers()
        # The listener, and the queue by which workers give connections to each other.
        shared = sockets(pid) & sockets(server.pid)
        server.kill(signal.SIGTERM)
        # It has been told, and knows.
        wait_for("the worker to close its listener", lambda: len(sockets(pid) & shared) < len(shared))
        for number, client in enumerate(kept):
            client.send(request(f"/echo?token=b{number}"))
        for number, client in enumerate(kept):
            assert_last_answer(client, f"b{number}")
        assert server.wait_exit() == 0


@pytest.mark.own(reason="Gunicorn's sync worker stops on its own; gthread keeps its thread")
def test_what_takes_longer_than_graceful_timeout_is_cut(launch):
    """The others are answered before, and the exit status is good."""
    server = launch("steady:app", "-w", "2", "--graceful-timeout", "1", deaths=True)
    with begin(server, "long", 30) as long, begin(server, "short", 0.5) as short:
        started = time.monotonic()
        server.kill(signal.SIGTERM)
        assert_last_answer(short, "short")
        assert long.rest() == b""
        assert 0.9 < time.monotonic() - started < 10
    assert server.wait_exit() == 0


@pytest.mark.one_thread
@pytest.mark.own(reason="Gunicorn resets them")
def test_connections_that_wait_at_an_address_that_is_given_up(launch, workdir):
    """A reload goes on elsewhere: nobody but the old worker can answer what waits at the old address."""
    server = launch("steady:app", bind=None, workdir=workdir, config="bind = 'unix:old.sock'\n")
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(begin(server, "first", 1))
        waiting = [stack.enter_context(server.client()) for _ in range(QUEUED)]
        for number, client in enumerate(waiting):
            client.send(request(f"/echo?token=w{number}"))
        (workdir / "test.conf.py").write_text("bind = 'unix:new.sock'\n")
        server.kill(signal.SIGHUP)
        server.wait_log(r"Listening at: unix:new\.sock")
        assert_last_answer(first, "first")
        for number, client in enumerate(waiting):
            assert_last_answer(client, f"w{number}")
        with Client(str(workdir / "new.sock")) as client:
            assert client.get("/echo?token=new").body == b"new"


@pytest.mark.own(reason="Gunicorn's worker hangs at its end now and then, until its time-out")
def test_recycling_under_overload(launch, bind):
    """A worker that leaves must not take more of the queue with it than it can answer within its graceful_timeout."""
    args = ["-w", "2", "--max-requests", "5", "--graceful-timeout", "1"]
    server = launch("steady:app", *args, bind=bind)
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(2 * QUEUED):
            client = stack.enter_context(Client(server.address))
            # At once. A connection that brings none is taken by whoever waits, as many as there are; when their
            # requests come all together, a worker that then leaves cannot answer them in time (docs/architecture.md).
            client.send(request(f"/echo?token={number}&s=0.1", headers={"Connection": "close"}))
            clients.append(client)
        for number, client in enumerate(clients):
            assert_last_answer(client, str(number))
