"""Hooks: their order, their process and their arguments (tests/confs/every_hook.py notes every call)."""

import contextlib
import os
import re
import signal
import time

import pytest
from conf_files import events, facts, notes, start, wait_notes
from harness import is_alive, wait_for
from rawhttp import request

BOOT = ["post_fork", "post_worker_init"]
START = ["config", "nworkers_changed", "on_starting", "when_ready"]


def started(launch, count=1, **options):
    """A server with every hook, whose workers have run their loops' first turn."""
    args = options.pop("args", ())
    server = start(launch, "every_hook", "--workers", str(count), *args, **options)
    wait_notes(server, "post_worker_init", count)
    pids = server.wait_workers(count)
    server.settle()
    return server, pids


def since(server, seen, pid=None):
    """Names of the events after the first `seen` ones."""
    return events(notes(server)[seen:], pid)


def assert_replaced(server, seen):
    """The master has seen the end of a worker, and made another one. Ours does not wait for the end with that."""
    wait_for("the end of the worker", lambda: {"child_exit", "pre_fork"} <= set(since(server, seen, server.pid)))
    found = since(server, seen, server.pid)
    assert (sorted(found) if server.flavour.own else found) == ["child_exit", "pre_fork"]


def order(server, *wanted):
    """The notes of (event, age) pairs, None for any age: each must be there, each after the one before."""
    found = notes(server)
    at = -1
    for event, age in wanted:
        places = [
            place
            for place, note in enumerate(found)
            if place > at and note["event"] == event and (age is None or note["age"] == age)
        ]
        assert places, f"{event} {age} is not after {found[at] if at >= 0 else None}: {found}"
        at = places[0]


# Starting.


def test_start(launch):
    server, pids = started(launch, 2)
    assert events(notes(server), server.pid) == [*START, "pre_fork", "pre_fork"]
    for pid in pids:
        assert events(notes(server), pid) == BOOT
    order(server, ("pre_fork", 1), ("post_fork", 1), ("post_worker_init", 1))
    order(server, ("when_ready", None), ("pre_fork", 1), ("pre_fork", 2), ("post_fork", 2), ("post_worker_init", 2))


def test_arguments_at_the_start(launch):
    server, pids = started(launch, 2)

    def said(event):
        return [facts(note) for note in notes(server, event)]

    assert said("nworkers_changed") == [{"new": 2, "old": None}]
    # Before the sockets are made, and after.
    assert said("on_starting") == [{"server": server.pid, "listeners": 0}]
    assert said("when_ready") == [{"server": server.pid, "listeners": 1, "workers": 0}]
    first, second = said("pre_fork")
    assert first == {"age": 1, "worker": "[booting]", "known": []}
    assert second["age"] == 2
    assert second["worker"] == "[booting]"
    assert len(second["known"]) == 1
    for note in notes(server, "post_fork"):
        assert (note["worker"], note["booted"], note["loaded"]) == (note["pid"], False, False)
        assert note["ppid"] == server.pid
    for note in notes(server, "post_worker_init"):
        assert (note["booted"], note["loaded"]) == (False, True)
    assert {note["pid"] for note in notes(server, "post_fork")} == set(pids)


def test_preloaded_applications_are_loaded_before_the_start(launch):
    server, _ = started(launch, args=["--preload"])
    assert [note["loaded"] for note in notes(server, "post_fork", "post_worker_init")] == [True, True]
    assert events(notes(server), server.pid) == [*START, "pre_fork"]


def test_one_request(launch):
    server, (pid,) = started(launch)
    server.get("/created")
    wait_notes(server, "post_request")
    assert events(notes(server), pid) == [*BOOT, "pre_request", "post_request"]
    before, after = notes(server, "pre_request", "post_request")
    assert facts(before) == {"age": 1, "method": "GET", "path": "/created", "nr": 0}
    assert facts(after) == {"age": 1, "path": "/created", "nr": 1, "status": "201 Created", "environ": True}


def test_requests_that_fail(launch):
    """An application's error has both hooks, bytes that are no request have none."""
    server, _ = started(launch)
    assert server.get("/raise").status == 500
    (note,) = wait_notes(server, "post_request")
    assert note["environ"]
    assert note["path"] == "/raise"
    assert server.exchange(b"GET /\r\n\r\n").status == 400
    assert server.exchange(b"GET / HTTP/1.1\r\nno colon\r\n\r\n").status == 400
    server.get("/created")
    wait_notes(server, "post_request", 2)
    assert [note["path"] for note in notes(server, "pre_request", "post_request")] == ["/raise"] * 2 + ["/created"] * 2


# Ending.


def test_term(launch):
    server, pids = started(launch, 2)
    seen = len(notes(server))
    assert server.terminate(signal.SIGTERM) == 0
    for pid in pids:
        assert since(server, seen, pid) == ["worker_exit"]
    assert since(server, seen, server.pid) == ["child_exit", "child_exit", "on_exit"]
    for age in (1, 2):
        order(server, ("worker_exit", age), ("child_exit", age), ("on_exit", None))
    for note in notes(server, "child_exit"):
        assert (note["worker"] in pids, note["known"], note["aborted"]) == (True, False, False)
    for note in notes(server, "worker_exit"):
        assert (note["worker"], note["server"]) == (note["pid"], server.pid)
    assert facts(notes(server, "on_exit")[0]) == {"workers": 0, "listeners": 0}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT], ids=lambda signum: signum.name)
def test_quick_stop(launch, signum):
    server, pids = started(launch, 2)
    seen = len(notes(server))
    assert server.terminate(signum) == 0
    for pid in pids:
        assert since(server, seen, pid) == ["worker_int", "worker_exit"]
    assert since(server, seen, server.pid) == ["child_exit", "child_exit", "on_exit"]
    assert [note["alive"] for note in notes(server, "worker_int")] == [False, False]


@pytest.mark.own(reason="Gunicorn runs worker_int once for each signal, and then not worker_exit")
@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT], ids=lambda signum: signum.name)
def test_a_signal_to_the_whole_group(launch, signum, state):
    """Ctrl-C at a terminal, pressed again: the workers get it from there, and QUIT from the master."""
    interrupt_group(launch, signum, state)


@pytest.mark.own(reason="Gunicorn runs worker_int once for each signal, and then not worker_exit")
@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_signal_to_the_whole_group_in_greenlets(launch_gevent, state):
    interrupt_group(launch_gevent, signal.SIGINT, state)


def interrupt_group(launch, signum, state):
    server, pids = started(launch, 2)
    seen = len(notes(server))
    with server.client() as client:
        if state == "busy":
            client.send(request("/sleep?s=30"))
            wait_notes(server, "pre_request")
        for _ in range(3):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signum)
            time.sleep(0.03)
        assert server.wait_exit() == 0
    for pid in pids:
        ends = [event for event in since(server, seen, pid) if event.startswith("worker")]
        assert ends == ["worker_int", "worker_exit"]
    assert not re.search("SystemExit|Exception during|Unhandled", server.all_output()), server.all_output()


@pytest.mark.parametrize(
    ("signum", "first"),
    [(signal.SIGTERM, []), (signal.SIGINT, ["worker_int"]), (signal.SIGABRT, ["worker_abort"])],
    ids=lambda value: getattr(value, "name", ""),
)
def test_signals_to_a_worker(launch, signum, first):
    server, (pid,) = started(launch, deaths=True)
    seen = len(notes(server))
    os.kill(pid, signum)
    wait_notes(server, "post_worker_init", 2)
    assert_replaced(server, seen)
    assert since(server, seen, pid) == [*first, "worker_exit"]
    order(server, ("worker_exit", 1), ("child_exit", 1))
    order(server, ("pre_fork", 2), ("post_fork", 2), ("post_worker_init", 2))
    assert not notes(server, "child_exit")[0]["aborted"]


def test_a_killed_worker(launch):
    server, (pid,) = started(launch, deaths=True)
    seen = len(notes(server))
    os.kill(pid, signal.SIGKILL)
    wait_notes(server, "post_worker_init", 2)
    assert_replaced(server, seen)
    assert since(server, seen, pid) == []
    assert notes(server, "child_exit")[0]["worker"] == pid


def test_max_requests(launch):
    server, (pid,) = started(launch, args=["--max-requests", "2"])
    seen = len(notes(server))
    with server.client() as client:
        client.get("/")
        client.get("/")
    wait_notes(server, "post_worker_init", 2)
    assert_replaced(server, seen)
    assert since(server, seen, pid) == ["pre_request", "post_request"] * 2 + ["worker_exit"]


# Time-outs.


def test_timeout_without_a_request(launch, workdir):
    """The main thread hangs in a signal handler: with every type of worker it is the one that beats."""
    (workdir / "hanging.py").write_text(
        "import signal, time\n"
        "from team_app import app\n"
        "def hang(signum, frame):\n"
        "    time.sleep(60)\n"
        "signal.signal(signal.SIGALRM, hang)\n"
    )
    env = {"PYTHONPATH": os.pathsep.join([str(workdir), os.path.join(os.path.dirname(__file__), "../apps")])}
    server, (pid,) = started(launch, workdir=workdir, app="hanging:app", args=["--timeout", "1"], deaths=True, env=env)
    assert server.worker_pid() == pid
    wait_notes(server, "post_request")
    server.settle()
    seen = len(notes(server))
    os.kill(pid, signal.SIGALRM)
    wait_notes(server, "post_worker_init", 2)
    server.wait_log(rf"WORKER TIMEOUT \(pid:{pid}\)")
    assert_replaced(server, seen)
    assert since(server, seen, pid) == ["worker_abort", "worker_exit"]
    assert notes(server, "child_exit")[0]["aborted"]
    assert notes(server, "worker_abort")[0]["alive"] is False


@pytest.mark.one_thread
def test_timeout_of_a_request(launch):
    server, (pid,) = started(launch, args=["--timeout", "1", "--threads", "1"], deaths=True)
    seen = len(notes(server))
    with server.client() as client:
        client.send(request("/sleep?s=60"))
        assert b"200" not in client.rest()
    wait_notes(server, "post_worker_init", 2)
    assert_replaced(server, seen)
    assert since(server, seen, pid) == ["pre_request", "worker_abort", "post_request", "worker_exit"]
    (note,) = notes(server, "post_request")
    # A response object there was; its status had not been set.
    assert (note["path"], note["status"], note["environ"], note["nr"]) == ("/sleep", None, True, 1)
    assert notes(server, "child_exit")[0]["aborted"]


# More, fewer, other workers.


def test_ttin_and_ttou(launch):
    server, (pid,) = started(launch)
    seen = len(notes(server))
    server.kill(signal.SIGTTIN)
    wait_notes(server, "post_worker_init", 2)
    assert since(server, seen, server.pid) == ["nworkers_changed", "pre_fork"]
    seen = len(notes(server))
    server.kill(signal.SIGTTOU)
    wait_notes(server, "child_exit")
    assert since(server, seen, server.pid) == ["nworkers_changed", "child_exit"]
    # The oldest leaves.
    assert since(server, seen, pid) == ["worker_exit"]
    assert [facts(note) for note in notes(server, "nworkers_changed")] == [
        {"new": 1, "old": None}, {"new": 2, "old": 1}, {"new": 1, "old": 2},
    ]  # fmt: skip
    seen = len(notes(server))
    # Never below one, and no hook then.
    server.kill(signal.SIGTTOU)
    server.wait_log("Handling signal: ttou", count=2)
    server.get("/")
    assert "nworkers_changed" not in since(server, seen)


def test_hup(launch):
    server, pids = started(launch, 2)
    seen = len(notes(server))
    server.kill(signal.SIGHUP)
    wait_notes(server, "child_exit", 2)
    wait_notes(server, "post_worker_init", 4)
    found = since(server, seen, server.pid)
    assert found[:5] == ["config", "nworkers_changed", "on_reload", "pre_fork", "pre_fork"]
    assert found[5:] == ["child_exit", "child_exit"]
    for pid in pids:
        assert since(server, seen, pid) == ["worker_exit"]
    for age in (3, 4):
        order(server, ("on_reload", None), ("pre_fork", age), ("post_fork", age), ("post_worker_init", age))
    assert facts(notes(server, "nworkers_changed")[-1]) == {"new": 2, "old": 2}
    # The start's hooks are for the start.
    assert len(notes(server, "on_starting", "when_ready")) == 2


def test_usr2(launch):
    server, (pid,) = started(launch, args=["--pid", "server.pid"])
    seen = len(notes(server))
    server.kill(signal.SIGUSR2)
    wait_notes(server, "post_worker_init", 2)
    (before,) = notes(server, "pre_exec")
    new = before["pid"]
    try:
        # In the child that becomes the new master; the object still says who the old one is.
        assert before["ppid"] == server.pid != new
        assert facts(before) == {"server": server.pid, "reexec_pid": 0}
        assert since(server, seen, new) == ["pre_exec", *START, "pre_fork"]
        assert since(server, seen, server.pid) == []
        starting, ready = notes(server, "on_starting", "when_ready")[-2:]
        assert (starting["server"], starting["listeners"]) == (new, 0)
        assert (ready["listeners"], ready["workers"]) == (1, 0)
        assert notes(server, "pre_fork")[-1]["age"] == 1
        server.settle()
        assert server.terminate(signal.SIGTERM) == 0
        assert since(server, seen, pid) == ["worker_exit"]
        assert since(server, seen, server.pid) == ["child_exit", "on_exit"]
        assert server.get("/created").status == 201
    finally:
        os.kill(new, signal.SIGTERM)
    wait_for("the new master to leave", lambda: not is_alive(new))
    assert events(notes(server), new)[-2:] == ["child_exit", "on_exit"]


# Objects.


def objects(launch):
    """Everything that tests/confs/objects.py notes in the life of a server."""
    server = start(launch, "objects")
    with server.client() as client:
        client.send(
            b"POST /created?a=b#c HTTP/1.1\r\nHost: shop\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: 2\r\n\r\nhi"
        )
        assert client.response().status == 201
    wait_notes(server, "post_request")
    assert server.terminate() == 0
    return server, {note["event"]: note for note in notes(server)}


def test_every_attribute_is_there(launch):
    _, found = objects(launch)
    assert {event: note["missing"] for event, note in found.items() if note.get("missing")} == {}
    assert {event for event, note in found.items() if note.get("writable") is False} == set()
    assert sorted(found) == sorted(
        ["on_starting", "when_ready", "pre_fork", "post_worker_init", "pre_request", "post_request", "on_exit"]
    )


def test_the_server_object(launch):
    server, found = objects(launch)
    host, port = server.address
    assert found["on_starting"] | {
        "pid": server.pid, "logger": True, "workers": "dict", "context": ["0", "args", "cwd"],
    } == found["on_starting"]  # fmt: skip
    assert found["when_ready"] | {
        "text": f"http://{host}:{port}", "name": [host, port], "address": [[host, 0]], "listening": True,
        "worker_class": True, "master_pid": 0, "reexec_pid": 0, "systemd": False, "pidfile": None,
        "proc_name": "team_app:app",
    } == found["when_ready"]  # fmt: skip
    assert found["on_exit"] | {
        "value": None, "got": 1, "size": True, "base": True, "is_ssl": False, "ids": [os.geteuid(), os.getegid()],
    } == found["on_exit"]  # fmt: skip
    assert found["on_exit"]["software"].endswith("/" + found["on_exit"]["version"])


def test_the_worker_object(launch):
    server, found = objects(launch)
    before, after = found["pre_fork"], found["post_worker_init"]
    assert before | {
        "booting": "[booting]", "text": "<Worker [booting]>", "age": 1, "ppid": server.pid, "timeout": 15.0, "nr": 0,
        "alive": True, "booted": False, "unlimited": 2**63 - 1, "sockets": 1, "same": [True, True, True],
    } == before  # fmt: skip
    assert after | {
        "text": f"<Worker {after['pid']}>", "worker": after["pid"], "loaded": [True, True, True], "beaten": True,
        "app_uri": "team_app:app", "fileno": True,
    } == after  # fmt: skip


def test_the_request_and_the_response_object(launch):
    _, found = objects(launch)
    before, after = found["pre_request"], found["post_request"]
    peer = before["peer"]
    assert peer[0] == "127.0.0.1"
    assert before | {
        "method": "POST", "uri": "/created?a=b#c", "path": "/created", "query": "a=b", "fragment": "c",
        "version": [1, 1], "version_type": "tuple",
        "headers": [["HOST", "shop"], ["X-TWO", "1"], ["X-TWO", "2"], ["CONTENT-LENGTH", "2"]],
        "trailers": [], "scheme": "http", "remote": peer, "proxy": None, "number": 1, "close": False, "body": True,
    } == before  # fmt: skip
    assert after | {
        "status": "201 Created", "status_code": 201, "headers_sent": True, "sent": 4, "length": 4, "chunked": False,
        "headers": [["Content-Type", "text/plain"], ["Content-Length", "4"], ["X-Made", "yes"]],
        "environ": "/created", "kind": "dict", "same": True,
    } == after  # fmt: skip
