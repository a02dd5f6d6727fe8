"""Workers share new connections fairly: an idle one always takes them, and long-lived ones spread evenly.

More about the latter is in `test_spread.py`.
"""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from harness import held, is_alive, wait_for
from rawhttp import Client, request

WORKERS = 4
BINDS = {"tcp": "127.0.0.1:0", "ipv6": "[::1]:0", "unix": "unix:server.sock"}
CONNECTIONS = 1000
# The fullest worker holds at most so many times the mean, and not later than this.
UNEVEN_MAX = 1.2
EVEN_WITHIN_S = 5


def launch_all(launch, bind, *args, **options):
    """Four workers that are surely all there: each has answered."""
    server = launch("accepting:app", "-w", str(WORKERS), *args, bind=bind, **options)
    wait_answers(server, server.wait_workers(WORKERS))
    return server


def wait_answers(server, pids):
    """Wait until each of these workers has answered."""
    missing = set(pids)
    wait_for("an answer of every worker", lambda: missing.discard(int(server.get("/pid").body)) or not missing)


@pytest.fixture(params=BINDS.values(), ids=BINDS)
def server(launch, request):
    return launch_all(launch, request.param)


def busy(server):
    """How many requests are inside the application."""
    return len(list(server.workdir.glob("busy-*")))


def begin(stack, server, target="/begin"):
    """A new connection with a request that blocks its worker; an idle connection belongs to a worker already."""
    client = stack.enter_context(Client(server.address))
    client.send(request(target, headers={"Connection": "close"}))
    return client


@pytest.mark.one_thread
@pytest.mark.own(reason="Gunicorn's sync worker does so, too; gthread takes several")
def test_a_burst_goes_to_all_workers(server):
    """As many blocking requests as workers, at once: each worker has one, and none waits behind another."""
    with contextlib.ExitStack() as stack:
        clients = [begin(stack, server) for _ in range(WORKERS)]
        wait_for("all workers to be busy", lambda: busy(server) == WORKERS)
        (server.workdir / "gate").touch()
        assert set(Counter(client.response().body for client in clients).values()) == {1}


@pytest.mark.one_thread
@pytest.mark.own(reason="gthread takes several")
def test_twice_as_many_take_twice_as_long(server):
    """Eight requests of 100 ms on four workers: two each, whatever the clock says.

    On a quiet machine they take little more than 200 ms; the best of five tries has to.
    """
    times = []
    for _ in range(5):
        begun = time.monotonic()
        with contextlib.ExitStack() as stack:
            clients = [begin(stack, server, "/sleep?s=0.1") for _ in range(2 * WORKERS)]
            answers = [client.response() for client in clients]
        times.append(time.monotonic() - begun)
        assert sorted(Counter(answer.body for answer in answers).values()) == [2] * WORKERS
        if times[-1] <= 0.26:
            return
    pytest.fail(f"never within 0.26 s: {times}")


@pytest.mark.one_thread
@pytest.mark.own(reason="a gthread worker is never busy in this sense")
def test_an_idle_worker_answers_while_the_others_are_busy(server):
    """A hundred connections, one after the other, each answered within 100 ms; five may be late for other reasons."""
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(1, WORKERS):
            clients.append(begin(stack, server))
            wait_for("another worker to be busy", lambda number=number: busy(server) == number)
        answers, times = Counter(), []
        for _ in range(100):
            begun = time.monotonic()
            answers[server.get("/pid").body] += 1
            times.append(time.monotonic() - begun)
        (server.workdir / "gate").touch()
        held = {client.response().body for client in clients}
    assert len(answers) == 1
    assert len(held) == WORKERS - 1
    assert not held & set(answers)
    assert sorted(times)[-6] < 0.1


class Crowd:
    """Keep-alive connections, and which worker has each."""

    def __init__(self, address):
        self.address = address
        self.owners = {}

    def open(self, count):
        """All at once, each with a request; the answers are read when all are sent."""
        clients = [Client(self.address) for _ in range(count)]
        for client in clients:
            client.send(request("/pid"))
        for client in clients:
            self.owners[client] = int(client.response().body)

    def open_slowly(self, count):
        """One after the other, each when the one before has been answered, and with pauses."""
        for number in range(count):
            self.open(1)
            if number % 10 == 0:
                time.sleep(0.01)

    def ask(self):
        """All at once: which worker has each now. None is closed."""
        for client in self.owners:
            client.send(request("/pid"))
        for client in self.owners:
            self.owners[client] = int(client.response().body)

    def wait_even(self, pids):
        """Ask until these workers have about as many each."""

        def is_even():
            self.ask()
            return self.unevenness(pids) <= UNEVEN_MAX

        try:
            wait_for("an even spread", is_even, timeout=EVEN_WITHIN_S)
        except AssertionError:
            pytest.fail(f"{Counter(self.owners.values())} after {EVEN_WITHIN_S} s")

    def close(self, clients):
        for client in clients:
            client.close()
            del self.owners[client]

    def unevenness(self, pids):
        """How many times the mean the fullest worker holds."""
        counts = Counter(self.owners.values())
        assert set(counts) <= set(pids), (counts, pids)
        return max(counts.values()) * len(pids) / len(self.owners)


@pytest.fixture
def crowd():
    crowds = []

    def make(address):
        crowds.append(Crowd(address))
        return crowds[-1]

    yield make
    for crowd in crowds:
        crowd.close(list(crowd.owners))


KEEP = ("--keep-alive", "60")


def kill(pid):
    """By SIGKILL, and wait for its end: until then it may still accept."""
    os.kill(pid, signal.SIGKILL)
    wait_for("its end", lambda: not is_alive(pid))


@pytest.mark.own(reason="whoever of Gunicorn's workers comes first takes what there is")
@pytest.mark.parametrize("way", ["open", "open_slowly"])
@pytest.mark.parametrize("bind", BINDS.values(), ids=BINDS)
def test_long_lived_connections_spread_evenly(launch, crowd, bind, way):
    server = launch_all(launch, bind, *KEEP)
    clients = crowd(server.address)
    getattr(clients, way)(CONNECTIONS)
    clients.wait_even(server.workers())


@pytest.mark.own(reason="whoever of Gunicorn's workers comes first takes what there is")
@pytest.mark.parametrize("bind", BINDS.values(), ids=BINDS)
def test_a_new_worker_catches_up(launch, crowd, bind):
    """A worker is killed, its clients come back before its successor is there; then connections come and go.

    The counts become even, without a new connection, and stay so.
    """
    server = launch_all(launch, bind, *KEEP, deaths=True)
    clients = crowd(server.address)
    clients.open(CONNECTIONS)
    victim = server.workers()[0]
    kill(victim)

    def have_ended():
        """The kernel may end them a moment after their worker, and some may have been under way to another one."""
        clients.close([client for client in clients.owners if client.is_closed()])
        return sum(held(server.pid, server.workers())) == len(clients.owners)

    wait_for("the end of its connections", have_ended)
    clients.open(CONNECTIONS - len(clients.owners))
    pids = server.wait_workers(WORKERS, without=[victim])
    wait_answers(server, pids)
    clients.wait_even(pids)
    choose = random.Random(1)
    for _ in range(10):
        clients.close(choose.sample(list(clients.owners), 25))
        clients.open(25)
    clients.wait_even(pids)


@pytest.mark.one_thread
@pytest.mark.own(reason="it is about connections that Gunicorn leaves where they are")
def test_a_blocked_worker_with_few_connections_holds_up_nobody(launch, crowd):
    """The successor of a killed worker has no connections, and one request blocks it: the others do not wait for it."""
    server = launch_all(launch, BINDS["tcp"], *KEEP, deaths=True)
    clients = crowd(server.address)
    clients.open(400)
    victim = server.workers()[0]
    kill(victim)
    clients.close([client for client, pid in clients.owners.items() if pid == victim])
    (new,) = set(server.wait_workers(WORKERS, without=[victim])) - set(clients.owners.values())
    wait_answers(server, [new])
    while new not in clients.owners.values():
        clients.open(1)
    (blocked, *_) = (client for client, pid in clients.owners.items() if pid == new)
    blocked.send(request("/begin"))
    wait_for("the new worker to be busy", lambda: busy(server) == 1)
    clients.open(50)
    times = []
    for _ in range(100):
        begun = time.monotonic()
        clients.open(1)
        times.append(time.monotonic() - begun)
    assert busy(server) == 1
    (server.workdir / "gate").touch()
    assert blocked.response().body == str(new).encode()
    assert Counter(clients.owners.values())[new] < 50
    assert sorted(times)[-6] < 0.1


def cpu_s(pid):
    """Time that the process has been on a CPU, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def wake_ups(pid):
    """How often the process has slept."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


@pytest.mark.own(reason="Gunicorn's workers poll")
@pytest.mark.parametrize("connections", [0, 60], ids=["alone", "uneven"])
def test_idle_processes_sleep(launch, crowd, connections):
    """Also when one worker had all connections: when they are spread it has nothing to look for.

    It had the most, so that there are the 15 for each worker from which on the promise holds.
    """
    server = launch_all(launch, BINDS["tcp"], *KEEP)
    clients = crowd(server.address)
    clients.open(WORKERS * connections)
    favourite, _ = Counter(clients.owners.values()).most_common(1)[0] if connections else (0, 0)
    clients.close([client for client, pid in clients.owners.items() if pid != favourite])
    everyone = [server.pid, *server.workers()]
    if connections:
        clients.wait_even(server.workers())
    before = [cpu_s(pid) for pid in everyone]
    time.sleep(3)
    used = [cpu_s(pid) - earlier for pid, earlier in zip(everyone, before, strict=True)]
    assert sum(used) < 0.05, used


@pytest.mark.one_thread  # With threads there is one more, for the answer.
@pytest.mark.own(reason="Gunicorn's workers all wake up")
@pytest.mark.parametrize("bind", BINDS.values(), ids=BINDS)
def test_a_connection_wakes_one_worker(launch, bind):
    """Of four that sleep. It sleeps again before the request and before the end of the connection at most."""
    server = launch_all(launch, bind)
    pids = server.workers()
    before = {pid: wake_ups(pid) for pid in pids}
    count = 400
    for _ in range(count):
        server.get("/pid", headers={"Connection": "close"})
    woken = sum(wake_ups(pid) - before[pid] for pid in pids) / count
    print(f"{woken:.2f} wake-ups per connection")
    assert woken < 3.5
