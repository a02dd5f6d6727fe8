"""Workers with threads, `gthread` and `--threads` for `sync` and `uring`: the promises of Gunicorn's gthread worker."""

import contextlib
import json
import signal
import time

import pytest
from harness import Flavour, is_alive, wait_for
from rawhttp import Client, request

THREADS = 4
KINDS = {
    "gthread": ("-k", "gthread", "--threads", str(THREADS)),
    "sync": ("-k", "sync", "--threads", str(THREADS)),
    "uring": ("-k", "uring", "--threads", str(THREADS)),
}


@pytest.fixture(params=KINDS)
def kind(request, flavour):
    if request.param == "uring" and not flavour.own:
        pytest.skip("Gunicorn has no such worker")
    return request.param


def start(launch, flavour: Flavour, kind: str, *args, **options):
    """A server with four threads, on the driver of the flavour."""
    driver = [*flavour.options[flavour.options.index("--io-driver") :][:2]] if flavour.own else []
    return launch("threaded:app", *driver, *KINDS[kind], *args, untyped=True, **options)


def is_refused(server):
    """Whether nobody listens any more: every worker knows that it is to stop."""
    try:
        server.client().close()
    except (ConnectionRefusedError, ConnectionResetError):
        # Reset: the listener was closed in the middle of the handshake.
        return True
    return False


def inside(server, name="gate"):
    """How many requests have come into the application."""
    return len(list(server.workdir.glob(f"in-{name}-*")))


def test_requests_run_at_the_same_time(launch, flavour, kind):
    server = start(launch, flavour, kind)
    answers = server.together(["/together"] * THREADS)
    names = {answer.body.decode() for answer in answers}
    assert names == {f"ThreadPoolExecutor-0_{number}" for number in range(THREADS)}
    assert server.wait_log("Using worker: (.*)")[1] == ("gthread" if kind == "sync" else kind)
    assert server.get("/main").body == b"False"


def test_the_thread_is_an_ordinary_one(launch, flavour, kind):
    server = start(launch, flavour, kind)
    assert json.loads(server.get("/thread").body) == {
        "daemon": False, "a thread's daemon": False, "class": "Thread", "listed": True, "name": "ThreadPoolExecutor-0_",
        "blocked signals": [], "stack": 0, "traced": [None, None], "running loop": None,
    }  # fmt: skip


def test_threads_of_the_application_end_their_work(launch, flavour, kind):
    """The end of the worker waits for them, within `graceful_timeout`."""
    server = start(launch, flavour, kind)
    assert server.get("/background").status == 200
    assert server.terminate() == 0
    assert (server.workdir / "worked").exists()


def test_a_thread_keeps_what_is_local_to_it(launch, flavour):
    """A database connection of a thread, say."""
    server = start(launch, flavour, "gthread")
    last = {}
    for _ in range(40):
        thread, number = server.get("/kept").body.split()
        assert int(number) == last.get(thread, 0) + 1
        last[thread] = int(number)
    assert len(last) <= THREADS


def test_more_requests_than_threads_wait_their_turn(launch, flavour):
    server = start(launch, flavour, "gthread")
    answers = server.together(["/together"] * (5 * THREADS))
    assert [answer.status for answer in answers] == [200] * (5 * THREADS)


def test_the_next_request_of_a_connection_comes_after_close(launch, flavour):
    """The response does not wait for the application's `close()`, the connection does."""
    server = start(launch, flavour, "gthread")
    with server.client() as client:
        assert client.get("/closing").body == b"body"
        assert client.get("/closed").body == b"True"


def test_a_stop_lets_requests_end(launch, flavour, kind):
    server = start(launch, flavour, kind)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(THREADS)]
        for client in clients:
            client.send(request("/gate"))
        wait_for("all to be inside", lambda: inside(server) == THREADS)
        server.kill(signal.SIGTERM)
        server.wait_log("Handling signal: term")
        server.settle()  # Gunicorn's worker goes on listening to nobody.
        wait_for("the worker to leave", lambda: not flavour.own or is_refused(server))
        (server.workdir / "gate").touch()
        for client in clients:
            answer = client.response()
            assert answer.status == 200
            # Gunicorn decides before the application runs.
            assert answer.header("Connection") == "close" or not flavour.own
    assert server.wait_exit() == 0


def test_a_request_that_does_not_end_is_left_behind(launch, flavour):
    """After `graceful_timeout`, and with the exit status of a normal stop; Gunicorn's worker has to be killed."""
    server = start(launch, flavour, "gthread", "--graceful-timeout", "1", deaths=True)
    with server.client() as client:
        client.send(request("/gate"))
        wait_for("the request to be inside", lambda: inside(server))
        pids = server.workers()
        begun = time.monotonic()
        assert server.terminate(signal.SIGTERM) == 0
        assert time.monotonic() - begun < 5
        assert not any(map(is_alive, pids))
        assert client.rest() == b""


@pytest.mark.own
def test_a_worker_with_a_stuck_thread_leaves_by_itself(launch, flavour):
    server = start(launch, flavour, "gthread", "--graceful-timeout", "1")
    with server.client() as client:
        client.send(request("/gate"))
        wait_for("the request to be inside", lambda: inside(server))
        assert server.terminate(signal.SIGTERM) == 0
        assert client.rest() == b""
    server.wait_log("Leaving requests behind that did not end in time")
    server.wait_log(r"Worker exiting")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT], ids=lambda signum: signum.name)
def test_a_quick_stop_waits_for_nobody(launch, flavour, signum):
    if not flavour.own:
        pytest.skip("Gunicorn's gthread worker waits until it is killed")
    server = start(launch, flavour, "gthread")
    with server.client() as client:
        client.send(request("/gate"))
        wait_for("the request to be inside", lambda: inside(server))
        assert server.terminate(signum) == 0
        assert client.rest() == b""


def test_a_forked_child_only_ends(launch, flavour):
    if not flavour.own:
        pytest.skip("Gunicorn's child of a thread answers its parent's client")
    server = start(launch, flavour, "gthread")
    for _ in range(3):
        assert server.get("/fork").body == b"0"


@pytest.mark.parametrize("connections", [THREADS + 2])
def test_idle_connections_leave_room_for_requests(launch, flavour, connections):
    """`worker_connections` less the threads may be idle; who comes beyond that is answered and closed."""
    server = start(launch, flavour, "gthread", "--worker-connections", str(connections), "--keep-alive", "60")
    room = connections - THREADS
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(room)]
        for client in clients:
            assert client.get("/pid").header("Connection") == "keep-alive"
            server.settle()  # Gunicorn counts a connection a moment after its answer.
        for _ in range(3):
            with server.client() as client:
                assert client.get("/pid").header("Connection") == "close"
                client.assert_closed()
        for client in clients[:1]:
            client.close()
        # The server has to notice.
        wait_for("room again", lambda: server.get("/pid").header("Connection") == "keep-alive")


@pytest.mark.own
def test_a_busy_worker_leaves_connections_to_its_sibling(launch, flavour):
    """All threads of one worker are at work: every new connection goes to the other."""
    server = start(launch, flavour, "gthread", "-w", "2")
    pids = set(server.wait_workers(2))
    seen = set()
    wait_for("an answer of both", lambda: seen.add(int(server.get("/pid").body)) or seen == pids)
    with contextlib.ExitStack() as stack:
        busy = []
        while len(busy) < THREADS:
            client = stack.enter_context(server.client())
            if not busy:
                first = int(client.get("/pid").body)
            elif int(client.get("/pid").body) != first:
                continue
            busy.append(client)
        for number, client in enumerate(busy, 1):
            client.send(request("/gate"))
            wait_for("the request to be inside", lambda number=number: inside(server) == number)
        other = (pids - {first}).pop()
        assert {int(server.get("/pid").body) for _ in range(50)} == {other}
        (server.workdir / "gate").touch()
        assert {int(client.response().body) for client in busy} == {first}


def test_slow_senders_hold_no_thread(launch, flavour):
    if not flavour.own:
        pytest.skip("half a request from as many clients as there are threads blocks Gunicorn for good")
    server = start(launch, flavour, "gthread")
    half = request("/pid", method="POST", headers={"Content-Length": "100"}) + b"half"
    with contextlib.ExitStack() as stack:
        for data in [b"GET /pid HT", half] * THREADS:
            client = stack.enter_context(Client(server.address))
            client.send(data)
        for _ in range(10):
            assert server.get("/pid").status == 200


@pytest.mark.own(reason="Gunicorn writes it to the client of the lender, amid whatever that gets")
@pytest.mark.parametrize("what", ["write", "hints"])
def test_no_request_sends_into_the_response_of_another(launch, flavour, kind, what):
    server = start(launch, flavour, kind)
    with server.client() as lender:
        lender.send(request("/lend"))
        wait_for("the lender", lambda: inside(server) == 1)
        answer = server.get(f"/borrow?what={what}")
        assert answer.status == 200
        assert answer.body.startswith(b"refused: "), answer
        (server.workdir / "gate").touch()
        assert lender.response().body == b"its own"
