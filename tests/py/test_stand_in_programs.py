"""Programs that start Gunicorn by themselves, unchanged, where the stand-in distribution is installed.

Their packages lie in an environment of their own: `ci/check.sh --only stand-in` makes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
from http.client import HTTPConnection
from pathlib import Path

import pytest
from harness import environment, wait_for
from rawhttp import TIMEOUT_S
from stand_ins import Environment, build

PROGRAMS = os.environ.get("RGUNICORN_PROGRAMS")
# An import of all that mlflow needs, on a machine that has compiled none of it; and the end of what it has started.
START_S = 90
pytestmark = [
    pytest.mark.one_driver,
    pytest.mark.no_flavour,
    pytest.mark.own(reason="of rgunicorn's own distribution"),
    pytest.mark.timeout(3 * START_S),
    pytest.mark.skipif(PROGRAMS is None, reason="the programs are not installed (ci/check.sh --only stand-in)"),
]
ARTIFACT = secrets.token_bytes(3_000_000)


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The environment of the programs, with rgunicorn and the stand-in."""
    made = Environment(Path(PROGRAMS).resolve())
    wheel, _ = build(made, tmp_path_factory.mktemp("dist"))
    done = made.pip("install", "--no-deps", "--force-reinstall", str(wheel))
    assert done.returncode == 0, done.stderr
    return made


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    """A program that serves at a port of its own."""

    def __init__(self, command, workdir, **variables):
        self.port, self.log = free_port(), workdir / "log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(self.port)], cwd=workdir, env=environment(variables),
                stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def ask(self, method, path, body=None):
        """The status and the body of an answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        headers = {"Content-Type": "application/json"} if isinstance(body, str) else {}
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()

    def call(self, path, **fields):
        """A call of the program's own interface."""
        status, body = self.ask("POST", path, json.dumps(fields))
        assert status == 200, body
        return json.loads(body)

    def is_up(self, path):
        """Whether it answers."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.ask("GET", path)[0] == 200
        except ConnectionError:
            return False

    def wait_booted(self, workers, words):
        """Wait until so many workers have said this."""
        wait_for("all workers", lambda: self.log.read_text().count(words) == workers, START_S)

    def stop(self):
        """End it as an operator does; returns its status."""
        self.process.terminate()
        return self.process.wait(START_S)


@pytest.fixture
def start(programs, tmp_path):
    """Starts programs that live as long as the test."""
    started = []

    def start(name, *args, **variables):
        started.append(Program([str(programs.path / "bin" / name), *args], tmp_path, **variables))
        return started[-1]

    yield start
    for program in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.process.pid, signal.SIGKILL)
        program.process.wait()


def test_mlflow(start):
    program = start(
        "mlflow", "server", "--gunicorn-opts", "-k gthread --threads 4", "--workers", "2", "--backend-store-uri",
        "sqlite:///mlflow.db", "--artifacts-destination", "./artifacts",
        # Programs of its own beside the server, which it waits for at its end, for up to a minute.
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    )  # fmt: skip
    wait_for("its server", lambda: program.is_up("/health"), START_S)
    experiment = program.call("/api/2.0/mlflow/experiments/create", name="shop")["experiment_id"]
    run = program.call("/api/2.0/mlflow/runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
    program.call("/api/2.0/mlflow/runs/log-metric", run_id=run, key="loss", value=0.5, timestamp=1)
    path = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/model.bin"
    assert program.ask("PUT", path, ARTIFACT)[0] == 200
    assert program.ask("GET", path) == (200, ARTIFACT)
    # A worker that imports mlflow, for many seconds, hears of a stop afterwards.
    program.wait_booted(2, "runs requests in 4 threads")
    assert program.stop() == 0
    log = program.log.read_text()
    for words in ("Starting rgunicorn", "Using worker: gthread", "Shutting down: Master"):
        assert words in log, log


def test_functions_framework(start, tmp_path):
    (tmp_path / "main.py").write_text("def hello(request):\n    return request.get_data()[::-1]\n")
    program = start("functions-framework", "--target", "hello", WORKERS="2", THREADS="3", GUNICORN_LOG_LEVEL="info")
    wait_for("its server", lambda: program.is_up("/"), START_S)
    assert program.ask("POST", "/", b"abc") == (200, b"cba")
    program.wait_booted(2, "runs requests in 3 threads")
    assert program.stop() == 0
