"""What a worker must not take from its siblings and successors: connections, and their places."""

import contextlib
import json
import re
import signal

import pytest
from harness import is_alive, wait_for
from masters import upgrade, wait_answers
from rawhttp import request

READY = """
def post_worker_init(worker):
    open(f"ready-{worker.pid}", "w").close()
"""
# How long the only worker is busy while its successors answer, in seconds: longer than any of them may take in all.
BUSY_S = 6
ANSWERS = 10
QUEUED = 80


@pytest.fixture(params=["127.0.0.1:0", "unix:server.sock"], ids=["tcp", "unix"])
def bind(request):
    return request.param


@pytest.mark.parametrize(
    "way",
    [
        "/terminated",
        pytest.param("/leaves", marks=pytest.mark.own(reason="Gunicorn's child answers the client of its parent")),
    ],
)
def test_a_child_of_the_application_is_no_worker(launch, way):
    server = launch("forks:app", "-w", "2")
    pids = server.wait_workers(2)
    answered = {server.get(way).body.decode() for _ in range(8)}
    assert answered <= {str(pid) for pid in pids}
    server.settle()
    assert server.workers() == pids
    server.kill(signal.SIGHUP)
    new = server.wait_workers(2, without=pids)
    assert len(re.findall("Booting worker", server.log)) == 4
    assert server.worker_pid() in new


@pytest.mark.own(reason="Gunicorn's children keep its handlers, and hang")
@pytest.mark.parametrize("way", ["/ended", "/pool"])
def test_children_of_the_application_can_be_terminated(launch, way):
    server = launch("forks:app")
    expected = [-signal.SIGTERM] * 10 if way == "/ended" else [number * number for number in range(10)]
    for _ in range(4):
        assert json.loads(server.get(way).body) == expected


@pytest.mark.own
def test_children_of_the_application_have_the_dispositions_of_a_program(launch):
    server = launch("forks:app")
    found = json.loads(server.get("/dispositions").body)
    assert found.pop("blocked") == 0
    assert found.pop("SIGINT") == "default_int_handler"
    assert set(found.values()) == {"SIG_DFL"}, found
    assert server.terminate() == 0


HOOK_WITH_A_CHILD = """
import multiprocessing
import pathlib
import time

def {hook}(server):
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    process.start()
    pathlib.Path("child").write_text(str(process.pid))
    if {ends}:
        process.terminate()
        process.join(10)
        pathlib.Path("status").write_text(str(process.exitcode))
"""


@pytest.mark.own(reason="Gunicorn's children keep its handlers, and hang")
@pytest.mark.parametrize("hook", ["on_starting", "when_ready"])
def test_children_of_hooks_can_be_terminated(launch, hook):
    server = launch("steady:app", config=HOOK_WITH_A_CHILD.format(hook=hook, ends=True))
    assert server.worker_pid()
    assert (server.workdir / "status").read_text() == str(-signal.SIGTERM)


@pytest.mark.own(reason="Gunicorn's children keep its handlers, and hang")
def test_the_end_of_the_server_ends_a_child_of_a_hook(launch):
    """`multiprocessing` terminates its daemons when the master leaves, and waits for them."""
    server = launch("steady:app", config=HOOK_WITH_A_CHILD.format(hook="when_ready", ends=False))
    assert server.worker_pid()
    child = int((server.workdir / "child").read_text())
    assert server.terminate() == 0
    assert not is_alive(child)


def busy(server):
    """A client whose request occupies the only worker."""
    client = server.client()
    client.send(request(f"/begun?token=long&s={BUSY_S}"))
    wait_for("the request to begin", (server.workdir / "begun-long").exists)
    return client


def assert_answers_at_once(server, long, pid):
    """New connections are answered, by somebody else than `pid`, while the request of `long` goes on."""
    for _ in range(ANSWERS):
        assert server.worker_pid() != pid
    long.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        long.sock.recv(1)


@pytest.mark.own(reason="Gunicorn's workers with several threads are not occupied by one request")
@pytest.mark.one_thread
@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGTTIN], ids=lambda signum: signum.name)
def test_a_lone_worker_that_is_busy_keeps_nothing_from_a_new_one(launch, bind, signum):
    """It has its listeners armed while it works, for it was alone when it began."""
    server = launch("steady:app", bind=bind, config=READY)
    (pid,) = server.wait_workers(1)
    with contextlib.closing(busy(server)) as long:
        server.kill(signum)
        wait_for("a second worker", lambda: len(list(server.workdir.glob("ready-*"))) == 2)
        assert_answers_at_once(server, long, pid)


@pytest.mark.own(reason="Gunicorn's workers with several threads are not occupied by one request")
@pytest.mark.one_thread
def test_a_lone_worker_that_is_busy_keeps_nothing_from_another_masters(launch, bind):
    server = launch("steady:app", bind=bind, config=READY)
    (pid,) = server.wait_workers(1)
    with contextlib.closing(busy(server)) as long:
        upgrade(server)
        wait_for("its worker", lambda: len(list(server.workdir.glob("ready-*"))) == 2)
        assert_answers_at_once(server, long, pid)


@pytest.mark.own(reason="Gunicorn resets what waits in the queue of a master that stops")
def test_a_master_that_goes_leaves_the_queue_to_the_other_one(launch, bind):
    """Its workers have a second, and what waits takes them several."""
    server = launch("steady:app", "-w", "1", "--graceful-timeout", "1", bind=bind)
    server.wait_workers(1)
    new = upgrade(server)
    wait_answers(server, new.workers())
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(QUEUED):
            clients.append(stack.enter_context(server.client(timeout=40)))
            # Right behind the connection: who has accepted it has work then, and accepts no further one.
            clients[-1].send(request(f"/echo?token={number}&s=0.1"))
        assert clients[0].response().body == b"0"
        assert server.terminate() == 0
        for number, client in enumerate(clients[1:], start=1):
            assert client.response().body == str(number).encode()
    assert new.worker_pid() in new.workers()


def test_workers_are_recycled_beside_another_master(launch):
    server = launch("steady:app", "-w", "1", "--max-requests", "5")
    server.wait_workers(1)
    new = upgrade(server)
    seen = set()

    def several():
        seen.add(server.worker_pid())
        return len(seen) >= 6

    wait_for("several generations of workers", several)
    assert new.terminate() == 0
