"""Out of descriptors: accepting pauses, existing connections go on, nothing spins and the log stays readable."""

import contextlib
import time

import pytest
from harness import cpu_seconds
from rawhttp import Client, request

LIMIT = 64
UNDER_LIMIT = ["sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh"]
PAUSE_S = 2.0

pytestmark = pytest.mark.own(reason="Gunicorn's gthread spins and logs a traceback for every attempt to accept")


@pytest.fixture(params=["127.0.0.1:0", "unix:server.sock"], ids=["tcp", "unix"])
def server(launch, request):
    return launch("http_app:app", "--keep-alive", "60", bind=request.param, prefix=UNDER_LIMIT)


def test_descriptors_run_out(server):
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(server.client())
        pid = int(first.get("/pid").body)
        crowd = [stack.enter_context(server.client()) for _ in range(2 * LIMIT)]
        for client in crowd:
            client.send(request("/pid"))
        server.wait_log(r"\[WARNING\]|\[ERROR\]")
        before, used = server.log, cpu_seconds(pid)
        begin = time.monotonic()
        while time.monotonic() - begin < PAUSE_S:
            assert int(first.get("/pid").body) == pid
            time.sleep(0.05)
        assert server.log[len(before) :].count("\n") <= PAUSE_S + 1
        assert cpu_seconds(pid) - used < 0.5 * PAUSE_S
        # Room again: those who waited are served, none was lost.
        answered = 0
        while crowd:
            client = crowd.pop(0)
            assert int(client.response().body) == pid
            client.close()
            answered += 1
        assert answered == 2 * LIMIT
    assert server.worker_pid() == pid


def test_limit_of_connections(launch):
    """At `worker_connections` accepting stops; when one leaves, the next one comes in: without `evict_after`."""
    server = launch("http_app:app", "--worker-connections", "10", "--keep-alive", "60", config="evict_after = 0")
    with contextlib.ExitStack() as stack:
        inside = [stack.enter_context(server.client()) for _ in range(10)]
        for client in inside:
            assert client.get().status == 200
        waiting = stack.enter_context(Client(server.address, timeout=0.5))
        waiting.send(request())
        with pytest.raises(TimeoutError):
            waiting.response()
        inside[0].close()
        waiting.sock.settimeout(10)
        assert waiting.response().status == 200
