"""The servers under comparison: how each is started with one worker, stopped, and looked at.

`TABLE` is the only place that knows a server's command line. Everything listens on 127.0.0.1 at a port that was free
a moment ago, with the access log off.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parent.parent
APPS = ROOT / "tests" / "apps"
APP = "bench_hello:app"

START_S = 30.0
STOP_S = 10.0
# Idle connections must outlive every measurement.
KEEP_ALIVE_S = 3_600
CONNECTIONS_MAX = 20_000
BACKLOG = "2048"
FLOOR = ROOT / "target" / "release" / "floor"
_UWSGI_GEVENT = ("--gevent", "4000", "--gevent-early-monkey-patch")


Arguments = Callable[[int], list[str]]
"""Port to command line."""
Ready = Callable[[socket.socket], None]
"""A request and its answer on an open connection."""


@dataclass(frozen=True)
class Server:
    """One row of the comparison."""

    name: str
    package: str
    """The distribution whose version is reported; a server whose package is missing is left out."""
    arguments: Arguments
    """Port to command line, the program first; the program is looked up beside this Python."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that it needs besides those of this process."""
    loop: str = ""
    """The loop that its application must find itself on and its back end; empty: not asked."""


def gunicorn(program: str, *extra: str, app: str = APP, workers: int = 1) -> Arguments:
    """The command line that Gunicorn and rgunicorn share."""

    def arguments(port: int) -> list[str]:
        limits = ["--worker-connections", str(CONNECTIONS_MAX), "--keep-alive", str(KEEP_ALIVE_S)]
        return [program, "-w", str(workers), "-b", f"127.0.0.1:{port}", *limits, *extra, app]

    return arguments


def _granian(app: str, workers: int) -> Arguments:
    # Without --backpressure granian serves at most `backlog` connections at a time.
    limits = ["--backlog", BACKLOG, "--backpressure", str(CONNECTIONS_MAX)]
    timeouts = ["--http1-header-read-timeout", "60000"]  # also closes idle connections; the longest it allows
    threads = ["--workers", str(workers), "--blocking-threads", "1", "--runtime-threads", "1"]
    options = ["--interface", "wsgi", "--no-ws", *threads, *limits, *timeouts]
    return lambda port: ["granian", *options, "--host", "127.0.0.1", "--port", str(port), app]


def _peregrine(app: str, workers: int) -> Arguments:
    limits = ["--max-connections", str(CONNECTIONS_MAX), "--backlog", BACKLOG]
    options = ["--protocol", "wsgi", "--workers", str(workers), *limits, "--keep-alive", str(KEEP_ALIVE_S * 1_000)]
    return lambda port: ["peregrine", *options, "--host", "127.0.0.1", "--port", str(port), app]


def _waitress(app: str) -> Arguments:
    # Its select(2) knows 1,024 descriptors.
    limits = ["--asyncore-use-poll", f"--connection-limit={CONNECTIONS_MAX}", f"--backlog={BACKLOG}"]
    options = [*limits, f"--channel-timeout={KEEP_ALIVE_S}", "--threads=1"]
    return lambda port: ["waitress-serve", *options, f"--listen=127.0.0.1:{port}", app]


def _pywsgi(app: str) -> Arguments:
    return lambda port: ["python", "bench_pywsgi.py", str(port), app]


def _uwsgi(app: str, workers: int, *extra: str) -> Arguments:
    # Behind its router: without, a worker has one connection at a time, until that closes. Under gevent it can have
    # many, but --http11-socket ends in an assertion of libev then. TERM would reload without --die-on-term.
    process = ["--master", "--processes", str(workers), "--disable-logging", "--die-on-term", "--listen", BACKLOG]
    keep = ["--http-keepalive=3600", "--http-auto-chunked", "--http-timeout", "3600"]
    return lambda port: ["uwsgi", "--http", f"127.0.0.1:{port}", *keep, *extra, *process, "--module", app]


def _floor(driver: str, body_bytes: int) -> Arguments:
    return lambda port: [str(FLOOR), "--driver", driver, "--port", str(port), "--body-bytes", str(body_bytes)]


def _in_python(code: str, app: str = APP, workers: int = 1) -> Arguments:
    """A server that is a function of Python."""
    module, _, name = app.partition(":")

    def arguments(port: int) -> list[str]:
        run = code.format(app=f"{module}.{name}", port=port, workers=workers)
        return ["python", "-c", f"import {module}; {run}"]

    return arguments


IN_PYTHON = {
    "freastal": "import freastal; freastal.serve({app}, '127.0.0.1', {port})",
    "fastpysgi": "import fastpysgi; fastpysgi.run({app}, '127.0.0.1', {port})",
    "bjoern": "import bjoern; bjoern.run({app}, '127.0.0.1', {port})",
}
"""Python code of the servers that have no command line."""

WITH_WORKERS = {
    "freastal": "import freastal; freastal.serve({app}, '127.0.0.1', {port}, workers={workers})",
    "fastpysgi": "import fastpysgi; fastpysgi.run({app}, '127.0.0.1', {port}, workers={workers})",
}
"""The same for those that know more than one worker."""

# By default it keeps ten connections open, and its queue is as short.
_CHEROOT = (
    "import cheroot.wsgi; server = cheroot.wsgi.Server(('127.0.0.1', {port}), {app}, numthreads=1, "
    f"request_queue_size={BACKLOG}, timeout={KEEP_ALIVE_S}); "
    f"server.keep_alive_conn_limit = {CONNECTIONS_MAX}; server.start()"
)


def table(app: str = APP, workers: int = 1) -> list[Server]:
    """Servers that run an application, in the order of the reports. With more workers, those that know them.

    The sync worker closes after every answer: its rows pay for a connection per request.
    """

    def family(program: str, *extra: str) -> Arguments:
        return gunicorn(program, *extra, app=app, workers=workers)

    several = [
        Server("rgunicorn uring", "rgunicorn", family("rgunicorn", "-k", "uring", "--io-driver", "uring")),
        Server("rgunicorn epoll", "rgunicorn", family("rgunicorn", "-k", "uring", "--io-driver", "epoll")),
        Server("gunicorn sync", "gunicorn", family("gunicorn", "-k", "sync", "--no-control-socket")),
        Server("gunicorn gthread", "gunicorn", family("gunicorn", "-k", "gthread", "--no-control-socket")),
        Server("gunicorn gevent", "gunicorn", family("gunicorn", "-k", "gevent", "--no-control-socket")),
        Server("granian", "granian", _granian(app, workers)),
        *(Server(name, name, _in_python(code, app, workers)) for name, code in WITH_WORKERS.items()),
        Server("peregrine", "peregrine-server", _peregrine(app, workers)),
        Server("uwsgi", "uwsgi", _uwsgi(app, workers)),
        Server("uwsgi gevent", "uwsgi", _uwsgi(app, workers, *_UWSGI_GEVENT)),
    ]
    alone = [
        Server("bjoern", "bjoern", _in_python(IN_PYTHON["bjoern"], app)),
        Server("pywsgi", "gevent", _pywsgi(app)),
        Server("waitress", "waitress", _waitress(app)),
        Server("cheroot", "cheroot", _in_python(_CHEROOT, app)),
    ]
    return several if workers > 1 else [*several, *alone]


def floors(body_bytes: int) -> list[Server]:
    """Responders without Python, whose answers have so many bytes; none if bench/setup.sh has built none."""
    drivers = ["uring", "epoll", "tokio-uring"] if FLOOR.exists() else []
    return [Server(f"floor {driver}", "rgunicorn", _floor(driver, body_bytes)) for driver in drivers]


TABLE = table()

ACCESS_LOG = ["--access-logfile", "/dev/null"]
PYTHON_LOG = [*ACCESS_LOG, "--log-config-json", "bench_logging.json"]
HOOKS = ["-c", "bench_hooks.py"]


def _ours(*extra: str) -> Arguments:
    return gunicorn("rgunicorn", "-k", "uring", "--io-driver", "uring", *extra)


def _gthread(*extra: str) -> Arguments:
    return gunicorn("gunicorn", "-k", "gthread", "--no-control-socket", *extra)


CONFIGURED = [
    Server("rgunicorn uring", "rgunicorn", _ours()),
    Server("rgunicorn, access log", "rgunicorn", _ours(*ACCESS_LOG)),
    Server("rgunicorn, JSON access log", "rgunicorn", _ours(*ACCESS_LOG, "--access-log-json")),
    Server("rgunicorn, Python's logging", "rgunicorn", _ours(*PYTHON_LOG)),
    Server("rgunicorn, request hooks", "rgunicorn", _ours(*HOOKS)),
    Server("rgunicorn, 1 thread", "rgunicorn", gunicorn("rgunicorn", "-k", "gthread", "--threads", "1")),
    Server("rgunicorn, 4 threads", "rgunicorn", gunicorn("rgunicorn", "-k", "gthread", "--threads", "4")),
    Server("gunicorn gthread", "gunicorn", _gthread()),
    Server("gunicorn, access log", "gunicorn", _gthread(*ACCESS_LOG)),
    Server("gunicorn, request hooks", "gunicorn", _gthread(*HOOKS)),
    Server("gunicorn, 4 threads", "gunicorn", _gthread("--threads", "4")),
]
"""What logs, hooks and threads cost."""

COOPERATIVE_APP = "bench_gevent:app"
LIBEV = "gevent.libev.corecext.loop (epoll)"
URING = "rgunicorn.gevent.Loop (uring)"
EPOLL = "rgunicorn.gevent.Loop (epoll)"


def _cooperative(driver: str, *extra: str) -> Arguments:
    return gunicorn("rgunicorn", "-k", "gevent", "--io-driver", driver, *extra, app=COOPERATIVE_APP)


_GUNICORN_GEVENT = gunicorn("gunicorn", "-k", "gevent", "--no-control-socket", app=COOPERATIVE_APP)


_LIBEV = {"GEVENT_LOOP": "libev-cext"}
_OURS = {"GEVENT_LOOP": "rgunicorn.gevent.Loop", "RGUNICORN_IO_DRIVER": "uring"}

COOPERATIVE = [
    Server("rgunicorn uring", "rgunicorn", _cooperative("uring"), {}, URING),
    Server("rgunicorn epoll", "rgunicorn", _cooperative("epoll"), {}, EPOLL),
    Server("rgunicorn uncached", "rgunicorn", _cooperative("uring", "--frame-cache-chunks", "0"), {}, URING),
    Server("rgunicorn gevent's sockets", "rgunicorn", _cooperative("uring", "--no-gevent-sockets"), {}, URING),
    Server("gunicorn gevent", "gunicorn", _GUNICORN_GEVENT, _LIBEV, LIBEV),
    Server("gunicorn our loop", "gunicorn", _GUNICORN_GEVENT, _OURS, URING),
    Server("pywsgi", "gevent", _pywsgi(COOPERATIVE_APP), _LIBEV, LIBEV),
    Server("pywsgi our loop", "gevent", _pywsgi(COOPERATIVE_APP), _OURS, URING),
    Server("uwsgi gevent", "uwsgi", _uwsgi(COOPERATIVE_APP, 1, *_UWSGI_GEVENT), _LIBEV, LIBEV),
]
"""Servers whose application waits in greenlets. The rows of uWSGI contain its router, a process of its own."""


def choose(names: str | None, default: list[str] | None = None, table: list[Server] = TABLE) -> list[Server]:
    """The servers named in a comma-separated list (or `default`, or all), without those that are not installed."""
    wanted = names.split(",") if names else default or [server.name for server in table]
    known = {server.name: server for server in table}
    for name in wanted:
        if name not in known:
            sys.exit(f"unknown server {name!r}; known: {', '.join(known)}")
    chosen = [known[name] for name in wanted]
    for server in chosen:
        if version(server.package) is None:
            print(f"{server.name}: {server.package} is not installed, left out", file=sys.stderr)
    return [server for server in chosen if version(server.package) is not None]


def version(package: str) -> str | None:
    """The installed version of a distribution."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(server: Server, port: int) -> list[str]:
    """The full command line."""
    program, *rest = server.arguments(port)
    found = pathlib.Path(sys.executable).parent / program
    return [str(found) if found.exists() else shutil.which(program) or program, *rest]


@contextlib.contextmanager
def running(server: Server, cpu: int | str | None = None, ready: Ready | None = None) -> Iterator[tuple[int, int]]:
    """Run `server` pinned to `cpu`; gives its port and the process id at the top of its tree.

    `ready` asks for the first answer on an open connection; by default it is `request`.
    """
    port = free_port()
    argv = command(server, port)
    if cpu is not None:
        argv = ["taskset", "-c", str(cpu), *argv]
    log = ROOT / "target" / "bench-logs" / f"{server.name.replace(' ', '-')}.log"
    log.parent.mkdir(exist_ok=True)
    environment = os.environ | server.environment
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            argv, cwd=APPS, env=environment, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr
        )
    try:
        wait_until_it_answers(process, port, log, ready)
        yield port, process.pid
    finally:
        stop(process)


def wait_until_it_answers(
    process: subprocess.Popen[bytes], port: int, log: pathlib.Path, ready: Ready | None = None
) -> None:
    """Wait for the first answer, so that imports are over and every worker process exists."""
    deadline = time.monotonic() + START_S
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the server left with status {process.returncode}:\n{log.read_text()[-2000:]}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=START_S) as sock:
                (ready or request)(sock)
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def stop(process: subprocess.Popen[bytes]) -> None:
    """TERM (INT for bjoern, whose loop stops on it only), then KILL for the whole tree."""
    pids = tree(process.pid)
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S / 2)
            break
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            if _start_ticks(pid) == pids[pid]:
                os.kill(pid, signal.SIGKILL)
    process.wait()


REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def get(port: int, path: str) -> bytes:
    """The body of one answer, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path}: answered with {answer.status}")
    return body


def request(sock: socket.socket) -> None:
    """One request and its answer on an open connection; the body is 13 bytes."""
    sock.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"Hello, world!"):
        piece = sock.recv(4_096)
        if not piece:
            raise ConnectionResetError("closed before the answer was complete")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"unexpected answer {answer[:80]!r}")


def tree(pid: int) -> dict[int, int]:
    """The process and all its descendants, each with its start time (which tells a reused id apart)."""
    children: dict[int, list[int]] = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(_stat(int(entry.name))[1], []).append(int(entry.name))
    found: dict[int, int] = {}
    queue = [pid]
    while queue:
        next_pid = queue.pop()
        with contextlib.suppress(OSError):
            found[next_pid] = _start_ticks(next_pid)
        queue += children.get(next_pid, [])
    return found


def _stat(pid: int) -> list[int]:
    """Fields 3 and on of /proc/PID/stat as numbers (the state as 0): [1] is the parent, [19] the start time."""
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    fields = text.rpartition(")")[2].split()
    return [0, *map(int, fields[1:])]


def _start_ticks(pid: int) -> int:
    try:
        return _stat(pid)[19]
    except FileNotFoundError as error:
        raise ProcessLookupError(pid) from error


def busy_ns(cpu: int) -> int:
    """Nanoseconds that a CPU was taken, by whomever, the hypervisor's other guests included: /proc/stat."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{cpu}":
            user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, ticks)
            return (user + nice + system + irq + softirq + steal) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))
    raise ValueError(f"/proc/stat knows no CPU {cpu}")


def cpu_ns(pid: int) -> int:
    """Nanoseconds on a CPU of all threads of the process and its descendants: /proc/PID/task/*/schedstat."""
    total = 0
    for member in tree(pid):
        for task in pathlib.Path(f"/proc/{member}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(task.read_text().split()[0])
    return total


def pss_bytes(pid: int) -> int:
    """Proportional set size of the process and its descendants: /proc/PID/smaps_rollup."""
    return sum(_bytes(member, "smaps_rollup", "Pss:") for member in tree(pid))


def rss_bytes(pid: int) -> int:
    """Resident set sizes of the process and its descendants, added up: /proc/PID/status."""
    return sum(_bytes(member, "status", "VmRSS:") for member in tree(pid))


def _bytes(pid: int, file: str, field_name: str) -> int:
    """A size that /proc/PID gives in KiB; 0 for a process that has gone."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(field_name):
                return int(line.split()[1]) * 1_024
    return 0
