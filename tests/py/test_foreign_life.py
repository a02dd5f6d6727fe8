"""Worker classes of others among all else that a server may be told: settings, accounts, logs, a stop under load."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
from harness import environment, wait_for
from rawhttp import TIMEOUT_S, request
from worker_classes import CASES, GRACEFUL, Case, answer, every_class, of, start

# What they do does not depend on our drivers.
pytestmark = [pytest.mark.one_driver]

NOBODY = 65534
CLIENTS = 8
#: Answers before the stop.
ANSWERS = 100


class Noting(threading.Thread):
    """A client that sends one request after the other, each with a token, and knows which were answered."""

    def __init__(self, server, number):
        super().__init__()
        self.server, self.number = server, number
        self.answered: list[str] = []

    def run(self):
        count = 0
        while True:
            count += 1
            token = f"{self.number}-{count}"
            try:
                response = self.server.get(f"/note/{token}")
            except (OSError, AssertionError):
                # Refused, or closed: the server has let go of its socket.
                return
            if response.status == 200 and response.body == token.encode():
                self.answered.append(token)


# Tornado's leaves without an answer, also under Gunicorn.
@of("uvicorn", "aiohttp", "sync", "gthread", "pywsgi", "websocket")
def test_what_has_begun_is_answered_when_a_stop_comes_under_load(launch, case):
    server = start(launch, case, "-w", "2")
    clients = [Noting(server, number) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    wait_for("some load", lambda: sum(len(client.answered) for client in clients) > ANSWERS)
    assert server.terminate() == 0
    for client in clients:
        client.join(TIMEOUT_S)
        assert not client.is_alive()
    answered = {token for client in clients for token in client.answered}
    begun = set((server.workdir / "noted").read_text().split())
    assert begun == answered
    assert "WORKER TIMEOUT" not in server.log


@every_class
def test_at_a_unix_socket(launch, case):
    server = start(launch, case, bind="unix:server.sock")
    assert [answer(server)] == server.wait_workers(1)
    assert server.terminate() == 0


def test_pieces_of_an_answer_leave_at_once(launch):
    server = start(launch, CASES["uvicorn"])
    with server.client() as client:
        client.send(request("/pieces"))
        client.until(b"first")
        (server.workdir / "gate").touch()
        client.until(b"second")


# Tornado's and gevent-websocket's have logs of their own.
@of("uvicorn", "aiohttp", "sync", "gthread", "pywsgi")
def test_the_access_log_has_its_requests(launch, case):
    server = start(launch, case, "--access-logfile", "access.log")
    assert server.get("/pid?here").status == 200
    log = server.workdir / "access.log"
    wait_for("its line", lambda: "GET /pid?here" in log.read_text())


LOADED = """
import os

def app(environ, start_response):
    start_response("200 OK", [])
    return [str(LOADED_BY).encode()]

LOADED_BY = os.getpid()
"""
LOADED_ASGI = """
import os

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(LOADED_BY).encode()})

LOADED_BY = os.getpid()
"""


@of("uvicorn", "sync", "gthread", "pywsgi", "websocket", "tornado-wsgi")
def test_preload_loads_in_the_master(launch, workdir, case):
    is_asgi = case.app.startswith("foreign_asgi")
    (workdir / "loaded.py").write_text(LOADED_ASGI if is_asgi else LOADED)
    case = case._replace(app="loaded:app")
    server = start(launch, case, "--preload", workdir=workdir, deaths=is_asgi)
    assert answer(server) == server.pid
    if launch.flavour.own:
        old = server.wait_workers(1)
        server.kill(signal.SIGHUP)
        server.wait_workers(1, without=old)
        assert answer(server) == server.pid


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@of("sync")
def test_workers_become_the_user_and_group(launch, workdir, case):
    """The application is preloaded, and the class imports nothing more: that user may not be allowed to read there."""
    text = LOADED.replace("str(LOADED_BY)", "repr([*os.getresuid(), *os.getresgid()])")
    (workdir / "loaded.py").write_text(text)
    account = ("--preload", "--user", str(NOBODY), "--group", str(NOBODY))
    server = start(launch, case._replace(app="loaded:app"), *account, workdir=workdir)
    assert server.get("/pid").body.decode() == repr([NOBODY] * 6)


@of("uvicorn", "sync")
def test_in_the_background(launch_daemon, workdir, case):
    (workdir / "own.conf.py").write_text(case.config)
    named = ("-k", case.name) if case.name else ("-c", "own.conf.py")
    server = launch_daemon(
        case.app, *named, *GRACEFUL, errorlog=workdir / "error.log", workdir=workdir, deaths=case.name is not None
    )
    wait_for("an answer", lambda: server.get("/pid").status == 200)
    assert [answer(server)] == server.wait_workers(1)
    server.terminate()
    server.wait_log("Shutting down: Master")
    assert server.session() == []


@of("sync", "gthread", "pywsgi")
def test_statsd_counts_its_requests(launch, case):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(TIMEOUT_S)
        server = start(launch, case, "--statsd-host", f"127.0.0.1:{collector.getsockname()[1]}")
        answer(server)
        wanted = {"gunicorn.requests:1|c", "gunicorn.request.status.200:1|c", "gunicorn.workers:1|g"}
        while wanted:
            got = collector.recv(65536).decode()
            wanted = {line for line in wanted if line not in got}


@of("sync", "gthread", "uvicorn")
def test_a_logger_class_of_the_configuration(launch, case):
    config = """
from gunicorn.glogging import Logger

class Loud(Logger):
    def access(self, resp, req, environ, request_time):
        super().access(resp, req, environ, request_time)
        self.error("heard of %s", environ["PATH_INFO"])

    def info(self, msg, *args, **kwargs):
        super().info("LOUD " + msg, *args, **kwargs)

logger_class = Loud
"""
    server = start(launch, case, "--access-logfile", "access.log", config=config)
    server.wait_log("LOUD Booting worker with pid")
    if case.config:
        server.wait_log("heard of /pid")


ENTRY = """[gunicorn.workers]
own = own_class:Own
"""


def test_an_entry_point_of_a_distribution(launch, workdir):
    (workdir / "own_class.py").write_text(
        "from gunicorn.workers.sync import SyncWorker\n"
        "class Own(SyncWorker):\n"
        "    def init_process(self):\n"
        "        self.log.info('own code serves')\n"
        "        super().init_process()\n"
    )
    info = workdir / "own_workers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-workers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY)
    env = {"PYTHONPATH": f"{workdir}{os.pathsep}{environment()['PYTHONPATH']}"}
    server = start(launch, Case("foreign_wsgi:app", "egg:own-workers#own"), workdir=workdir, env=env)
    server.wait_log("own code serves")
    assert [answer(server)] == server.wait_workers(1)


PROGRAM = """
import sys
from foreign_asgi import app
if sys.argv[1] == "own":
    from rgunicorn.app.base import BaseApplication
else:
    from gunicorn.app.base import BaseApplication

class Program(BaseApplication):
    def load_config(self):
        for name, value in {"bind": "127.0.0.1:0", "workers": 2, "graceful_timeout": 5,
                            "worker_class": "uvicorn_worker.UvicornWorker"}.items():
            self.cfg.set(name, value)

    def load(self):
        return app

Program().run()
"""


def test_a_program_that_serves_by_such_a_class(flavour, workdir):
    """What FastAPI's users do who have a start script of their own."""
    (workdir / "program.py").write_text(PROGRAM)
    log = workdir / "log"
    command = [sys.executable, "program.py", "own" if flavour.own else "gunicorn"]
    with log.open("wb") as err:
        process = subprocess.Popen(command, cwd=workdir, env=environment(), stderr=err, start_new_session=True)
    try:
        pattern = re.compile(r"Listening at: http://127.0.0.1:(\d+)")
        found = wait_for("the address", lambda: pattern.search(log.read_text()))
        port = int(found[1])

        def answers():
            try:
                with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as sock:
                    sock.sendall(request("/pid", headers={"Connection": "close"}))
                    return sock.makefile("rb").read().startswith(b"HTTP/1.1 200")
            except ConnectionError:
                return False

        wait_for("an answer", answers)
        wait_for("both workers", lambda: log.read_text().count("Application startup complete") == 2)
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
