"""Runs a WSGI server as a sub-process and watches it from outside, as an operator would.

Nothing here knows the inside of a server: what a test sees are sockets, log lines, exit statuses, files and `/proc`.
Every server runs in a session of its own, so that its processes can be told from all others, and `Server.close`
fails when one of them is left over.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rawhttp import TIMEOUT_S, Address, Client, Response, connect, request

APPS = Path(__file__).resolve().parents[1] / "apps"
Value = TypeVar("Value")
POLL_S = 0.01
# How long a server may take to leave at the end of a test: rgunicorn, and the reference (see `Server.settle`).
CLOSE_S = {True: TIMEOUT_S, False: 1.0}
SETTLE_S = 0.1
# Settings of the machine that runs the tests must not leak into the servers under test.
SCRUBBED = (
    "GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "PORT", "FORWARDED_ALLOW_IPS", "SENDFILE", "SCRIPT_NAME",
    "RGUNICORN_IO_DRIVER", "GEVENT_LOOP", "PYTHONPATH", "PYTHONWARNINGS", "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS",
)  # fmt: skip
DEATH = re.compile(r"WORKER TIMEOUT|was sent SIG|exited with code|panicked at")
# Of the reference a worker was seen to end by SIGTERM after "Worker exiting" (TTOU): that is no finding about a test.
DEATH_REFERENCE = re.compile(r"WORKER TIMEOUT|was sent SIG(?!TERM)|exited with code")


@dataclass(frozen=True)
class Flavour:
    """One way to run a server: the program and the options that choose its engine."""

    name: str
    program: str
    options: tuple[str, ...]

    @property
    def own(self) -> bool:
        """Whether this is rgunicorn and not the reference."""
        return self.program == "rgunicorn"

    @property
    def threads(self) -> bool:
        """Whether requests run in threads beside the loop's."""
        return "--threads" in self.options

    @property
    def path(self) -> str | None:
        """The executable: beside the running Python first, else on PATH."""
        beside = Path(sys.executable).with_name(self.program)
        return str(beside) if beside.exists() else shutil.which(self.program)

    def command(self) -> list[str]:
        """The beginning of every command line of this server."""
        assert self.path, f"{self.program} is not installed"
        return [self.path, *self.options]


FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour("rgunicorn-uring", "rgunicorn", ("-k", "uring", "--io-driver", "uring")),
        Flavour("rgunicorn-epoll", "rgunicorn", ("-k", "uring", "--io-driver", "epoll")),
        Flavour("rgunicorn-threads-uring", "rgunicorn", ("-k", "gthread", "--threads", "4", "--io-driver", "uring")),
        Flavour("rgunicorn-threads-epoll", "rgunicorn", ("-k", "gthread", "--threads", "4", "--io-driver", "epoll")),
        # Four threads, so that a second connection of a test never waits for the first.
        Flavour("gunicorn", "gunicorn", ("-k", "gthread", "--threads", "4", "--no-control-socket")),
    )
}

# Each server's way to run applications in greenlets, under the name that chooses the server.
COOPERATIVE = {
    "rgunicorn-uring": Flavour("rgunicorn-gevent-uring", "rgunicorn", ("-k", "gevent", "--io-driver", "uring")),
    "rgunicorn-epoll": Flavour("rgunicorn-gevent-epoll", "rgunicorn", ("-k", "gevent", "--io-driver", "epoll")),
    "gunicorn": Flavour("gunicorn-gevent", "gunicorn", ("-k", "gevent", "--no-control-socket")),
}


def wait_for(what: str, condition: Callable[[], Value], timeout: float = TIMEOUT_S) -> Value:
    """Poll until the condition holds and give its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout} s in vain for {what}"
        time.sleep(POLL_S)
    return value


def bodies(answers: Sequence[Response]) -> list[str]:
    """The texts of answers that have to be good."""
    assert [answer.status for answer in answers] == [200] * len(answers), answers
    return [answer.body.decode() for answer in answers]


def proc_stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on, None when the process has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def all_pids() -> Iterator[int]:
    """Every process of the machine."""
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    stat = proc_stat(pid)
    return stat is not None and stat[0] != "Z"


def children(pid: int) -> list[int]:
    """Direct children that are alive, oldest first."""
    return sorted(
        child for child in all_pids() if (stat := proc_stat(child)) and int(stat[1]) == pid and stat[0] != "Z"
    )


def sockets(pid: int) -> set[str]:
    """The sockets that the process has open, as /proc names them."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(entry.path))
    return {link for link in found if link.startswith("socket:")}


def held(master: int, workers: Sequence[int]) -> list[int]:
    """How many connections each of these workers holds: what it shares with the master is none."""
    shared = sockets(master)
    return [len(sockets(worker) - shared) for worker in workers]


def cpu_seconds(pid: int) -> float:
    """User and system time that the process has used."""
    stat = proc_stat(pid)
    assert stat is not None, f"process {pid} has gone"
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def environment(extra: dict[str, str | None] | None = None) -> dict[str, str]:
    """A clean environment in which the test applications can be imported; None takes a variable out."""
    env = {key: value for key, value in os.environ.items() if key not in SCRUBBED}
    env |= {"PYTHONPATH": str(APPS), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    # setproctitle writes over the environment that /proc shows, which tests look at.
    env |= {"SPT_NOENV": "1"}
    return {name: value for name, value in (env | (extra or {})).items() if value is not None}


def run_to_end(
    flavour: Flavour, workdir: Path, *args: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command line that is expected to end by itself."""
    process = subprocess.Popen(
        [*flavour.command(), *args], cwd=workdir, env=environment(env), text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"still running after {TIMEOUT_S} s: {args}\n{out}\n{err}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class Server:
    """A running server. Made by the `launch` fixtures, which also close it."""

    def __init__(self, flavour: Flavour, workdir: Path, *, deaths: bool = False):
        self.flavour = flavour
        self.workdir = workdir
        # A worker's death fails the test unless the test said that it would bring one about.
        self.deaths = deaths
        self.errorlog = self.stderr = workdir / "stderr.txt"
        self.stdout = workdir / "stdout.txt"
        self.address: Address = ""
        # Masters that this one has started in its place (`masters.upgrade`).
        self.heirs: list[Server] = []

    def start(
        self, app: str | None, *args: str, bind: str | None = "127.0.0.1:0", config: str | None = None,
        env: dict[str, str] | None = None, prefix: Sequence[str] = (), errorlog: Path | None = None,
        quiet: bool = False, untyped: bool = False, at: Address | None = None, streams: int | None = None,
    ) -> Server:  # fmt: skip
        """Start the server and wait until it listens.

        A `quiet` one does not log its address: a unix path. Nor does one with `at`: that is where it listens. An
        `untyped` one has its worker type from `config`. With `streams`, output goes to that descriptor.
        """
        command = [*prefix, *self.flavour.command()]
        if untyped:
            index = command.index("-k")
            del command[index : index + 2]
        if bind is not None:
            command += ["--bind", bind]
        command += args
        if config is not None:
            (self.workdir / "test.conf.py").write_text(config)
            command += ["--config", "test.conf.py"]
        if errorlog is not None:
            self.errorlog = errorlog
            command += ["--error-logfile", str(errorlog)]
        if app is not None:
            command.append(app)
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                command, cwd=self.workdir, env=environment(env), stdin=subprocess.DEVNULL, start_new_session=True,
                stdout=out if streams is None else streams, stderr=err if streams is None else streams,
            )  # fmt: skip
        self.pid = self.sid = self.process.pid
        if at is not None:
            self.addresses = [self._appeared(at)]
        else:
            path = str(self.workdir / str(bind).removeprefix("unix:"))
            self.addresses = [self._appeared(path)] if quiet else self._listening()
        self.address = self.addresses[0]
        return self

    def _appeared(self, at: Address) -> Address:

        def listens() -> bool:
            try:
                connect(at).close()
            except OSError:
                return False
            return True

        wait_for(f"a listener at {at}", listens)
        return at

    def _listening(self) -> list[Address]:
        line = self.wait_log(r"Listening at: (\S+) \(\d+\)")
        found: list[Address] = []
        for url in line[1].split(","):
            if url.startswith("unix:"):
                found.append(str(self.workdir / url.removeprefix("unix:")))
            else:
                host, _, port = url.removeprefix("http://").rpartition(":")
                found.append((host.strip("[]"), int(port)))
        return found

    # What the server says.

    @property
    def log(self) -> str:
        """The error log so far."""
        try:
            return self.errorlog.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_log(self, pattern: str, *, count: int = 1, timeout: float = TIMEOUT_S) -> re.Match[str]:
        """Wait until the error log holds the pattern `count` times; the last of these matches."""

        def found() -> re.Match[str] | None:
            matches = list(re.finditer(pattern, self.log))
            if len(matches) < count and self._has_ended():
                matches = list(re.finditer(pattern, self.log))
                assert len(matches) >= count, (
                    f"ended ({self.process.returncode}) before {pattern!r}:\n{self.all_output()}"
                )
            return matches[count - 1] if len(matches) >= count else None

        try:
            return wait_for(f"log line {pattern!r}", found, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.all_output()}") from None

    def _has_ended(self) -> bool:
        return all(master.process.poll() is not None for master in [self, *self.heirs])

    def all_output(self) -> str:
        """What an engineer wants to read when a test fails."""
        stderr = self.stderr.read_text(errors="replace") if self.errorlog != self.stderr else ""
        return f"--- {self.flavour.name} log ---\n{self.log}{stderr}"

    # What the server consists of.

    def workers(self) -> list[int]:
        """Pids of the workers, oldest first."""
        return [pid for pid in children(self.pid) if pid not in {heir.pid for heir in self.heirs}]

    def wait_workers(self, count: int, *, without: Sequence[int] = ()) -> list[int]:
        """Wait until there are exactly `count` workers and none of `without` is among them."""

        def settled() -> list[int] | None:
            pids = self.workers()
            return pids if len(pids) == count and not set(pids) & set(without) else None

        return wait_for(f"{count} workers", settled)

    def session(self) -> list[int]:
        """Every living process of this server, orphans included."""
        return [pid for pid in all_pids() if (stat := proc_stat(pid)) and stat[0] != "Z" and int(stat[3]) == self.sid]

    # What a client does.

    def client(self, timeout: float = TIMEOUT_S) -> Client:
        """A new connection to the first address."""
        return Client(self.address, timeout)

    def get(self, target: str = "/", **options) -> Response:
        """One request on a connection of its own."""
        with self.client() as client:
            return client.get(target, **options)

    def together(self, targets: Sequence[str], timeout: float = TIMEOUT_S) -> list[Response]:
        """One request each on connections of their own, all of them sent before the first answer is read."""
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(self.client(timeout)) for _ in targets]
            for client, target in zip(clients, targets, strict=True):
                client.send(request(target))
            return [client.response() for client in clients]

    def worker_pid(self) -> int:
        """The pid of a worker that is surely booted: it has answered (an application made with `routes.Routes`)."""
        response = self.get("/pid")
        assert response.status == 200, response
        return int(response.body)

    @property
    def url(self) -> str:
        """The first address for clients that want a URL."""
        return "http://{}:{}".format(*self.address)

    def exchange(self, data: bytes, method: str = "GET") -> Response:
        """Send raw bytes on a connection of their own, read one response."""
        with self.client() as client:
            client.send(data)
            return client.response(method)

    # What an operator does.

    def kill(self, signum: signal.Signals) -> None:
        """Send a signal to the master."""
        os.kill(self.pid, signum)

    def wait_exit(self, timeout: float = TIMEOUT_S) -> int:
        """Wait for the master's exit status."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not exit within {timeout} s\n{self.all_output()}") from None

    def terminate(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Signal the master and wait for its exit status."""
        self.settle()
        self.kill(signum)
        return self.wait_exit()

    def settle(self) -> None:
        """Let the reference come to rest: a quick stop that meets its worker inside the thread pool deadlocks it."""
        if not self.flavour.own:
            time.sleep(SETTLE_S)

    def close(self) -> None:
        """Stop the server if it still runs, and fail if it had lost a worker, dies badly or leaves processes."""
        complaints = []
        pattern = DEATH if self.flavour.own else DEATH_REFERENCE
        if not self.deaths and (death := pattern.search(self.log)):
            complaints.append(f"a worker died: {death[0]}")
        try:
            for master in [*self.heirs, self]:
                if master.process.poll() is None:
                    master.settle()
                    master.kill(signal.SIGQUIT)
                    status = master.wait_exit(CLOSE_S[self.flavour.own])
                    assert status == 0, f"exit status {status} after SIGQUIT"
            wait_for("the last process to leave", lambda: not self.session(), CLOSE_S[self.flavour.own])
        except AssertionError as error:
            if self.flavour.own:
                complaints.append(f"{error}; left over: {self.session()}")
        finally:
            for pid in self.session():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
        assert not complaints, f"{complaints}\n{self.all_output()}"


def rss_kb(pid: int) -> int:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])
