"""System calls that fail for good: a cell is a call, an error, a process and a moment; its run is judged from outside.

What is asked of every cell: no answer is wrong, nothing spins, the log stays readable; when the call works again, or
where another process can take over, the server serves within a bound; and it stops when it is told to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from harness import COOPERATIVE, FLAVOURS, Flavour, Server, cpu_seconds, wait_for
from rawhttp import Address, connect, request
from syscalls import Denials, Rule

# What a round of requests may take; a connection that waits longer for its answer has stalled.
ROUND_S = 2.0
# The time for which an idle server is watched while the call fails.
WATCHED_S = 1.5
# How soon a server serves again: a worker's --timeout, a start, and the longest pause before one.
RECOVERY_S = 10.0
LINES_PER_S_MAX = 50
# A driver that is refused for the moment asks again each millisecond, for some seconds.
CALLS_PER_S_MAX = 1200
# More than stays in memory.
UPLOAD = bytes(range(256)) * 3000
FILE = 300_000
OPTIONS = ("--pid", "server.pid", "--timeout", "4", "--graceful-timeout", "2", "--log-level", "info")


@dataclass(frozen=True)
class Cell:
    """One failure: which call, with which error, of whom (`worker`: the first one; `workers`: all; `master`), when."""

    call: str
    error: str
    who: str = "worker"
    # 0: from the start of the process on; else from the nth call after the server has served.
    nth: int = 1
    # A name for the calls that are meant, of `ARGUMENTS`.
    of: str = ""

    def __str__(self) -> str:
        moment = f"from-{self.nth}" if self.nth else "from-the-start"
        return f"{self.who}-{self.call}{'-' + self.of if self.of else ''}-{self.error}-{moment}"


# The calls that a process of each kind makes, and how each may fail. A name behind the colon says which calls of that
# number are meant. Not among them: close(2), which closes whatever it answers, and calls that cannot fail with what
# they are given, as sigprocmask(2).
OF_WORKERS = {
    "accept4": ("EMFILE", "ENFILE", "ENOMEM", "EPERM", "EIO", "EBADF"),
    "sendto": ("EPERM", "ENOBUFS", "EIO"),
    "sendmsg": ("EPERM", "ENOBUFS"),
    "recvfrom": ("EPERM", "ENOMEM", "EIO"),
    "sendfile": ("EINVAL", "ENOSYS", "EIO"),
    "shutdown": ("EPERM", "ENOBUFS"),
    "openat": ("EMFILE", "ENFILE", "EACCES"),
    "mmap": ("ENOMEM",),
    "mprotect": ("ENOMEM",),
    "madvise": ("EINVAL",),
    "fcntl": ("EMFILE", "EPERM"),
    "lseek": ("EIO",),
    "pread64": ("EIO",),
    "pwrite64": ("ENOSPC",),
    "newfstatat": ("EACCES",),
    "statx": ("EACCES", "ENOSYS"),
    "ioctl": ("EPERM",),
    "getsockopt": ("EPERM",),
    "clone3": ("EAGAIN", "EPERM"),
    "pipe2": ("EMFILE",),
    "eventfd2": ("EMFILE",),
    "poll": ("ENOMEM",),
    "read": ("EIO", "EPERM"),
    "write:streams": ("ENOSPC", "EIO", "EAGAIN"),
    "write:others": ("ENOSPC", "EIO", "EAGAIN"),
    "dup3": ("EBUSY",),
    "memfd_create": ("EMFILE",),
    "kill": ("EPERM",),
    "prctl": ("EINVAL",),
    "rt_sigaction": ("EINVAL",),
}
OF_DRIVERS = {
    "uring": {"io_uring_enter": ("EPERM", "ENOSYS", "ENOMEM", "EBADF", "EAGAIN", "EBUSY")},
    "epoll": {
        "epoll_wait": ("EPERM", "ENOMEM", "EBADF"),
        "epoll_pwait2": ("ENOSYS", "EPERM", "ENOMEM"),
        "epoll_ctl": ("EPERM", "ENOMEM", "ENOSPC", "EBADF"),
    },
}
# Of the start of a worker only.
OF_STARTS = {
    "uring": {"io_uring_setup": ("EPERM", "ENOSYS", "ENOMEM"), "io_uring_register": ("EPERM", "ENOMEM")},
    "epoll": {"epoll_create1": ("EMFILE", "ENOMEM")},
}
OF_MASTERS = {
    "clone": ("EAGAIN", "ENOMEM"),
    "wait4": ("ECHILD", "EPERM"),
    "kill": ("EPERM", "ESRCH"),
    "openat": ("EMFILE", "EACCES", "ENOSPC"),
    "pipe2": ("EMFILE",),
    "socketpair": ("EMFILE",),
    "eventfd2": ("EMFILE",),
    "poll": ("EINVAL", "ENOMEM"),
    "read": ("EIO",),
    "write:streams": ("ENOSPC", "EIO", "EAGAIN"),
    "write:others": ("ENOSPC", "EIO", "EAGAIN"),
    "rename": ("EACCES", "ENOSPC"),
    "unlink": ("EACCES",),
    "mmap": ("ENOMEM",),
    "fcntl": ("EMFILE",),
    "dup3": ("EBUSY",),
    "newfstatat": ("EACCES",),
    "statx": ("EACCES",),
    "fchmod": ("EPERM",),
    "rt_sigaction": ("EINVAL",),
    "prctl": ("EINVAL",),
}
# Of the start of a master only.
OF_MASTER_STARTS = {"socket": ("EMFILE",), "bind": ("EACCES",), "listen": ("EADDRINUSE",), "setsockopt": ("EPERM",)}
LOW = 3
ARGUMENTS: dict[str, Callable[[tuple[int, ...]], bool]] = {
    "": lambda args: True,
    "streams": lambda args: args[0] < LOW,
    "others": lambda args: args[0] >= LOW,
    "threads": lambda args: bool(args[0] & 0x10000),
    "processes": lambda args: not args[0] & 0x10000,
    "writing": lambda args: bool(args[2] & 3),
}


@dataclass
class Findings:
    """The outcomes of a cell."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, outcome: str, detail: str = "") -> None:
        self.outcomes[outcome] += 1
        if outcome == "wrong":
            self.wrong.append(detail)


class Exchange:
    """Requests on a connection of their own, and the answers that they must get."""

    def __init__(self, name: str, data: bytes, expected: list[tuple[str, bytes]]):
        self.name, self.data, self.expected = name, data, expected
        self.sock: socket.socket | None = None
        self.got = b""
        self.over = False

    def begin(self, address: Address) -> None:
        try:
            self.sock = connect(address, ROUND_S)
            self.sock.setblocking(False)
        except OSError:
            self.over = True

    def step(self) -> None:
        """Send and receive what goes without waiting."""
        assert self.sock is not None
        try:
            if self.data:
                self.data = self.data[self.sock.send(self.data) :]
        except BlockingIOError:
            pass
        except OSError:
            # An answer may have come before the end.
            self.data = b""
        try:
            data = self.sock.recv(1 << 20)
            self.got += data
            self.over = not data or self.is_answered()
        except BlockingIOError:
            pass
        except OSError:
            self.over = True

    def answers(self) -> list[Answer]:
        """The answers so far, the last of them perhaps not whole."""
        found, rest = [], self.got
        while (answer := parsed(rest)) is not None:
            found.append(answer)
            if not answer.whole:
                break
            rest = answer.rest
        return found

    def is_answered(self) -> bool:
        answers = self.answers()
        return len(answers) == len(self.expected) and answers[-1].whole

    def judge(self, findings: Findings) -> bool:
        """Add the outcomes. Whether all answers are right."""
        right, answers = 0, self.answers()
        for (token, body), answer in zip_longest(self.expected, answers):
            if answer is None:
                findings.add("closed" if self.over else "stalled")
            elif answer.status >= 400:
                findings.add(str(answer.status))
            elif (answer.status, answer.token) != (200, token) or not body.startswith(answer.body):
                findings.add("wrong", f"{self.name}: {token}: {answer}"[:300])
            elif not answer.whole:
                findings.add("closed" if self.over else "stalled")
            elif answer.body == body:
                findings.add("right")
                right += 1
            else:
                findings.add("wrong", f"{self.name}: {token}: too short: {answer}"[:300])
        if self.sock is not None:
            self.sock.close()
        return right == len(self.expected)


@dataclass
class Answer:
    """An answer as far as it has come."""

    status: int
    token: str
    body: bytes
    # Whether that is all of it, and what follows.
    whole: bool
    rest: bytes


def parsed(data: bytes) -> Answer | None:
    """The first answer, if its head is there."""
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    answer = Answer(int(lines[0].split()[1]), fields.get("x-token", ""), b"", False, rest)
    if "content-length" in fields:
        length = int(fields["content-length"])
        answer.body, answer.rest, answer.whole = rest[:length], rest[length:], len(rest) >= length
        return answer
    while True:
        size, found, rest = rest.partition(b"\r\n")
        if not found:
            return answer
        length = int(size, 16)
        answer.body += rest[:length]
        if len(rest) < length + 2:
            return answer
        rest = rest[length + 2 :]
        if length == 0:
            answer.rest, answer.whole = rest, True
            return answer


def exchanges(workdir: Path, name: str) -> Iterable[Exchange]:
    """Requests of all kinds, with tokens that come only once."""

    def echo(token: str) -> tuple[str, bytes]:
        return token, f"{token};".encode() * 20

    tokens = [f"{name}-{index}" for index in range(7)]
    yield Exchange("pair", b"".join(request(f"/echo?t={token}") for token in tokens[:2]), [*map(echo, tokens[:2])])
    yield Exchange("echo", request(f"/echo?t={tokens[2]}"), [echo(tokens[2])])
    (workdir / f"{tokens[3]}.data").write_bytes(content := tokens[3].ljust(16).encode() * (FILE // 16))
    yield Exchange("file", request(f"/file?t={tokens[3]}"), [(tokens[3], content)])
    items = b"".join(f"{tokens[4]}-{index};".encode() * 500 for index in range(8))
    yield Exchange("stream", request(f"/stream?t={tokens[4]}"), [(tokens[4], items)])
    yield Exchange("big", request(f"/big?t={tokens[6]}"), [(tokens[6], f"{tokens[6]};".encode() * 5000)])
    text = f"{tokens[5]}:{len(UPLOAD)}:{zlib.crc32(UPLOAD)}".encode()
    yield Exchange("upload", request(f"/upload?t={tokens[5]}", method="POST", body=UPLOAD), [(tokens[5], text)])


def play(server: Server, findings: Findings, name: str, *needed: str) -> bool:
    """A round of requests. Whether all of them, or all that are `needed`, were answered rightly."""
    running = [*exchanges(server.workdir, name)]
    for exchange in running:
        exchange.begin(server.address)
    deadline = time.monotonic() + ROUND_S
    while (left := [each for each in running if not each.over]) and time.monotonic() < deadline:
        readable = [each.sock for each in left]
        select.select(readable, [each.sock for each in left if each.data], [], 0.05)
        for exchange in left:
            exchange.step()
    right = {exchange.name for exchange in running if exchange.judge(findings)}
    for path in server.workdir.glob("*.data"):
        path.unlink()
    return right >= set(needed or [exchange.name for exchange in running])


@dataclass
class Run:
    """A cell on a server."""

    cell: Cell
    server: Server
    denials: Denials
    complaints: list[str] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    notes: list[str] = field(default_factory=list)
    used: Rule | None = None

    @property
    def failed(self) -> int:
        """How often the call has failed."""
        return sum(self.used.failed.values()) if self.used else 0

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def rule(self) -> Rule:
        cell, server = self.cell, self.server
        first = server.workers()[:1] if cell.nth else []

        def hits(pid: int) -> bool:
            if cell.who == "master":
                return pid == server.pid
            if cell.who == "worker":
                if not first and pid != server.pid:
                    first.append(pid)
                return pid in first
            return pid != server.pid

        self.used = Rule(cell.call, getattr(errno, cell.error), hits, max(cell.nth, 1), ARGUMENTS[cell.of])
        return self.used

    def starts(self) -> bool:
        """Start the server, with the failure or before it. Whether it serves."""
        server = self.server
        if self.cell.nth == 0:
            self.denials.rule = self.rule()
        # Where the logs go is where the failing writes should.
        streams = self.cell.of == "streams"
        logs = ("--access-logfile", "-" if streams else "access.log")
        errorlog = None if streams else server.workdir / "error.log"
        try:
            server.start("failing:app", *OPTIONS, *logs, prefix=self.denials.prefix, errorlog=errorlog)
        except AssertionError as error:
            status = server.process.poll()
            said = (server.log + server.stderr.read_text()).strip()
            if status is None:
                self.complain(f"neither serves nor ends: {error}")
            elif status <= 0:
                self.complain(f"ends with {status}")
            if not said:
                self.complain("ends without a word")
            self.notes.append(f"exit {status}: {said.splitlines()[-1:]}")
            return False
        if self.cell.nth:
            wait_for("right answers", lambda: play(server, Findings(), "before"))
            self.denials.rule = self.rule()
        return True

    def goes_on(self) -> None:
        """Let the server work under the failure and after it."""
        self.under_failure()
        self.notes.append(f"{dict(self.findings.outcomes)} {self.failed} failures")
        if self.cell.who == "worker":
            # Files are the application's own affair, and may be what cannot be had.
            self.recovers("alone", "pair", "echo", "stream", "big")
        self.denials.rule = None
        if self.server.process.poll() is None:
            self.recovers("lifted")
        self.stops()
        if self.findings.wrong:
            self.complain(f"wrong answers: {self.findings.wrong[:3]}")

    def under_failure(self) -> None:
        """Requests while the call fails, then a time in which there is nothing to do."""
        server = self.server
        log = len(server.log)
        begun = time.monotonic()
        if self.cell.who == "master":
            self.give_the_master_work()
        else:
            # Workers open their logs again.
            self.server.kill(signal.SIGUSR1)
        requests = 0
        for number in range(3):
            play(server, self.findings, f"f{number}")
            requests += 7
        lines = server.log[log:].count("\n")
        if lines > LINES_PER_S_MAX * (time.monotonic() - begun) + 2 * requests:
            self.complain(f"{lines} lines of log in {time.monotonic() - begun:.1f} s of {requests} requests")
        self.watch()

    def give_the_master_work(self) -> None:
        """A dead worker, logs to reopen and a reload."""
        for pid in self.server.workers()[:1]:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.3)
        self.server.kill(signal.SIGUSR1)
        time.sleep(0.3)
        self.server.kill(signal.SIGHUP)

    def watch(self) -> None:
        """Nothing is asked of the server now."""
        server, rule = self.server, self.denials.rule
        assert rule is not None
        log, failed = len(server.log), sum(rule.failed.values())
        pids = [server.pid, *server.workers()]
        before = {pid: cpu(pid) for pid in pids}
        begun = time.monotonic()
        time.sleep(WATCHED_S)
        took = time.monotonic() - begun
        lines, failed = server.log[log:].count("\n"), sum(rule.failed.values()) - failed
        used = max((cpu(pid) - before[pid] for pid in pids), default=0)
        self.notes.append(f"idle: {lines / took:.0f} lines/s {failed / took:.0f} failures/s cpu {used / took:.2f}")
        if lines / took > LINES_PER_S_MAX:
            self.complain(f"{lines / took:.0f} lines of log a second")
        if failed / took > CALLS_PER_S_MAX:
            self.complain(f"spins: {failed / took:.0f} failed calls a second")
        if used / took > 0.6:
            self.complain(f"spins: {used / took:.2f} of a processor")

    def recovers(self, what: str, *needed: str) -> None:
        begun = time.monotonic()
        number = 0
        while time.monotonic() - begun < RECOVERY_S:
            number += 1
            if play(self.server, self.findings, f"{what}{number}", *needed):
                self.notes.append(f"{what} in {time.monotonic() - begun:.1f} s")
                return
            if (status := self.server.process.poll()) is not None:
                said = self.server.log.strip().splitlines()[-1:]
                self.notes.append(f"exit {status}: {said}")
                if status not in (1, 3, 4) or (self.cell.who == "worker" and self.cell.nth):
                    self.complain(f"ends with {status}")
                return
            time.sleep(0.1)
        self.complain(f"does not serve within {RECOVERY_S} s ({what}); exit {self.server.process.poll()}")

    def stops(self) -> None:
        server = self.server
        if server.process.poll() is None:
            server.kill(signal.SIGTERM)
            try:
                status = server.wait_exit(8)
                if status != 0:
                    self.complain(f"exit status {status} after SIGTERM")
            except AssertionError:
                self.complain("does not stop")
        try:
            wait_for("the last process to leave", lambda: not server.session(), 3)
        except AssertionError:
            self.complain(f"left over: {server.session()}")


def spread(calls: dict[str, tuple[str, ...]], who: str, *moments: int) -> Iterator[Cell]:
    for name, errors in calls.items():
        call, _, of = name.partition(":")
        yield from (Cell(call, error, who, nth, of) for error in errors for nth in moments)


def all_cells(flavour: Flavour) -> list[Cell]:
    """Every cell that makes sense for a way to run the server."""
    driver = "epoll" if "epoll" in flavour.options else "uring"
    cells = [
        *spread(OF_DRIVERS[driver], "worker", 1, 7),
        *spread(OF_DRIVERS[driver], "workers", 1),
        *spread(OF_STARTS[driver], "workers", 0),
        *spread(OF_WORKERS, "worker", 1, 4),
        *spread({call: errors[:1] for call, errors in OF_WORKERS.items()}, "worker", 0),
    ]
    if flavour.name == "rgunicorn-uring":
        # The same whatever its workers are.
        cells += [*spread(OF_MASTERS, "master", 1, 3)]
        starts = {call: errors[:1] for call, errors in OF_MASTERS.items()} | OF_MASTER_STARTS
        # Without memory the program itself cannot be loaded; and without its log no address is known.
        cells += [cell for cell in spread(starts, "master", 0) if cell.call != "mmap" and cell.of != "streams"]
    return cells


def some_cells(flavour: Flavour) -> list[Cell]:
    """Those of which each stands for many."""
    driver = "epoll" if "epoll" in flavour.options else "uring"
    cells = {
        "uring": [Cell("io_uring_enter", "ENOMEM"), Cell("io_uring_enter", "EPERM", nth=7)],
        "epoll": [Cell("epoll_ctl", "EPERM"), Cell("epoll_ctl", "ENOSPC"), Cell("epoll_pwait2", "EBADF", nth=7)],
    }[driver]
    cells += [Cell("read", "EIO"), Cell("accept4", "EMFILE"), Cell("sendto", "EIO")]
    if flavour.name in ("rgunicorn-uring", "rgunicorn-epoll"):
        cells += [
            Cell("accept4", "EPERM", nth=4),
            Cell("sendfile", "EINVAL"),
            Cell("write", "ENOSPC", of="others"),
            Cell("write", "EIO", of="streams"),
            Cell("openat", "EMFILE"),
        ]
    if flavour.name == "rgunicorn-uring":
        # The same whatever its workers are.
        cells += [Cell("poll", "ENOMEM", "master"), Cell("read", "EIO", "master"), Cell("clone", "EAGAIN", "master")]
    return cells


def cpu(pid: int) -> float:
    try:
        return cpu_seconds(pid)
    except AssertionError:
        return 0.0


def run(cell: Cell, flavour: Flavour, workdir: Path) -> Run:
    """Let the call fail in a server, and judge it."""
    server = Server(flavour, workdir, deaths=True)
    denials = Denials(workdir, [cell.call])
    this = Run(cell, server, denials)
    try:
        if this.starts():
            this.goes_on()
        return this
    finally:
        for pid in server.session() if hasattr(server, "sid") else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if hasattr(server, "process"):
            server.process.wait()
        denials.close()


def main() -> None:
    """Print all cells."""
    known = [flavour for flavour in FLAVOURS.values() if flavour.own] + [
        each for each in COOPERATIVE.values() if each.own
    ]
    for flavour in known:
        for cell in all_cells(flavour):
            print(flavour.name, cell)


if __name__ == "__main__":
    main()
