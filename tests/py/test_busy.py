"""No request waits behind a worker that is inside the application while another one has time.

The busy ones end when the test lets them: until then all others must have been answered.
"""

import contextlib
import hashlib
import os

import pytest
from harness import wait_for
from rawhttp import request

WORKERS = 4
CLIENTS = 120
KEEPALIVE = ("--keep-alive", "120")

pytestmark = pytest.mark.own(reason="a connection of Gunicorn's stays with its worker")


@pytest.fixture(params=["127.0.0.1:0", "unix:server.sock"], ids=["tcp", "unix"])
def bind(request):
    return request.param


class Scene:
    """A server with clients, each of which knows its worker."""

    def __init__(self, server, stack, workers=WORKERS, threads=1, clients=CLIENTS):
        self.server = server
        self.threads = threads
        # All have booted, so the kernel deals connections out evenly, and none goes to another worker for that.
        server.wait_log(r"Worker \d+ runs ", count=workers)
        self.free = {}
        for number in range(clients):
            client = stack.enter_context(server.client())
            self.free.setdefault(self.ask(client, number), []).append(client)
        self.busy = []

    @staticmethod
    def ask(client, token):
        """The worker that answers on this connection now."""
        answer = client.get(f"/echo?token={token}")
        assert (answer.status, answer.body) == (200, str(token).encode())
        assert answer.header("Connection") != "close"
        return int(answer.header("X-Pid"))

    def fullest(self):
        """The worker with the most connections that are not busy."""
        return max(self.free, key=lambda pid: len(self.free[pid]))

    def keep_busy(self, workers):
        """Take all threads of so many workers."""
        for pid in sorted(self.free, key=lambda pid: -len(self.free[pid]))[:workers]:
            self.keep_busy_at(pid)

    def keep_busy_at(self, pid):
        """Take all threads of a worker."""
        for _ in range(self.threads):
            client, token = self.free[pid].pop(), len(self.busy)
            client.send(request(f"/until?token={token}"))
            self.busy.append(client)
            wait_for("it to begin", (self.server.workdir / f"begun-{token}").exists)

    def others(self):
        """The connections that are not busy."""
        return [client for clients in self.free.values() for client in clients]

    def end(self):
        """Let the busy ones end; their answers."""
        for token in range(len(self.busy)):
            (self.server.workdir / f"over-{token}").touch()
        return [client.response() for client in self.busy]

    def assert_others_are_answered(self):
        for number, client in enumerate(self.others()):
            self.ask(client, number)

    def assert_all_is_well(self):
        """The busy ones have not ended before, get their answers, and no connection is closed."""
        assert not any(client.has_input() for client in self.busy)
        assert [(answer.status, answer.body) for answer in self.end()] == [
            (200, str(token).encode()) for token in range(len(self.busy))
        ]
        for client in self.busy + self.others():
            self.ask(client, "last")


@pytest.fixture
def scene(launch, flavour, bind):
    """All threads of some workers can be taken."""
    with contextlib.ExitStack() as stack:
        threads = 4 if flavour.threads else 1
        yield Scene(launch("steady:app", "-w", str(WORKERS), *KEEPALIVE, bind=bind), stack, threads=threads)


@pytest.mark.parametrize("workers", [1, WORKERS - 1])
def test_others_are_answered(scene, workers):
    scene.keep_busy(workers)
    for _ in range(3):
        scene.assert_others_are_answered()
    scene.assert_all_is_well()


def test_requests_that_come_all_at_once(scene):
    """More than one worker takes at a time, and several of each client."""
    scene.keep_busy(1)
    for client in scene.others():
        client.send(*[request(f"/echo?token={number}") for number in range(3)])
    for client in scene.others():
        assert [client.response().body for _ in range(3)] == [b"0", b"1", b"2"]
    scene.assert_all_is_well()


@pytest.mark.one_thread  # Threads begin with an upload before all of it is there.
def test_an_upload_that_is_half_there_waits_and_the_rest_does_not(scene):
    body = os.urandom(1 << 20)
    pid = scene.fullest()
    upload = scene.free[pid].pop()
    upload.send(request("/digest", method="POST", headers={"Content-Length": str(len(body))}))
    upload.send(body[: len(body) // 2])
    scene.keep_busy_at(pid)
    scene.assert_others_are_answered()
    assert not upload.has_input()
    scene.assert_all_is_well()
    upload.send(body[len(body) // 2 :])
    assert upload.response().body == hashlib.sha256(body).hexdigest().encode()
    scene.ask(upload, "last")


def test_small_uploads(scene):
    scene.keep_busy(1)
    body = b"x" * 3000
    for client in scene.others():
        client.send(request("/digest", method="POST", headers={"Content-Length": str(len(body))}) + body)
    for client in scene.others():
        assert client.response().body == hashlib.sha256(body).hexdigest().encode()
    scene.assert_all_is_well()


def test_a_greenlet_that_computes(launch_gevent):
    with contextlib.ExitStack() as stack:
        server = launch_gevent("steady:app", "-w", str(WORKERS), *KEEPALIVE)
        scene = Scene(server, stack)
        scene.keep_busy(1)
        scene.assert_others_are_answered()
        scene.assert_all_is_well()


@pytest.mark.one_thread
def test_an_application_that_forks(launch):
    """Neither the child nor its parent has a thread more than without a helper, or CPython would warn of them.

    The helper is there again for the next request. Without the thread that watches for long requests.
    """
    with contextlib.ExitStack() as stack:
        server = launch("steady:app", "-w", str(WORKERS), "--loop-block-warning", "0", *KEEPALIVE)
        scene = Scene(server, stack)

        def has_helper(client):
            return len(os.listdir(f"/proc/{scene.ask(client, 'any')}/task")) == 2

        for client in scene.others()[:20]:
            wait_for("a helper", lambda client=client: has_helper(client))
            assert client.get("/fork").body == b"1 1"
        scene.keep_busy(1)
        scene.assert_others_are_answered()
        scene.assert_all_is_well()


def test_switched_off(launch, flavour):
    """Then they wait, as for any other server."""
    with contextlib.ExitStack() as stack:
        server = launch("steady:app", "-w", "2", "--no-handoff", *KEEPALIVE)
        server.wait_log(r"Worker \d+ runs .*; no handoff\n", count=2)
        scene = Scene(server, stack, 2, 4 if flavour.threads else 1, 40)
        pid = scene.fullest()
        scene.keep_busy(1)
        for client in scene.free[pid]:
            client.send(request("/echo?token=1"))
        # The other one has answered twice, and has had time for these as well.
        for client in [each for other in scene.free if other != pid for each in scene.free[other] * 2]:
            scene.ask(client, 1)
        assert not any(client.has_input() for client in scene.free[pid])
        scene.end()
        assert all(client.response().header("X-Pid") == str(pid) for client in scene.free[pid])
