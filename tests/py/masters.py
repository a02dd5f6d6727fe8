"""Masters that are no children of the test: daemons, and those that another master has started (SIGUSR2).

What such a process leaves with is its parent's to know. Their tests look at what the parent logs, and at what is left.
"""

from __future__ import annotations

import contextlib
import copy
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import harness
from harness import Server, all_pids, environment, is_alive, wait_for
from rawhttp import TIMEOUT_S, Address, Client

# Pause of a client between two requests: a few clients are a load that a busy test machine bears.
PAUSE_S = 0.01


class Foreign:
    """A process of somebody else, as far as `Server` asks for one. Its exit status stays unknown and counts as 0."""

    def __init__(self, pid: int):
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """0 once it has gone."""
        if not is_alive(self.pid):
            self.returncode = 0
        return self.returncode

    def wait(self, timeout: float = TIMEOUT_S) -> int:
        """Wait for its end."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(harness.POLL_S)
        return 0


def heir(server: Server, pid: int) -> Server:
    """The same server under the master `pid`: its log, its addresses. All masters of a server know all heirs."""
    new = copy.copy(server)
    new.pid, new.process = pid, Foreign(pid)
    server.heirs.append(new)
    return new


def starts(server: Server) -> list[int]:
    """Pids of the masters that have said that they listen, in this order."""
    return [int(pid) for pid in re.findall(r"Listening at: .*\((\d+)\)", server.log)]


def upgrade(server: Server) -> Server:
    """Send SIGUSR2 and wait until the new master listens and has its workers."""
    before = len(starts(server))
    server.kill(signal.SIGUSR2)
    wait_for("a new master that listens", lambda: len(starts(server)) > before)
    new = heir(server, starts(server)[-1])
    wait_for("the new master's workers", new.workers)
    return new


def wait_no_workers(server: Server) -> None:
    """Wait until the last worker has gone."""
    wait_for("the workers to leave", lambda: not server.workers())


def wait_answers(server: Server, pids: Sequence[int]) -> None:
    """Wait until each of these workers has answered."""
    missing = set(pids)

    def all_seen() -> bool:
        missing.discard(server.worker_pid())
        return not missing

    wait_for(f"answers of {sorted(missing)}", all_seen)


def wait_content(path: Path, text: str) -> None:
    """Wait until the file holds exactly this text."""
    wait_for(f"{text!r} in {path.name}", lambda: path.exists() and path.read_text() == text)


class Daemon(Server):
    """A server in the background (`-D`), whose processes are known by a variable that they have inherited."""

    MARK = "RGUNICORN_TEST_DAEMON"
    launcher: subprocess.CompletedProcess[bytes]

    def start(
        self, app: str | None, *args: str, bind: str = "127.0.0.1:0", env: dict[str, str] | None = None,
        errorlog: Path | None = None, listens: bool = True,
    ) -> Daemon:  # fmt: skip
        """Run the start command to its end, with status 0, and wait until the daemon listens.

        It logs to the file `errorlog`, or else to its standard error.
        """
        self.pidfile = self.workdir / "daemon.pid"
        command = [*self.flavour.command(), "-D", "--pid", str(self.pidfile), "--bind", bind, *args]
        if errorlog is not None:
            self.errorlog = errorlog
            command += ["--error-logfile", str(errorlog)]
        if app is not None:
            command.append(app)
        env = environment(env) | {self.MARK: str(self.workdir)}
        try:
            with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
                self.launcher = subprocess.run(
                    command, cwd=self.workdir, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                    start_new_session=True, timeout=TIMEOUT_S, check=True,
                )  # fmt: skip
            if listens:
                self.pid = wait_for("the daemon's pid file", self.read_pid)
                self.process = Foreign(self.pid)
                self.addresses = self._listening()
                self.address = self.addresses[0]
        except BaseException:
            for pid in self.session():
                os.kill(pid, signal.SIGKILL)
            raise
        return self

    def read_pid(self) -> int | None:
        """The pid in the file, None before there is one."""
        return int(self.pidfile.read_text()) if self.pidfile.exists() else None

    def session(self) -> list[int]:
        """Every living process of this server."""
        found = []
        for pid in all_pids():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if is_alive(pid) and variable(pid, self.MARK) == str(self.workdir):
                    found.append(pid)
        return found


class Load:
    """Clients that never pause for long, until `stop`: half of them keep their connections, the others use new ones.

    A kept connection is given up when an answer says `Connection: close`. Everything else that is not a good answer is
    a failure.
    """

    def __init__(self, address: Address, clients: int = 4):
        self.address = address
        self.answers: dict[str, int] = {}
        self.failures: list[str] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number % 2 == 0,)) for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, keeps: bool) -> None:
        client: Client | None = None
        while not self._over.wait(PAUSE_S):
            try:
                client = client or Client(self.address)
                answer = client.get("/pid")
                assert answer.status == 200, answer
            except (OSError, AssertionError, ValueError) as error:
                with self._lock:
                    self.failures.append(f"{'kept' if keeps else 'new'}: {error!r}")
                answer = None
            if answer is not None:
                with self._lock:
                    pid = answer.body.decode()
                    self.answers[pid] = self.answers.get(pid, 0) + 1
            if client and (answer is None or not keeps or answer.header("Connection") == "close"):
                client.close()
                client = None
        if client:
            client.close()

    def wait_more(self, count: int = 50) -> None:
        """Wait for so many more answers."""
        goal = sum(self.answers.values()) + count
        wait_for(f"{count} more answers", lambda: sum(self.answers.values()) >= goal or self.failures)

    def check(self) -> None:
        """Every request was answered well."""
        assert not self.failures, self.failures[:10]


def status_field(pid: int, name: str) -> str:
    """One line of /proc/PID/status."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return line.partition(":")[2].strip()


def title(pid: int) -> str:
    """The arguments as `ps` shows them."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def variable(pid: int, name: str) -> str | None:
    """A variable of the environment that a process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    found = [pair.partition(b"=")[2].decode() for pair in pairs if pair.startswith(f"{name}=".encode())]
    return found[0] if found else None


def listening_sockets(port: int) -> set[str]:
    """Inodes of the TCP sockets that listen on a port of 127.0.0.1."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[3] == "0A" and int(row[1].partition(":")[2], 16) == port}


def sockets_of(pid: int) -> set[str]:
    """Inodes of the sockets that a process has open."""
    names = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            names.append(os.readlink(entry.path))
        except FileNotFoundError:
            continue  # The descriptor that listed the directory.
    return {name[len("socket:[") : -1] for name in names if name.startswith("socket:")}


def as_module() -> list[str]:
    """A prefix that runs `python -m PROGRAM` instead of the console script that it stands before."""
    script = 'program=$(basename "$1"); shift; exec "$0" -m "$program" "$@"'
    return ["sh", "-c", script, sys.executable]
