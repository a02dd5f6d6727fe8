"""The application's world stays whole: its signals, timers, threads, children and forks, and its atexit handlers."""

import json
import os
import signal
import time

import pytest
from harness import children, cpu_seconds, wait_for


def size(server, name):
    path = server.workdir / name
    return path.stat().st_size if path.exists() else 0


def wait_growth(server, name, events):
    """Wait until the application has noted that many more events, without sending it a request."""
    before = size(server, name)
    wait_for(f"{events} more events in {name!r}", lambda: size(server, name) >= before + events)


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module("world:app", "--access-logfile", "access.log", "--bind", "unix:server.sock")


def test_signal_handler_runs_while_the_worker_idles(launch):
    server = launch("world:app")
    pid = server.worker_pid()
    for count in range(1, 6):
        os.kill(pid, signal.SIGUSR2)
        wait_for("the handler", lambda count=count: size(server, "usr2") == count)
    assert server.worker_pid() == pid


def test_timer_runs_while_the_worker_idles(launch):
    server = launch("world:app", env={"WORLD_TIMER": "1"})
    pid = server.worker_pid()
    wait_growth(server, "alarm", 20)
    assert server.worker_pid() == pid


def test_timer_does_not_disturb_requests(launch):
    server = launch("world:app", env={"WORLD_TIMER": "1"})
    with server.client() as client:
        for _ in range(300):
            assert client.get("/pid").status == 200
    wait_growth(server, "alarm", 1)


def test_threads_run_while_the_worker_waits(launch):
    server = launch("world:app", env={"WORLD_THREAD": "1"})
    server.worker_pid()
    wait_growth(server, "thread", 20)


def test_thread_inside_a_request(server):
    assert server.get("/thread-in-request").body == b"4999950000"


@pytest.mark.own
def test_timer_inside_a_request(launch):
    """Gunicorn's gthread runs requests off the main thread, where signals arrive."""
    assert launch("world:app").get("/alarm-in-request").body == b"1"


def test_children_inherit_nothing(launch, workdir):
    server = launch(
        "world:app", "--access-logfile", "access.log", "--bind", "unix:server.sock", workdir=workdir,
        errorlog=workdir / "error.log",
    )  # fmt: skip
    with server.client() as idle:
        assert idle.get("/pid").status == 200
        found = json.loads(server.get("/child").body)
    foreign = {fd: link for fd, link in found["links"].items() if int(fd) > 2 and not link.startswith("/proc/")}
    assert foreign == {}
    assert found["blocked"] == 0


def test_child_with_much_output(server):
    assert server.get("/large-child").body == b"1000001"


@pytest.mark.parametrize("end", ["exit", "exec"])
def test_fork_inside_a_request(server, end):
    with server.client() as client:
        for _ in range(3):
            assert client.get(f"/fork?end={end}").body == b"5"
        assert client.get("/pid").status == 200


@pytest.mark.own
def test_forked_child_that_leaves_by_system_exit(server):
    """The child must not answer the parent's client. Gunicorn's sync worker sends a 500 from there, gthread hangs."""
    with server.client() as client:
        assert client.get("/fork?end=system-exit").status == 200
        assert client.get("/pid").status == 200


@pytest.mark.own
@pytest.mark.parametrize(
    ("place", "body"), [("call", b"0"), ("iteration", b"0 end"), ("close", b" end"), ("write", b"7 end")]
)
def test_forked_child_that_comes_back(server, place, body):
    """The child leaves with status 0 and sends nothing: the client is its parent's."""
    with server.client() as client:
        pid = client.get("/pid").body
        assert client.get(f"/fork-returns?from={place}").body == body
        assert client.get("/pid").body == pid
    if place == "close":
        wait_for("the parent", (server.workdir / "closed-0").exists)
        assert not (server.workdir / "closed-child-0").exists()


def test_forked_child_may_outlive_the_request(server):
    with server.client() as client:
        assert client.get("/fork-lives-on").body == b"forked"
        assert client.get("/pid", headers={"Connection": "close"}).status == 200
    wait_for("the child", lambda: size(server, "outlived") == 1)
    assert server.get("/pid").status == 200


def test_multiprocessing(server):
    result, status = json.loads(server.get("/multiprocessing").body)
    assert result == 42
    # The child of a gthread worker fails at its end, when it joins the pool that its only thread belongs to.
    assert status == 0 or not server.flavour.own
    assert server.get("/pid").status == 200


def test_fork_at_import(launch):
    server = launch("world:app", env={"WORLD_FORK": "1"})
    pid = server.worker_pid()
    assert children(pid) == []
    assert server.get("/fork?end=exit").body == b"5"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda signum: signum.name)
def test_atexit_handlers_run(launch, signum):
    server = launch("life:app")
    pid = server.worker_pid()
    assert server.terminate(signum) == 0
    assert (server.workdir / f"atexit.{pid}").read_text() == "ran"


def test_atexit_handlers_run_at_the_end_of_a_recycled_worker(launch):
    server = launch("life:app", "--max-requests", "1")
    pid = server.worker_pid()
    wait_for("the handler", (server.workdir / f"atexit.{pid}").exists)


def test_an_idle_server_sleeps(launch):
    """Master and two workers: under 0.1 s of CPU in 3 s."""
    server = launch("world:app", "-w", "2")
    seen = set()
    wait_for("both workers", lambda: seen.add(server.worker_pid()) or len(seen) == 2)
    pids = [server.pid, *server.workers()]
    before = sum(map(cpu_seconds, pids))
    time.sleep(3)
    assert sum(map(cpu_seconds, pids)) - before < 0.1


def test_an_idle_server_with_an_open_connection_sleeps(launch):
    server = launch("world:app", "--keep-alive", "30")
    with server.client() as client:
        pid = int(client.get("/pid").body)
        before = cpu_seconds(pid)
        time.sleep(1)
        assert cpu_seconds(pid) - before < 0.05
        assert client.get("/pid").status == 200


@pytest.mark.own
def test_closed_standard_streams_are_nobody_elses(launch, tmp_path):
    """A supervisor may start us without them: a socket or pipe of ours with number 2 would get what goes to stderr."""
    shell = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    server = launch("world:app", prefix=shell, errorlog=tmp_path / "errors.txt")
    assert server.get("/pid").status == 200
    for pid in (server.pid, *server.workers()):
        assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
