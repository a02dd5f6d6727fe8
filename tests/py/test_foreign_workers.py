"""Worker classes that others have written for Gunicorn: their loop, under this master, as under Gunicorn's."""

import contextlib
import os
import re
import signal
import socket

import pytest
import socketio
import websockets.sync.client
from harness import APPS, run_to_end, wait_for
from masters import upgrade, wait_answers
from rawhttp import request
from worker_classes import CASES, Case, answer, every_class, of, start

# What they do does not depend on our drivers.
pytestmark = [pytest.mark.one_driver]

REFUSED = r"Reload (failed|given up)"


@every_class
def test_it_serves_and_ends(launch, case):
    server = start(launch, case, "-w", "2")
    # Tornado's class forgets a stop that comes before its loop.
    wait_answers(server, server.wait_workers(2))
    body = bytes(range(256)) * 400
    with server.client() as client:
        client.send(request("/echo", method="POST", body=body))
        assert client.response("POST").body == body
    if case.config:
        server.wait_log("own code serves")
    assert server.terminate() == 0
    server.wait_log("Shutting down: Master")


@every_class
def test_hooks_run_where_gunicorn_runs_them(launch, case):
    hooks = """
def pre_fork(server, worker): server.log.info("hook pre_fork %s", type(worker).__name__)
def post_fork(server, worker): server.log.info("hook post_fork %s", worker.pid)
def post_worker_init(worker): worker.log.info("hook post_worker_init %s", worker.pid)
"""
    server = start(launch, case, config=hooks)
    (pid,) = server.wait_workers(1)
    for hook in ("post_fork", "post_worker_init"):
        server.wait_log(f"hook {hook} {pid}")
    order = [server.log.index(f"hook {hook}") for hook in ("pre_fork", "post_fork", "post_worker_init")]
    assert order == sorted(order)
    (name,) = {line.rsplit(" ", 1)[1] for line in server.log.splitlines() if "hook pre_fork" in line}
    assert name == (case.name or "Own").rpartition(".")[2].replace("tornado", "TornadoWorker")


@every_class
def test_a_reload(launch, case):
    server = start(launch, case, "-w", "2")
    old = server.wait_workers(2)
    server.kill(signal.SIGHUP)
    new = server.wait_workers(2, without=old)
    assert answer(server) in new


# Tornado's leaves without an answer, also under Gunicorn.
@of("uvicorn", "aiohttp", "sync", "gthread", "pywsgi", "websocket")
def test_a_request_in_progress_is_answered_at_the_end(launch, case):
    server = start(launch, case)
    (pid,) = server.wait_workers(1)
    with server.client() as client:
        client.send(request("/slow"))
        wait_for("the request to begin", (server.workdir / "begun").exists)
        server.kill(signal.SIGTERM)
        server.wait_log("Handling signal: term")
        (server.workdir / "gate").touch()
        assert client.response().body == str(pid).encode()
    assert server.wait_exit() == 0


# The loop of gthread beats while a thread computes, and so does tornado's beside a WSGI application. A Tornado one
# that holds it up before its first beat, a second after its start, is a part of the start, also under Gunicorn.
@of("uvicorn", "aiohttp", "sync", "pywsgi", "websocket")
def test_a_worker_that_is_held_up_is_replaced(launch, case):
    server = start(launch, case, "--timeout", "2", deaths=True)
    old = server.wait_workers(1)
    with server.client() as client:
        client.send(request("/block"))
        server.wait_log(rf"WORKER TIMEOUT \(pid:{old[0]}\)")
        (new,) = server.wait_workers(1, without=old)
        wait_for("the next one", lambda: answer(server) == new)


# pywsgi's, and gevent-websocket's, which is derived from it, do not count, also under Gunicorn.
@of("uvicorn", "aiohttp", "tornado", "tornado-wsgi", "sync", "gthread")
def test_a_worker_leaves_after_its_requests(launch, case):
    server = start(launch, case, "--max-requests", "5")
    old = server.wait_workers(1)

    def replaced():
        with contextlib.suppress(OSError, AssertionError):
            return answer(server) not in old
        return False

    wait_for("another worker", replaced)


@every_class
def test_an_upgrade(launch, case):
    server = start(launch, case, "-w", "2", "--pid", "app.pid")
    old = server.wait_workers(2)
    new = upgrade(server)
    wait_answers(server, new.wait_workers(2))
    assert server.terminate() == 0
    assert answer(new) not in old
    new.terminate()


def test_websockets_streams_and_lifespan(launch):
    server = start(launch, CASES["uvicorn"], "--access-logfile", "access.log")
    (pid,) = server.wait_workers(1)
    assert (server.workdir / f"up-{pid}").exists()
    host, port = server.address
    with websockets.sync.client.connect(f"ws://{host}:{port}/ws") as websocket:
        websocket.send("one")
        websocket.send("two")
        assert [websocket.recv(), websocket.recv()] == [f"{pid} one", f"{pid} two"]
    assert server.terminate() == 0
    assert (server.workdir / f"down-{pid}").exists()
    assert "GET /pid" in (server.workdir / "access.log").read_text()


def test_flask_socketio(launch):
    """Long polling first, then an upgrade to a websocket."""
    server = start(launch, CASES["websocket"])
    (pid,) = server.wait_workers(1)
    host, port = server.address
    client = socketio.Client()
    client.connect(f"http://{host}:{port}", transports=["polling", "websocket"])
    wait_for("the upgrade", lambda: client.transport() == "websocket")
    assert client.call("call", {"a": [1, 2]}) == {"pid": pid, "data": {"a": [1, 2]}}
    client.disconnect()
    assert server.terminate() == 0


@every_class
def test_a_reload_that_fails_keeps_what_there_is(launch, case):
    server = start(launch, case)
    old = server.wait_workers(1)
    (server.workdir / "test.conf.py").write_text("nonsense(")
    server.kill(signal.SIGHUP)
    server.wait_log("test.conf.py")
    if launch.flavour.own:
        assert [answer(server)] == old == server.workers()


@pytest.mark.own(reason="Gunicorn says it in other words")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module.Worker", "worker class 'no_such_module.Worker' cannot be loaded: No module named"),
        ("uvicorn_worker.Nothing", "worker class 'uvicorn_worker.Nothing' cannot be loaded: .*Nothing"),
        ("os.path.join", "worker class 'os.path.join' is no class"),
        ("collections.OrderedDict", "is not derived from Gunicorn's gunicorn.workers.base.Worker"),
        ("egg:no-such-distribution#x", "cannot be loaded"),
    ],
)
def test_a_class_that_cannot_run_here(flavour, workdir, name, words):
    done = run_to_end(flavour, workdir, "-k", name, "foreign_wsgi:app")
    assert done.returncode == 1
    assert re.search(words, done.stderr), done.stderr


@pytest.mark.own(reason="without Gunicorn there is nothing to compare")
def test_without_gunicorn_the_message_says_what_to_install(flavour, workdir):
    (workdir / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'gunicorn' and path is None:\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    env = {"PYTHONPATH": f"{workdir}{os.pathsep}{APPS}"}
    done = run_to_end(flavour, workdir, "-k", "uvicorn_worker.UvicornWorker", "foreign_wsgi:app", env=env)
    assert done.returncode == 1
    assert "pip install gunicorn" in done.stderr


@pytest.mark.parametrize(
    ("fault", "raised", "words", "status"),
    [
        ("__init__", "raise LookupError('of its own')", "of its own", 255),
        ("init_process", "raise LookupError('of its own')", "of its own", 3),
        ("init_process", "self.tmp.no_such_method()", "has no attribute 'no_such_method'", 3),
        ("init_process", "self.cfg.no_such_setting", "No configuration setting for: no_such_setting", 3),
    ],
)
def test_a_class_that_fails_at_its_start(flavour, workdir, fault, raised, words, status):
    """In the master, before the fork, and in the worker; also by asking for what is not there."""
    (workdir / "own_class.py").write_text(
        "from gunicorn.workers.sync import SyncWorker\n"
        "class Own(SyncWorker):\n"
        f"    def {fault}(self, *args): {raised}\n"
    )
    done = run_to_end(flavour, workdir, "-k", "own_class.Own", "foreign_wsgi:app")
    assert done.returncode == status, done.stderr
    assert words in done.stderr


@pytest.mark.own(reason="Gunicorn's master leaves")
def test_a_class_that_cannot_be_made_is_taken_back(launch):
    case = CASES["sync"]
    server = start(launch, case, "-w", "2")
    old = server.wait_workers(2)
    broken = case.config.replace("class Own(SyncWorker):", "class Own(SyncWorker):\n    def __init__(self): pass\n")
    (server.workdir / "test.conf.py").write_text(broken)
    server.kill(signal.SIGHUP)
    server.wait_log("takes 1 positional argument")
    server.wait_log("Reload given up, the workers stay as they were: no new worker could be prepared")
    assert answer(server) in old
    assert server.workers() == old
    (server.workdir / "test.conf.py").write_text(case.config)
    server.kill(signal.SIGHUP)
    new = server.wait_workers(2, without=old)
    assert answer(server) in new


LATE = """
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
import os

@asynccontextmanager
async def lifespan(app):
    if os.path.exists("broken"):
        raise LookupError("of the lifespan")
    yield

app = FastAPI(lifespan=lifespan)

@app.get("/pid")
async def pid():
    return PlainTextResponse(str(os.getpid()))
"""


@pytest.mark.own(reason="Gunicorn's master takes such a reload")
def test_an_application_that_fails_in_the_loop_has_not_booted(launch, workdir):
    """What begins in the loop of the class belongs to the boot: a start ends, and a reload is taken back."""
    (workdir / "late.py").write_text(LATE)
    server = start(launch, Case("late:app", "uvicorn_worker.UvicornWorker"), workdir=workdir, deaths=True)
    old = server.wait_workers(1)
    (workdir / "broken").touch()
    server.kill(signal.SIGHUP)
    server.wait_log("of the lifespan")
    server.wait_log(REFUSED)
    assert [answer(server)] == old == server.workers()
    assert server.terminate() == 0
    done = run_to_end(launch.flavour, workdir, "-k", "uvicorn_worker.UvicornWorker", "late:app")
    assert done.returncode == 3, done.stderr


@pytest.mark.own(reason="Gunicorn keeps the addresses that it has")
@of("uvicorn", "sync", "gthread")
def test_another_address_at_a_reload(launch, case):
    server = start(launch, case, bind=None, config='bind = ["unix:one.sock", "127.0.0.1:0"]')
    old = server.wait_workers(1)
    file = server.workdir / "test.conf.py"
    file.write_text(f'{case.config}\nbind = ["unix:two.sock"]\n')
    server.kill(signal.SIGHUP)
    (new,) = server.wait_workers(1, without=old)
    server.address = str(server.workdir / "two.sock")
    assert answer(server) == new


@of("uvicorn", "gthread")
def test_sockets_of_its_own(launch, case):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    bind = f"127.0.0.1:{address[1]}"
    server = start(launch, case, "-w", "2", "--reuse-port", bind=bind, at=address)
    wait_answers(server, server.wait_workers(2))


@pytest.mark.own(reason="it is about our own types, too")
def test_reloads_between_a_class_of_others_and_our_own(launch):
    case = CASES["sync"]
    explicit = case.config.replace(
        "return super().handle_request(*args)", "return SyncWorker.handle_request(self, *args)"
    )
    server = start(launch, Case(case.app, None, explicit), deaths=True)
    file = server.workdir / "test.conf.py"

    def reload(text):
        file.write_text(text)
        old = server.wait_workers(1)
        server.kill(signal.SIGHUP)
        server.wait_workers(1, without=old)
        assert answer(server) not in old

    def reload_in_vain(text):
        file.write_text(text)
        old = server.wait_workers(1)
        before = len(re.findall(REFUSED, server.log))
        server.kill(signal.SIGHUP)
        server.wait_log(REFUSED, count=before + 1)
        assert answer(server) in old

    for _ in range(2):
        reload("worker_class = 'uring'\n")
        reload_in_vain(f"{explicit}\nerrorlog = 'no/such/directory/log'\n")
        # A worker that is forked after that is one of ours.
        reload("worker_class = 'sync'\n")
        reload(explicit)
        reload_in_vain("worker_class = 'sync'\ndef post_worker_init(worker): raise LookupError\n")
        reload(explicit)
        server.wait_log("own code serves", count=server.log.count("own code serves"))
    reload("from gunicorn.workers.gthread import ThreadWorker\nworker_class = ThreadWorker\n")
    server.wait_log(r"Worker \d+ runs requests in 1 thread")


@of("uvicorn", "sync")
def test_logs_are_opened_again(launch, case):
    server = start(launch, case, "--access-logfile", "access.log")
    access = server.workdir / "access.log"
    access.rename(server.workdir / "old.log")
    server.kill(signal.SIGUSR1)

    def has_line():
        answer(server)
        return access.exists() and "GET /pid" in access.read_text()

    wait_for("a line in the new file", has_line)


@pytest.mark.own(reason="Gunicorn's own name is another one")
@of("sync", "pywsgi")
def test_the_name_of_the_server_is_the_configuration_s(launch, case):
    server = start(launch, case, config="import gunicorn\ngunicorn.SERVER = 'shop'\n")
    if case.config:
        assert server.get("/pid").header("Server") == "shop"


@pytest.mark.own(reason="Gunicorn has no such classes")
@pytest.mark.parametrize("base", ["gunicorn.workers.gtornado.TornadoWorker", "rgunicorn.workers.UringWorker"])
def test_classes_derived_from_what_has_no_code_or_another_name(launch, base):
    module, _, name = base.rpartition(".")
    config = f"from {module} import {name}\nclass Own({name}): pass\nworker_class = Own\n"
    if name == "UringWorker":
        with pytest.raises(AssertionError, match="native"):
            start(launch, Case("foreign_wsgi:app", None, config))
        return
    start(launch, Case("foreign_wsgi:app", None, config))


@pytest.mark.own(reason="the words are ours")
def test_workers_that_live_for_few_requests_are_replaced_at_once(launch):
    server = start(launch, CASES["sync"], "--max-requests", "3")
    seen = {answer(server)}
    while len(seen) < 6:
        with contextlib.suppress(OSError, AssertionError):
            seen.add(answer(server))
    assert "as soon as" not in server.log
