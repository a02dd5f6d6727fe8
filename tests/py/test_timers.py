"""No wait for a client is unbounded: `header_timeout`, `body_timeout`, `write_timeout`, `keepalive`."""

import contextlib
import time

import pytest
from harness import run_to_end, wait_for
from rawhttp import request

pytestmark = pytest.mark.own(reason="Gunicorn has only keepalive")

# Enough for a machine that is busy with other things.
LATE_S = 10.0
UPLOAD = request("/digest", method="POST", headers={"Content-Length": "1000"}) + b"the beginning"


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module(
        "bulk:app", "--header-timeout", "1", "--body-timeout", "2", "--write-timeout", "3", "--keep-alive", "4"
    )


def closed_after(client):
    """Seconds until the server closes, and what it has sent before."""
    begun = time.monotonic()
    rest = client.rest()
    return time.monotonic() - begun, rest


@pytest.mark.parametrize(
    ("pieces", "timeout"),
    [((b"",), 4), ((b"\r\n",), 1), ((b"GET / HT",), 1), ((b"GET / HTTP/1.1\r\nHost: a\r\n",), 1), ((UPLOAD,), 2)],
    ids=["nothing", "a blank line", "half a line", "half a head", "half a body"],
)
def test_slow_senders_are_closed(server, pieces, timeout):
    with server.client() as client:
        client.send(*pieces)
        took, rest = closed_after(client)
        assert rest == b""
        assert timeout * 0.9 <= took < timeout + LATE_S


def test_a_trickle_does_not_prolong_the_head(server):
    """One byte every 0.2 s: the clock runs from the first."""

    def trickle(client):
        for byte in b"GET / HTTP/1.1\r\nX-Slow: " + b"x" * 1000:
            client.send(bytes([byte]))
            client.sock.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                assert client.sock.recv(1), "closed"

    with server.client() as client:
        begun = time.monotonic()
        with pytest.raises((ConnectionError, AssertionError)):
            trickle(client)
        assert time.monotonic() - begun < 1 + LATE_S


def test_a_trickle_does_prolong_a_body(server):
    """It is silence that is bounded: an upload may take long."""
    with server.client() as client:
        client.send(request("/digest", method="POST", headers={"Content-Length": "5"}))
        for byte in b"12345":
            time.sleep(0.7)
            client.send(bytes([byte]))
        assert client.response().status == 200


def test_a_client_that_does_not_read_is_cut_off(server):
    with server.client() as client:
        client.send(request("/large"))
        client.exactly(1000)
        # Its end is seen from outside: the rest is what the sockets' buffers hold.
        pid = server.worker_pid()

        def gone():
            with open(f"/proc/{pid}/net/tcp") as table:
                port = f":{client.sock.getsockname()[1]:04X}"
                rows = [line.split() for line in table if port in line]
                return not any(row[2].endswith(port) and row[3] == "01" for row in rows)

        wait_for("the server to give up", gone)


def test_idle_connections_are_closed(server):
    with server.client() as client:
        assert client.get("/pid").status == 200
        took, rest = closed_after(client)
        assert rest == b""
        assert 3.6 <= took < 4 + LATE_S


@pytest.mark.parametrize("name", ["header-timeout", "body-timeout", "write-timeout"])
def test_zero_is_refused(flavour, workdir, name):
    done = run_to_end(flavour, workdir, f"--{name}", "0", "bulk:app")
    assert done.returncode == 1
    assert f"{name.replace('-', '_')}: 0 would let clients hold their connections for ever" in done.stderr
