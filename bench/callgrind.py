"""Servers under valgrind's callgrind: the instructions of user space that a request costs, and the functions it enters.

One run counts one scenario. A plain client sends one request at a time, always the same bytes in the same order, so
that the same code runs every time; the machine's speed and its other work do not enter. The application marks points
of the run by calling a function that callgrind watches for (`MARK`), and callgrind then writes what it has counted
since the last one:

    start, warm-up | mark | mark | N requests | mark, and the server is killed

The third part contains what the second does, one request with a mark, and N requests more: `measure` gives the
difference. Only the process that runs the application meets a mark, so the master is not counted.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import servers

APPS = servers.ROOT / "bench" / "apps"
MARK = "sched_get_priority_max"
MARKS = 3

START_S = 180.0
"""Until the first answer: importing a server under valgrind takes 5 to 20 s on a quiet machine."""
ANSWER_S = 60.0
CONNECTIONS = 4
WARM_UP = 400
"""Requests before the first mark: free lists, caches and Python's adaptive interpreter are settled by then."""

Key = TypeVar("Key")


class Function(NamedTuple):
    """A function as callgrind names it."""

    object: str
    """The program or library."""
    file: str
    """The source file; ``???`` without debug information."""
    name: str


@dataclass
class Profile:
    """Counts between two points of a run, or the difference of two such."""

    total: float = 0
    exclusive: Counter[Function] = field(default_factory=Counter)
    """Instructions of the function itself."""
    calls: Counter[tuple[Function, Function]] = field(default_factory=Counter)
    """How often the first has called the second."""
    call_costs: Counter[tuple[Function, Function]] = field(default_factory=Counter)
    """Instructions of those calls, with all that they have called. Recursion counts at each level."""
    files: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Instructions by object and source file; inlined code is at the file where it is written."""

    def per_request(self, base: Profile, requests: int) -> Profile:
        """The cost of each of `requests` that this profile has beyond `base`."""
        return Profile(
            (self.total - base.total) / requests,
            _difference(self.exclusive, base.exclusive, requests),
            _difference(self.calls, base.calls, requests),
            _difference(self.call_costs, base.call_costs, requests),
            _difference(self.files, base.files, requests),
        )

    def inclusive(self) -> Counter[Function]:
        """Instructions of each function and of what it has called."""
        costs = Counter(self.exclusive)
        for (caller, _), cost in self.call_costs.items():
            costs[caller] += cost
        return costs


def _difference(more: Counter[Key], less: Counter[Key], divisor: int) -> Counter[Key]:
    keys = more.keys() | less.keys()
    return Counter({key: (more[key] - less[key]) / divisor for key in keys if more[key] != less[key]})


NAME = re.compile(r"(ob|fl|fi|fe|fn|cob|cfi|cfl|cfn)=(?:\((\d+)\))?\s*(.*)")


class _Reader:
    """Reads callgrind's format, in which a name is written out once and is a number from then on."""

    def __init__(self) -> None:
        self.profile = Profile()
        self._names: dict[tuple[str, str], str] = {}
        self._object = self._file = "???"
        self._function = self._callee = Function("???", "???", "???")
        self._called_object = self._called_file = ""
        self._in_call = False

    def line(self, line: str) -> None:
        """Take the next line."""
        if line and line[0] in "0123456789+-*":
            self._cost(line)
        elif line.startswith("calls="):
            self.profile.calls[self._function, self._callee] += int(line[6:].split(maxsplit=1)[0])
            self._in_call = True
        elif line.startswith("totals:"):
            self.profile.total = int(line.split()[1])
        elif match := NAME.match(line):
            self._name(match[1], self._full(match[1], match[2], match[3]))

    def _full(self, kind: str, number: str | None, name: str) -> str:
        """The name that a number stands for; files, objects and functions are numbered apart."""
        space = kind.removeprefix("c")[:2].replace("fi", "fl").replace("fe", "fl")
        if number is None:
            return name
        return self._names.setdefault((space, number), name) if name else self._names[space, number]

    def _name(self, kind: str, name: str) -> None:
        match kind:
            case "ob":
                self._object = name
            case "fl" | "fi" | "fe":
                self._file = name
            case "fn":
                self._function = Function(self._object, self._file, name)
            case "cob":
                self._called_object = name
            case "cfi" | "cfl":
                self._called_file = name
            case "cfn":
                self._callee = Function(self._called_object or self._object, self._called_file or self._file, name)
                self._called_object = self._called_file = ""

    def _cost(self, line: str) -> None:
        _, *costs = line.split()
        cost = int(costs[0]) if costs else 0
        if self._in_call:
            self.profile.call_costs[self._function, self._callee] += cost
        else:
            self.profile.exclusive[self._function] += cost
            self.profile.files[self._object, self._file] += cost
        self._in_call = False


def parse(lines: Iterable[str]) -> Profile:
    """Read one file of callgrind, whose first event is instructions."""
    reader = _Reader()
    for line in lines:
        reader.line(line.rstrip("\n"))
    return reader.profile


def parts(directory: pathlib.Path) -> list[Profile]:
    """The parts of a run that a mark has ended, in order."""
    found: dict[str, list[tuple[int, pathlib.Path]]] = {}
    for file in directory.glob("out.*.*"):
        _, pid, number = file.name.split(".")
        if _is_marked(file):
            found.setdefault(pid, []).append((int(number), file))
    if len(found) != 1 or len(*found.values()) != MARKS:
        seen = {pid: len(files) for pid, files in found.items()}
        raise RuntimeError(f"wanted {MARKS} marks of one process, callgrind has seen {seen or 'none'}")
    (files,) = found.values()
    return [parse(file.read_text().splitlines()) for _, file in sorted(files)]


def _is_marked(file: pathlib.Path) -> bool:
    with file.open() as lines:
        head = [line for _, line in zip(range(20), lines, strict=False)]
    return any(line.startswith("desc: Trigger: --dump-before=") for line in head)


@dataclass(frozen=True)
class Load:
    """The requests of a scenario."""

    request: bytes
    """One request without its last empty line, so that fields can be added."""
    warm_up: int = WARM_UP
    requests: int = 1_000
    changing: bool = False
    """Whether one field more has another value in each."""
    body: bytes = b""
    """Of each request; its head says its length."""

    def text(self, number: int) -> bytes:
        """The request with this number."""
        return self._with(b"X-Request-Id: %08d\r\n" % number if self.changing else b"")

    def mark(self) -> bytes:
        """A request that marks a point."""
        return self._with(b"Mark: 1\r\n")

    def _with(self, field: bytes) -> bytes:
        return self.request + field + b"\r\n" + self.body


class Client:
    """Sends one request at a time, over `CONNECTIONS` kept-alive connections in turn."""

    def __init__(self, port: int) -> None:
        self._sockets = [socket.create_connection(("127.0.0.1", port), ANSWER_S) for _ in range(CONNECTIONS)]
        for sock in self._sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self, load: Load, count: int) -> None:
        """Send the request `count` times, rounded up to whole turns of the connections."""
        for number in range(count):
            self._exchange(self._sockets[number % CONNECTIONS], load.text(number))

    def mark(self, load: Load) -> None:
        """Send one request that marks the point."""
        self._exchange(self._sockets[0], load.mark())

    def close(self) -> None:
        """Close the connections."""
        for sock in self._sockets:
            sock.close()

    @staticmethod
    def _exchange(sock: socket.socket, request: bytes) -> None:
        sock.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += _received(sock)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        if not head.startswith(b"HTTP/1.1 200 ") or length is None:
            raise RuntimeError(f"unexpected answer {head!r}")
        missing = int(length[1]) - len(body)
        while missing > 0:
            missing -= len(_received(sock))


def _received(sock: socket.socket) -> bytes:
    piece = sock.recv(65_536)
    if not piece:
        raise RuntimeError("the server has closed a connection")
    return piece


def measure(command: Callable[[int], list[str]], load: Load) -> Profile:
    """The cost of one request to the server that `command` gives for a port."""
    with tempfile.TemporaryDirectory(prefix="callgrind-") as name:
        directory = pathlib.Path(name)
        with _running(command, directory) as port:
            client = Client(port)
            with contextlib.closing(client):
                client.run(load, load.warm_up)
                client.mark(load)
                client.mark(load)
                client.run(load, load.requests)
                client.mark(load)
        _warm_up, mark, counted = parts(directory)
    return counted.per_request(mark, load.requests)


def valgrind() -> str:
    """The program."""
    program = shutil.which("valgrind")
    if program is None:
        raise SystemExit("valgrind is missing: please install it (Debian: valgrind)")
    return program


def options(directory: pathlib.Path) -> str:
    """Its options for this tool, in the form of the variable VALGRIND_OPTS.

    Not on its command line: that is where a worker writes its title, while valgrind keeps pointers into it.
    """
    # Not every libc calls the function by the same name.
    marks = [f"--dump-before={name}" for name in (MARK, f"__{MARK}")]
    # Threads take turns instead of racing for valgrind's one lock.
    return " ".join(["--fair-sched=yes", f"--callgrind-out-file={directory}/out.%p", *marks])


@contextlib.contextmanager
def _running(command: Callable[[int], list[str]], directory: pathlib.Path) -> Iterator[int]:
    port = servers.free_port()
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [valgrind(), "--tool=callgrind", *command(port)],
            cwd=APPS,
            env=environment() | {"VALGRIND_OPTS": options(directory)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_until_it_listens(process, port, log)
        yield port
    except (OSError, RuntimeError) as error:
        raise RuntimeError(f"{error}; the server said:\n{log.read_text(errors='replace')[-3000:]}") from error
    finally:
        _kill(process)


def environment() -> dict[str, str]:
    """The same variables each time: a larger environment moves the stack, another hash seed every dictionary."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", **kept}


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: pathlib.Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the server left with status {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), ANSWER_S).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the server at once: its counts are written, and an orderly stop takes seconds under valgrind."""
    for pid in servers.tree(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
