"""The application of the cooperative benches: each path waits in another way. Somebody else must patch first.

``/`` answers at once; ``/sleep`` after 10 ms, or as many seconds as the query says; ``/backend`` after three exchanges
with the server on port ``BENCH_BACKEND_PORT``; ``/mix`` uses what can leak; ``/about`` says what it runs on.
"""

import json
import os
import socket

import gevent
import gevent.local
import gevent.monkey
import gevent.queue

BODY = b"Hello, world!"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]

SLEEP_S = 0.010
EXCHANGES = 3
QUESTION = b"GET user:1001:profile".ljust(99, b".") + b"\n"
POOLED_MAX = 256  # one for each client of the bench: what is measured is waiting for sockets, not for the pool

backend = ("127.0.0.1", int(os.environ.get("BENCH_BACKEND_PORT", "0")))
local = gevent.local.local()


class Pool:
    """Connections to the backend, the one that was used last first."""

    def __init__(self):
        self.idle = None
        self.made = 0

    def take(self):
        """An idle connection, a new one, or after a wait one that comes back."""
        if self.idle is None:
            self.idle = gevent.queue.LifoQueue()
        if self.idle.empty() and self.made < POOLED_MAX:
            self.made += 1
            connection = socket.create_connection(backend)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        return self.idle.get()

    def give(self, connection):
        self.idle.put(connection)


pool = Pool()


def exchange(connection):
    """One question, and the whole answer, which is the same."""
    connection.sendall(QUESTION)
    answer = connection.recv(4096)
    while len(answer) < len(QUESTION):
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionResetError("the backend has closed")
        answer += piece
    if answer != QUESTION:
        raise RuntimeError(f"the backend said {answer!r}")


def sleep(environ):
    """A wait for nothing but time."""
    gevent.sleep(float(environ["QUERY_STRING"] or SLEEP_S))
    return BODY


def ask_backend(environ):
    """Questions one after the other on one connection."""
    connection = pool.take()
    for _ in range(EXCHANGES):
        exchange(connection)
    pool.give(connection)
    return BODY


def mix(environ):
    """A local, a time-out, a sleep, a greenlet that returns and one that is killed."""
    local.request = bytearray(1000)
    with gevent.Timeout(60):
        gevent.sleep(0.001)
        waiting = gevent.spawn(gevent.sleep, 60)
        if gevent.spawn(bytes, 13).get() != bytes(13):
            raise RuntimeError("a greenlet has returned something else")
        waiting.kill()
    return BODY


def about(environ):
    """What the request runs on."""
    loop = gevent.get_hub().loop
    found = {
        "patched": gevent.monkey.is_module_patched("socket"),
        "loop": f"{type(loop).__module__}.{type(loop).__qualname__} ({loop.backend})",
        "greenlet": type(gevent.getcurrent()).__name__,
    }
    return json.dumps(found).encode()


PATHS = {"/sleep": sleep, "/backend": ask_backend, "/mix": mix, "/about": about}


def app(environ, start_response):
    """Hello, after what the path stands for."""
    path = environ["PATH_INFO"]
    if path == "/":
        start_response("200 OK", HEADERS)
        return [BODY]
    body = PATHS[path](environ)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
