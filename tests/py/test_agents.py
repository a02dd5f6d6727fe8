"""Monitoring agents: what they count of requests under rgunicorn is what they count under Gunicorn.

They lie in an environment of their own, beside the real gunicorn: `ci/check.sh --only agents` makes it.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import launcher
from harness import wait_for
from stand_ins import Environment, Start

AGENTS = os.environ.get("RGUNICORN_AGENTS")
pytestmark = [
    pytest.mark.one_driver,
    pytest.mark.no_flavour,
    pytest.mark.own(reason="each test starts the servers that it needs"),
    pytest.mark.skipif(AGENTS is None, reason="the agents are not installed (ci/check.sh --only agents)"),
]

ITEMS, FAULTS = 40, 3
SERVERS = [("rgunicorn", kind) for kind in ("sync", "gthread", "gevent", "uring")]
SERVERS += [("gunicorn", kind) for kind in ("sync", "gthread", "gevent")]


class Intake:
    """The server that agents report to."""

    def __init__(self):
        self.bodies: list[tuple[str, bytes]] = []
        intake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = self.chunks()
                unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress}
                body = unpack.get(self.headers.get("Content-Encoding", ""), bytes)(body)
                intake.bodies.append((self.path, body))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def chunks(self):
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        """Take no more."""
        self.server.shutdown()
        self.server.server_close()

    def texts(self, path):
        """What has been sent to such paths."""
        return [body for at, body in self.bodies if re.search(path, at)]


# What has been told, by the name of a request: items that were shown, and faults.


def of_newrelic(workdir: Path, intake: Intake) -> Counter[str]:
    """Its log of what it would send: a name, then the numbers, the first of which is the count."""
    text = (workdir / "audit.log").read_text()
    found: Counter[str] = Counter()
    for name, count in re.findall(r"\{'name': '([^']+)', 'scope': ''\},\s+\[(\d+),", text):
        if name.startswith("WebTransaction/") and "item" in name:
            found["item"] += int(count)
        elif name.startswith("Errors/WebTransaction/") and "fault" in name:
            found["fault"] += int(count)
    return found


def of_opentelemetry(workdir: Path, intake: Intake) -> Counter[str]:
    """Spans on the standard output of the workers."""
    text = (workdir / "stdout.txt").read_text()
    spans = re.findall(r'"name": "GET /(item|fault)', text)
    return Counter(spans)


def of_ddtrace(workdir: Path, intake: Intake) -> Counter[str]:
    """The tag of the span of a whole request that has the address, in MessagePack: plain strings."""
    data = b"".join(intake.texts(r"/v0\.4/traces"))
    return Counter(name.decode() for name in re.findall(rb"http\.url.{1,3}http://[^/]+/(item|fault)", data, re.DOTALL))


def of_sentry(workdir: Path, intake: Intake) -> Counter[str]:
    """Transactions, and events of faults: lines of JSON."""
    found: Counter[str] = Counter()
    for body in intake.texts("/envelope/"):
        for line in body.splitlines():
            one = json.loads(line)
            name = one.get("transaction", "")
            if one.get("type") == "transaction" and "item" in name:
                found["item"] += 1
            elif "exception" in one:
                found["fault"] += 1
    return found


def of_elastic(workdir: Path, intake: Intake) -> Counter[str]:
    """Transactions and errors: lines of JSON."""
    found: Counter[str] = Counter()
    for body in intake.texts("/intake/v2/events"):
        for line in body.splitlines():
            one = json.loads(line)
            found["item"] += "/items/" in one.get("transaction", {}).get("name", "")
            found["fault"] += "error" in one
    return found


#: Switches of what it asks and tells besides.
DD_QUIET = {
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_TRACE_STATS_COMPUTATION_ENABLED": "false",
}
NEWRELIC = """[newrelic]
license_key = 0000000000000000000000000000000000000000
app_name = shop
developer_mode = true
log_file = newrelic.log
audit_log_file = audit.log
startup_timeout = 20
shutdown_timeout = 10
"""


@dataclass(frozen=True)
class Agent:
    """How an agent is started, and where it tells what it has seen."""

    count: Callable[[Path, Intake], Counter[str]]
    #: What stands before the server's own words.
    words: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    app: str = "agents_app:app"
    files: dict[str, str] = field(default_factory=dict)
    workers: int = 2
    #: Whether what is left is sent at the end of a worker.
    sends_at_end: bool = True


CASES = {
    # Its log is one file, which several processes would write in pieces.
    "newrelic-wsgi": Agent(
        of_newrelic, ("newrelic-admin", "run-program"), {"NEW_RELIC_CONFIG_FILE": "newrelic.ini"}, "agents_app:plain",
        {"newrelic.ini": NEWRELIC}, workers=1,
    ),
    "newrelic-flask": Agent(
        of_newrelic, ("newrelic-admin", "run-program"), {"NEW_RELIC_CONFIG_FILE": "newrelic.ini"},
        files={"newrelic.ini": NEWRELIC}, workers=1,
    ),
    "opentelemetry": Agent(
        of_opentelemetry, ("opentelemetry-instrument",),
        {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"},
    ),
    "ddtrace": Agent(
        of_ddtrace, ("ddtrace-run",), {"DD_TRACE_AGENT_URL": "{intake}", "DD_TRACE_API_VERSION": "v0.4"} | DD_QUIET
    ),
    "sentry": Agent(of_sentry, env={"AGENT": "sentry"}),
    # Closed while it sends, it loses what it has besides, on either server.
    "elastic": Agent(of_elastic, env={"AGENT": "elastic"}, sends_at_end=False),
}  # fmt: skip


@pytest.fixture(scope="module")
def environment_of_agents():
    return Environment(Path(AGENTS).resolve())


@pytest.fixture
def intake():
    opened = Intake()
    yield opened
    opened.close()


@pytest.fixture(params=SERVERS, ids=["-".join(server) for server in SERVERS])
def start(request, environment_of_agents, tmp_path):
    """Starts the server under an agent."""
    program, kind = request.param
    bin_ = environment_of_agents.path / "bin"
    started = []

    def start(app, *args, words=(), workers=2, env=None, config=None):
        command = [str(bin_ / word) if (bin_ / word).exists() else word for word in words]
        options = ("-k", kind, *(("--threads", "4") if kind == "gthread" else ()))
        if program == "gunicorn":
            options += ("--no-control-socket",)
        whole = (*command, environment_of_agents.python, "-m", program)
        serve = launcher(Start(program, program, options, whole), lambda: tmp_path)
        started.append(serve)
        server = next(serve)(app, "-w", str(workers), *args, env=env, config=config)
        wait_for("a worker that answers", lambda: server.get("/").status == 200)
        return server

    start.program = program
    yield start
    for serve in started:
        next(serve, None)


def load(server):
    """The requests that are to be counted."""
    for number in range(ITEMS):
        assert server.get(f"/items/{number}").status == 200
    for _ in range(FAULTS):
        assert server.get("/fault").status == 500


@pytest.mark.timeout(120)
@pytest.mark.parametrize("agent", CASES.values(), ids=CASES)
def test_each_request_is_counted_once(start, agent, intake, tmp_path):
    for name, text in agent.files.items():
        (tmp_path / name).write_text(text)
    env = {name: value.replace("{intake}", intake.url) for name, value in agent.env.items()} | {"INTAKE": intake.url}
    server = start(agent.app, words=agent.words, workers=agent.workers, env=env)
    load(server)
    if not agent.sends_at_end:
        wait_for("its reports", lambda: agent.count(tmp_path, intake).total() >= ITEMS + FAULTS)
    assert server.terminate() == 0
    found = agent.count(tmp_path, intake)
    assert (found["item"], found["fault"]) == (ITEMS, FAULTS)


PROMETHEUS = """
from prometheus_client import multiprocess

def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
"""


def metrics(server):
    """The two numbers that the application reports."""
    text = server.get("/metrics").body.decode()
    return [float(re.search(rf"^{name} ([0-9.]+)$", text, re.MULTILINE)[1]) for name in ("items_total", "at_work")]


@pytest.mark.timeout(120)
def test_prometheus(start, tmp_path):
    """In several processes: counters of workers that have ended are kept, gauges of the living are not."""
    (tmp_path / "metrics").mkdir()
    env = {"AGENT": "prometheus", "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    server = start("agents_app:app", env=env, config=PROMETHEUS)
    for number in range(ITEMS):
        assert server.get(f"/items/{number}").status == 200
    items, at_work = metrics(server)
    assert items == ITEMS
    assert 1 <= at_work <= 2
    old = server.wait_workers(2)
    server.kill(signal.SIGHUP)
    server.wait_workers(2, without=old)
    files = tmp_path / "metrics"
    wait_for("the old ones to be forgotten", lambda: not any(list(files.glob(f"gauge_live*_{pid}.db")) for pid in old))
    assert server.get("/items/1").status == 200
    assert metrics(server) == [ITEMS + 1, 1]
