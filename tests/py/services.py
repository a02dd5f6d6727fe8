"""What applications wait for: a slow HTTP service, PostgreSQL, Redis. Real ones, started by the test that needs them.

A test proves that requests run side by side by what the service sees (so many calls, queries or clients at once), and
never by how long it took.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest
import redis
from harness import wait_for

# Debian keeps these programs off PATH, one directory for each major version.
POSTGRESQL_BIN = "/usr/lib/postgresql/*/bin"
# Who runs a database for root: PostgreSQL refuses to be root. Debian's package makes the first.
SERVANTS = ("postgres", "nobody")


def missing(what: str) -> None:
    """A service is not installed: continuous integration must have it, a contributor may do without."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, and in continuous integration it has to be: see ci/lib.sh")
    pytest.skip(f"{what} is not installed")


class PostgreSQL:
    """A database cluster in a temporary directory, reached by a unix socket there."""

    def __init__(self) -> None:
        found = sorted(glob.glob(f"{POSTGRESQL_BIN}/initdb")) or [shutil.which("initdb")]
        if found[-1] is None:
            missing("PostgreSQL")
        self.bin = Path(str(found[-1])).parent

    def __enter__(self) -> PostgreSQL:
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))
        servant = {}
        if os.geteuid() == 0:
            user = next(entry for entry in pwd.getpwall() if entry.pw_name in SERVANTS)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            servant = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = str(self.folder / "data")
        subprocess.run(
            [self.bin / "initdb", "-D", data, "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True, cwd=self.folder, stdout=subprocess.DEVNULL, **servant,
        )  # fmt: skip
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                [self.bin / "postgres", "-D", data, "-k", str(self.folder), "-c", "listen_addresses=", "-F"],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **servant,
            )  # fmt: skip
        wait_for(f"PostgreSQL to listen, see {self.folder}/log", self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        # TERM waits for clients; INT ends them.
        self.process.send_signal(2)
        self.process.wait()
        shutil.rmtree(self.folder)

    @property
    def url(self) -> str:
        return f"postgresql://test@/postgres?host={self.folder}"

    @property
    def socket(self) -> str:
        return str(self.folder / ".s.PGSQL.5432")

    def connect(self) -> psycopg.Connection:
        """The test's own connection."""
        return psycopg.connect(self.url, autocommit=True)

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            return False
        return True

    @contextlib.contextmanager
    def lock(self, number: int) -> Iterator[Callable[[], int]]:
        """Hold a lock; the value tells how many connections wait for it."""
        with self.connect() as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", (number,))
            query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"

            def waiting() -> int:
                row = connection.execute(query, (number,)).fetchone()
                return row[0] if row else 0

            yield waiting


class Redis:
    """A Redis server that keeps nothing, reached by a unix socket."""

    def __init__(self, folder: Path):
        self.folder = folder
        if shutil.which("redis-server") is None:
            missing("Redis")

    def __enter__(self) -> Redis:
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no"],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.client = redis.Redis(unix_socket_path=self.socket, decode_responses=True)
        wait_for(f"Redis to listen, see {self.folder}/log", self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()

    @property
    def socket(self) -> str:
        return str(self.folder / "s")

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            return False


class Backend:
    """An HTTP/1.1 service with a thread for each connection. GET and POST answer the body, or else the path.

    `/meet/N` answers when N calls are there at once, `/hold` when the test calls `release`.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.holding = 0
        self._present = 0
        self._changed = threading.Condition()
        self._released = threading.Event()
        self.release = self._released.set
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def setup(self) -> None:
                super().setup()
                with backend._changed:
                    backend.connections += 1

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or self.path.encode()
                status = 200 if backend._wait(self.path) else 504
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                # A client that has gone in the meantime is the test's subject, not a failure of the service.
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Not into the test's output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Backend:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.socket.close()

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self._server.server_address)

    def _wait(self, path: str) -> bool:
        if path == "/hold":
            with self._changed:
                self.holding += 1
            return self._released.wait(15)
        if not path.startswith("/meet/"):
            return True
        count = int(path.removeprefix("/meet/"))
        with self._changed:
            self._present += 1
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._present >= count, 15)
