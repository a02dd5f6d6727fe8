"""Files of tests/confs that are made of hooks: what teams do in them, seen from outside."""

import json
import os
import signal
from pathlib import Path

import pytest
from conf_files import events, facts, notes, start, wait_notes
from harness import APPS, is_alive, wait_for
from masters import upgrade
from rawhttp import request

pytestmark = pytest.mark.one_driver


def wait_seen(server, count):
    """Pids of the workers, once every one of them has answered."""
    pids = server.wait_workers(count)
    seen = set()

    def all_answered():
        seen.add(server.worker_pid())
        return seen >= set(pids)

    wait_for(f"answers of {pids}", all_answered)
    return pids


# Metrics, traces, drivers.


def test_prometheus(launch, workdir):
    metrics = workdir / "metrics"
    metrics.mkdir()
    (metrics / "gauge_liveall_1.db").touch()
    server = start(launch, "prometheus", workdir=workdir)
    pids = wait_seen(server, 2)

    def files():
        return sorted(path.name for path in metrics.iterdir())

    assert files() == sorted(f"gauge_liveall_{pid}.db" for pid in pids)
    os.kill(pids[0], signal.SIGTERM)
    (note,) = wait_notes(server, "mark_process_dead")
    assert (note["pid"], note["dead"]) == (server.pid, pids[0])
    new = server.wait_workers(2, without=pids[:1])
    wait_for("the new worker's file", lambda: files() == sorted(f"gauge_liveall_{pid}.db" for pid in new))
    assert server.terminate() == 0
    assert files() == []


def test_opentelemetry(launch):
    server = start(launch, "opentelemetry")
    pids = wait_seen(server, 2)
    asked = server.worker_pid()
    spans = wait_notes(server, "span", span="GET /pid", worker=asked)
    assert {note["pid"] for note in spans} == {asked}
    assert {note["service"] for note in spans} == {"shop"}
    for pid in pids:
        server.wait_log(rf"\[{pid}\] \[INFO\] Worker spawned \(pid: {pid}\)")
    assert server.terminate() == 0
    assert sorted(note["pid"] for note in wait_notes(server, "shutdown", 2)) == pids


def test_psycogreen(launch):
    server = start(launch, "psycogreen")
    pids = wait_seen(server, 2)
    assert sorted(note["pid"] for note in notes(server, "patched")) == pids
    server.wait_log("Made Psycopg2 Green", count=2)


# Dumps.


def test_frames_of_an_aborted_worker(launch):
    server = start(launch, "abort_frames", deaths=True)
    pid = server.worker_pid()
    server.settle()
    os.kill(pid, signal.SIGABRT)
    server.wait_log(r"worker received SIGABRT signal")
    server.wait_log(r"(?s)\[CRITICAL\] \n.*# Thread: MainThread\(\d+\)\nFile: .*, in worker_abort\n")
    server.wait_log(rf"\[ERROR\] Worker \(pid:{pid}\) exited with code 1\.")
    server.wait_workers(1, without=[pid])


def test_faulthandler_of_an_aborted_worker(launch):
    server = start(launch, "abort_faulthandler", deaths=True)
    pid = server.worker_pid()
    server.settle()
    os.kill(pid, signal.SIGABRT)
    server.wait_workers(1, without=[pid])
    text = (server.workdir / f"worker-{pid}.log").read_text()
    assert text.startswith(f"worker {pid} aborted after 1 requests\n")
    assert 'most recent call first):\n  File "' in text
    assert ", line 12 in worker_abort\n" in text


def test_threads_of_an_interrupted_worker(launch):
    server = start(launch, "int_dump", deaths=True)
    pid = server.worker_pid()
    server.settle()
    os.kill(pid, signal.SIGINT)
    (note,) = wait_notes(server, "worker_int")
    assert note["pid"] == pid
    assert note["main"]
    assert {"MainThread", "housekeeping"} <= set(note["names"])
    server.wait_log(rf"\[{pid}\] \[INFO\] worker received INT or QUIT signal")


# Memory.


def test_tuned_garbage_collection(launch):
    server = start(launch, "gc_tuning")
    server.wait_log("froze True")
    for _ in range(4):
        assert json.loads(server.get("/gc").body) == [True, [50000, 20, 20]]


def test_preloaded_connections_are_dropped(launch):
    server = start(launch, "preload_dispose")
    for pid in wait_seen(server, 2):
        server.wait_log(rf"worker {pid} dropped the master's connections")
    for _ in range(4):
        assert json.loads(server.get("/engine").body) == [server.pid, None, 1]


def test_a_worker_that_is_too_large_stops(launch):
    server = start(launch, "stop_after")
    pid = server.worker_pid()
    assert server.get("/health").body == b"healthy"
    server.wait_log(rf"worker {pid} is too large after 2 requests")
    server.wait_workers(1, without=[pid])
    assert server.worker_pid() != pid
    assert notes(server, "worker_exit")[0]["alive"] is False
    assert "exited with code" not in server.log


# The master's own tasks.


def test_a_file_for_the_front_end(launch):
    server = start(launch, "ready_file")
    wait_for("the file", (server.workdir / "app-initialized").exists)
    assert server.get().status == 200


def test_a_thread_of_the_master(launch):
    server = start(launch, "ready_thread")
    server.worker_pid()
    ticks = len(notes(server, "tick"))
    found = wait_notes(server, "tick", ticks + 3)
    assert {note["pid"] for note in found} == {server.pid}
    assert found[-1]["workers"] == 1
    assert all("scheduler" not in note["threads"] for note in notes(server, "post_fork"))
    assert server.terminate() == 0
    assert "on_exit" in events(notes(server))


def test_a_thread_of_the_master_does_not_disturb_new_workers(launch):
    """Forks happen while it runs."""
    server = start(launch, "ready_thread")
    for count in (2, 3):
        server.kill(signal.SIGTTIN)
        wait_seen(server, count)
    assert server.terminate() == 0


def test_attributes_of_the_server(launch):
    server = start(launch, "attributes")
    wait_seen(server, 2)
    changes = [facts(note) for note in notes(server, "nworkers_changed")]
    assert changes == [{"new": 1, "old": None, "known": False}, {"new": 2, "old": 1, "known": True}]
    forks = notes(server, "post_fork")
    assert [(note["ready"], note["providers"]) for note in forks] == [(True, ["flags"])] * 2
    assert server.terminate() == 0
    assert notes(server, "on_exit")[0]["ready"] is True


# Workers.


def test_titles_and_a_wrapped_signal_handler(launch):
    server = start(launch, "worker_init")
    pid = server.worker_pid()
    assert Path(f"/proc/{pid}/comm").read_text() == "shop 1\n"
    assert notes(server, "post_worker_init")[0]["callable"]
    with server.client() as client:
        client.send(request("/sleep?s=0.5"))
        wait_for("the request to start", (server.workdir / "started").exists)
        assert server.terminate() == 0
        assert client.response().status == 200
    assert events(notes(server), pid) == ["post_worker_init", "leave", "left"]
    assert facts(notes(server, "leave")[0]) == {"signum": signal.SIGTERM, "alive": True}
    assert facts(notes(server, "left")[0]) == {"alive": False}


def test_numbered_workers(launch):
    server = start(launch, "numbered", deaths=True)
    pids = wait_seen(server, 2)
    slots = {note["pid"]: note["slot"] for note in notes(server, "post_fork")}
    assert sorted(slots.values()) == [1, 2]
    assert [note["slots"] for note in notes(server, "post_fork")] in ([[1], [1, 2]], [[1, 2], [1]])
    for slot in (1, 2):
        wait_notes(server, "post_request", slot=slot)
    assert {note["lost"] for note in notes(server, "post_request")} == {"set in the worker"}
    os.kill(pids[0], signal.SIGKILL)
    (note,) = wait_notes(server, "child_exit")
    # What a worker sets after the fork stays there.
    assert facts(note) == {"slot": slots[pids[0]], "worker": pids[0], "lost": None}
    assert note["pid"] == server.pid
    (new,) = set(wait_seen(server, 2)) - set(pids)
    assert wait_notes(server, "post_fork", pid=new)[0]["slot"] == slots[pids[0]]


def test_limits_for_each_worker(launch):
    server = start(launch, "own_limits")
    with server.client() as client:
        first = int(client.get("/pid").body)
        client.get("/")
        assert client.get("/").header("Connection") == "close"
    server.wait_log("Autorestarting worker after current request")
    found = wait_notes(server, "post_request", 3, pid=first)
    assert [(note["nr"], note["alive"], note["closes"]) for note in found] == [
        (1, True, False), (2, True, False), (3, False, True),
    ]  # fmt: skip
    server.wait_workers(1, without=[first])
    assert [note["limit"] for note in wait_notes(server, "post_worker_init", 2)] == [3, 4]


def test_requests_are_counted(launch):
    server = start(launch, "counted")
    with server.client() as client:
        for _ in range(3):
            assert client.get("/").status == 200
    wait_notes(server, "post_request", 3)
    server.get("/")
    assert [note["nr"] for note in wait_notes(server, "post_request", 4)] == [1, 100, 101, 102]
    before = notes(server, "pre_request")
    assert [note["nr"] for note in before] == [0, 1, 100, 101]
    # Counted from 1 on each connection.
    assert [note["number"] for note in before] == [1, 2, 3, 1]


def test_a_worker_class_of_ones_own(launch):
    server = start(launch, "own_worker")
    pid = server.worker_pid()
    server.get("/")
    assert {note["pid"] for note in wait_notes(server, "post_request", 2)} == {pid}
    assert facts(notes(server, "post_request")[0]) == {"extra": "made in init_process", "kind": "TeamWorker"}
    assert server.terminate() == 0
    assert events(notes(server), pid) == ["init_process", "post_request", "post_request", "handle_exit"]


@pytest.mark.parametrize("how", ["stop", "recycled"])
def test_flushing_at_the_end_of_a_worker(launch, how):
    server = start(launch, "flush_at_exit", *(["--max-requests", "2"] if how == "recycled" else []))
    pid = server.worker_pid()
    server.get("/created")
    if how == "stop":
        assert server.terminate() == 0
    wait_for("the worker to leave", lambda: not is_alive(pid))
    wait_notes(server, "atexit", pid=pid)
    assert events(notes(server), pid) == ["flushed", "atexit"]
    (note,) = notes(server, "flushed")
    assert sorted(note["paths"]) == ["/created", "/pid"]
    assert note["log"]


# Requests.


def test_timers(launch):
    server = start(launch, "timers")
    for count, path in enumerate(["/", "/sleep?s=0.3", "/raise"], 1):
        server.get(path)
        wait_notes(server, "timed", count)
    found = [facts(note) for note in wait_notes(server, "timed", 3)]
    assert [(note["path"], note["seen"], note["left"], note["same"]) for note in found] == [
        ("/", 1, 0, True), ("/sleep", 2, 0, True), ("/raise", 3, 0, True),
    ]  # fmt: skip
    assert [note["status"] for note in found[:2]] == ["200 OK", "200 OK"]
    server.wait_log(r"\[WARNING\] slow request: GET /sleep\?s=0\.3 took 0\.\d+ s")


def test_edited_headers(launch):
    server = start(launch, "edit_headers")
    data = request("/environ?a=b", headers={"X-Internal": "1", "X-Please": "secure", "X-Kept": "kept"})
    environ = json.loads(server.exchange(data).body)
    assert "HTTP_X_INTERNAL" not in environ
    assert environ["HTTP_X_KEPT"] == "kept"
    assert environ["HTTP_X_REQUEST_ID"] == "00000000-0000-0000-0000-000000000007"
    assert environ["HTTP_X_QUERY"] == "GET|/environ|a=b||(1, 1)"
    assert environ["wsgi.url_scheme"] == "https"
    environ = json.loads(server.exchange(request("/environ", headers={"X-Request-Id": "mine"})).body)
    assert environ["HTTP_X_REQUEST_ID"] == "mine"
    assert environ["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("post_request_two", {}),
        ("post_request_three", {"query": "a=b"}),
        ("post_request_four", {"query": "a=b", "status": "201 Created", "fields": 3}),
    ],
)
def test_arguments_of_post_request(launch, name, said):
    server = start(launch, name)
    server.get("/created?a=b")
    (note,) = wait_notes(server, "post_request")
    assert facts(note) == {"path": "/created", **said}


def test_hooks_by_their_paths(launch):
    server = start(launch, "by_path")
    server.get("/created")
    assert [facts(note) for note in wait_notes(server, "post_request")] == [{"path": "/created", "status": 201}]
    assert notes(server, "when_ready")[0]["pid_of_server"] == server.pid
    assert notes(server, "post_fork")[0]["age"] == 1


# Agents, which wrap the application.

WRAP = """
def wrap(app, word):
    def wrapped(environ, start_response):
        def start(status, headers, exc_info=None):
            return start_response(status, [*headers, ("X-Wrapped", word)], exc_info)
        return app(environ, start)
    return wrapped
"""
WRAPPED = {
    "worker.wsgi": """
def post_worker_init(worker):
    worker.wsgi = wrap(worker.wsgi, "worker.wsgi")
""",
    "Application.wsgi": """
def post_fork(server, worker):
    from gunicorn.app.base import Application
    wsgi = Application.wsgi
    Application.wsgi = lambda self: wrap(wsgi(self), "Application.wsgi")
""",
    "WSGIApplication.load": """
def on_starting(server):
    from gunicorn.app.wsgiapp import WSGIApplication
    load = WSGIApplication.load
    WSGIApplication.load = lambda self: wrap(load(self), "WSGIApplication.load")
""",
}
REPLACED = {
    "pre_request": """
def pre_request(worker, req):
    if req.query == "replace":
        worker.wsgi = wrap(worker.wsgi, "pre_request")
""",
    "thread": """
import pathlib
import threading
import time

def post_worker_init(worker):
    def replace():
        while not pathlib.Path("replace").exists():
            time.sleep(0.01)
        worker.wsgi = wrap(worker.wsgi, "thread")

    threading.Thread(target=replace, daemon=True).start()

def pre_request(worker, req):
    if req.query == "replace":
        pathlib.Path("replace").touch()
""",
}
# As agents do that are there before everything else: they wait for the import of a module.
AGENT = """
import importlib.util
import sys

class Finder:
    @staticmethod
    def find_spec(name, path, target=None):
        if name != "gunicorn.app.base":
            return None
        sys.meta_path.remove(Finder)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            wsgi = module.Application.wsgi
            module.Application.wsgi = lambda self: wrap(wsgi(self), "agent")

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder)
"""


@pytest.mark.parametrize("how", list(WRAPPED))
@pytest.mark.parametrize("preload", [False, True])
def test_wrapped_applications(launch, how, preload):
    if preload and how == "WSGIApplication.load":
        pytest.skip("it has been loaded by then")
    server = launch("life:app", *(["--preload"] if preload else []), config=WRAP + WRAPPED[how])
    assert server.get("/pid").header("X-Wrapped") == how


@pytest.mark.parametrize("how", ["pre_request", "thread"])
def test_an_application_that_is_replaced_while_it_serves(launch, how):
    server = launch("life:app", config=WRAP + REPLACED[how])
    assert server.get("/pid").header("X-Wrapped") is None
    server.get("/version?replace")
    wait_for("the other application", lambda: server.get("/pid").header("X-Wrapped") == how)
    # Once, and for all threads.
    assert {server.get("/pid").header("X-Wrapped") for _ in range(8)} == {how}


@pytest.mark.parametrize("preload", [False, True])
def test_an_agent_that_waits_for_an_import(launch, tmp_path, preload):
    (tmp_path / "sitecustomize.py").write_text(WRAP + AGENT)
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{APPS}"}
    server = launch("life:app", *(["--preload"] if preload else []), env=env)
    assert server.get("/pid").header("X-Wrapped") == "agent"


def test_a_reload_may_name_another_application(launch):
    server = launch(None, config="wsgi_app = 'life:app'\n")
    pid = server.worker_pid()
    (server.workdir / "test.conf.py").write_text("wsgi_app = 'http_app:app'\n")
    server.kill(signal.SIGHUP)
    server.wait_workers(1, without=[pid])
    assert server.get("/version").status == 404


# Methods of the objects, which threads of a configuration file call.

WATCHER = """
import pathlib
import signal
import threading
import time

def when_ready(server):
    def watch():
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
        {call}
        pathlib.Path("called").touch()

    threading.Thread(target=watch, daemon=True).start()
"""


def watched(launch, call, *args, **options):
    """A server in whose master a thread makes this call, once its worker has answered."""
    server = launch("life:app", *args, config=WATCHER.format(call=call), **options)
    pid = server.worker_pid()
    (server.workdir / "go").touch()
    wait_for("the call", (server.workdir / "called").exists)
    return server, pid


@pytest.mark.parametrize("call", ["kill_worker(min(server.WORKERS), signal.SIGTERM)", "kill_workers(signal.SIGTERM)"])
def test_signals_that_a_watcher_sends(launch, call):
    server, pid = watched(launch, f"server.{call}; server.kill_worker({2**22 + 1}, signal.SIGTERM)")
    server.wait_workers(1, without=[pid])
    assert server.worker_pid() != pid


@pytest.mark.own(reason="Gunicorn does these things in the thread, beside its loop")
@pytest.mark.parametrize("call", ["reload()", "wakeup()", "manage_workers()", "spawn_worker()"])
def test_a_watcher_has_the_master_act(launch, call):
    if call == "reload()":
        server, pid = watched(launch, f"server.{call}")
        server.wait_log("Handling signal: hup")
        server.wait_workers(1, without=[pid])
    else:
        server, pid = watched(launch, f"server.num_workers += 1; server.{call}")
        assert pid in server.wait_workers(2)


@pytest.mark.own(reason="Gunicorn does these things in the thread, beside its loop")
@pytest.mark.parametrize("call", ["stop()", "stop(False)", "halt()", "halt('enough')"])
def test_a_watcher_stops_the_server(launch, call):
    server, _ = watched(launch, f"server.{call}")
    assert server.wait_exit() == 0
    assert ("Reason: enough" in server.log) == ("enough" in call)


CHAINED = """
import pathlib
import signal

def post_worker_init(worker):
    def chained(signum, frame):
        pathlib.Path(f"chained-{{signum}}").touch()
        worker.{method}(signum, frame)

    signal.signal(signal.{name}, chained)
    pathlib.Path("parent").write_text(str(worker.is_parent_alive()))
"""


@pytest.mark.parametrize(("name", "method"), [("SIGTERM", "handle_exit"), ("SIGINT", "handle_quit")])
def test_handlers_that_a_hook_chains(launch, name, method):
    server = launch("life:app", config=CHAINED.format(name=name, method=method))
    pid = server.worker_pid()
    server.settle()
    os.kill(pid, getattr(signal, name))
    server.wait_workers(1, without=[pid])
    assert (server.workdir / f"chained-{getattr(signal, name).value}").exists()
    assert (server.workdir / "parent").read_text() == "True"


NAMED = """
import pathlib

def when_ready(server):
    pathlib.Path(f"named-{server.master_pid}").write_text(f"{server.proc_name} {server.master_name}")
"""


def test_the_names_of_a_new_master(launch):
    server = launch("life:app", config=NAMED)
    assert server.worker_pid()
    assert (server.workdir / "named-0").read_text() == "life:app Master"
    upgrade(server)
    note = server.workdir / f"named-{server.pid}"
    wait_for("the new master", note.exists)
    assert note.read_text() == "life:app.2 Master.2"


POST = """
import pathlib

def two(worker, req):
    pathlib.Path("two").touch()

def called(worker, req, environ, resp):
    worker.cfg.settings["post_request"].set(two)
    worker.cfg.post_request(worker, req, environ, resp)
    worker.cfg.settings["post_request"].set(called)

post_request = called
"""


def test_post_request_of_two_arguments_takes_four(launch):
    server = launch("life:app", config=POST)
    assert server.get("/pid").status == 200
    wait_for("the hook", (server.workdir / "two").exists)
