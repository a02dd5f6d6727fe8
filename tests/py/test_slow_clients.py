"""Slow and vanishing clients never harm the others, nor the worker."""

import contextlib
import hashlib
import time

import pytest
from harness import rss_kb
from rawhttp import Client, request

BLOCK = bytes(index % 251 for index in range(65536))
LARGE_BYTES = 50_000_000
# More than any pool of threads in these tests: what blocks one would block all.
CROWD = 20


@pytest.fixture(scope="module")
def server(launch_module):
    server = launch_module("bulk:app", "--bind", "unix:server.sock", "--keep-alive", "30")
    assert server.get("/pid").status == 200
    return server


@pytest.fixture(params=[0, 1], ids=["tcp", "unix"])
def address(server, request):
    return server.addresses[request.param]


def assert_served_at_once(address):
    """Others are answered while the slow ones are there."""
    begin = time.monotonic()
    for _ in range(10):
        with Client(address) as client:
            assert client.get("/pid").status == 200
    assert time.monotonic() - begin < 5


@contextlib.contextmanager
def crowd(address, *pieces, count=CROWD):
    """Connections that have each sent the pieces and do no more."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(address)) for _ in range(count)]
        for client in clients:
            client.send(*pieces)
        yield clients


@pytest.mark.own
def test_slow_readers(address):
    """Of a 50 MB response; each gets it whole in the end. Gunicorn's threads are blocked by as many slow readers."""
    with crowd(address, request("/large")) as clients:
        for client in clients:
            assert client.head().header("Content-Length") == str(LARGE_BYTES)
        assert_served_at_once(address)
        for client in clients[:2]:
            body = client.exactly(LARGE_BYTES)
            assert hashlib.sha256(body).digest() == hashlib.sha256(large()).digest()
            assert client.get("/pid").status == 200


@pytest.mark.one_thread
@pytest.mark.own(reason="a thread waits inside write()")
def test_slow_readers_of_written_output(server, address):
    """`write()` does not wait; what the clients have not taken is on disk, not in memory."""
    before = rss_kb(server.worker_pid())
    with crowd(address, request("/written"), count=4) as clients:
        for client in clients:
            assert client.head().header("Content-Length") == str(LARGE_BYTES)
        assert_served_at_once(address)
        assert rss_kb(server.worker_pid()) - before < LARGE_BYTES / 1000
        for client in clients[:2]:
            body = client.exactly(LARGE_BYTES)
            assert hashlib.sha256(body).digest() == hashlib.sha256(large()).digest()
            assert client.get("/pid").status == 200


def large():
    return (BLOCK * (LARGE_BYTES // len(BLOCK) + 1))[:LARGE_BYTES]


@pytest.mark.own
@pytest.mark.parametrize(
    "pieces",
    [
        (b"",),
        (b"GET /pid HT",),
        (b"GET /pid HTTP/1.1\r\nHost: a\r\nX-Slow: ",),
        (request("/digest", method="POST", headers={"Content-Length": "100"}), b"some of it"),
        (request("/digest", method="POST", headers={"Transfer-Encoding": "chunked"}), b"5\r\nhel"),
    ],
    ids=["nothing", "half a request line", "half a field", "half a body", "half a chunk"],
)
def test_slow_senders(address, pieces):
    """Half a request from as many clients as there are threads blocks Gunicorn for good."""
    with crowd(address, *pieces):
        assert_served_at_once(address)
    assert_served_at_once(address)


@pytest.mark.own
def test_slow_uploads_arrive(address):
    """Ten uploads of one megabyte, their pieces interleaved."""
    body = BLOCK * 16
    head = request("/digest", method="POST", headers={"Content-Length": str(len(body))})
    with crowd(address, head, count=10) as clients:
        for begin in range(0, len(body), len(BLOCK)):
            for client in clients:
                client.send(body[begin : begin + len(BLOCK)])
        for client in clients:
            assert client.response().body == hashlib.sha256(body).hexdigest().encode()


@pytest.mark.one_thread
@pytest.mark.own
def test_responses_progress_side_by_side(address):
    """Ten generators of 8 MB, read in turns: nobody has to wait until another has finished."""
    with crowd(address, request("/blocks?n=128&id=many"), count=10) as clients:
        for client in clients:
            assert client.head().chunked
        for _ in range(128):
            for client in clients:
                assert client.chunk() == BLOCK
        for client in clients:
            assert client.chunk() == b""
            assert client.get("/pid").status == 200


def test_a_generator_is_pulled_only_as_fast_as_its_client_reads(server, address):
    """A hundred megabytes are not made for somebody who does not read them."""
    name = "tcp" if isinstance(address, tuple) else "unix"

    def produced():
        with Client(server.address) as client:
            return int(client.get(f"/produced?id={name}").body)

    with Client(address) as client:
        client.send(request(f"/blocks?n=1600&id={name}"))
        assert client.head().chunked
        client.chunk()
        last = -1
        while (now := produced()) != last:
            last = now
            time.sleep(0.2)
        assert now < 400, "made far more than socket buffers hold"
        for _ in range(1599):
            assert client.chunk() == BLOCK
        assert client.chunk() == b""


@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize(
    "data",
    [
        request("/large"),
        request("/blocks?n=1600&id=gone"),
        request("/digest", method="POST", headers={"Content-Length": "1000000"}) + BLOCK,
        request("/digest", method="POST", headers={"Transfer-Encoding": "chunked"}) + b"10000\r\n" + BLOCK[:100],
        request("/partial", method="POST", headers={"Content-Length": "1000000"}) + BLOCK,
        b"GET /pid HT",
    ],
    ids=["large", "blocks", "upload", "chunked upload", "unread upload", "head"],
)
def test_clients_that_vanish(server, address, data, way):
    before = server.workers()
    for _ in range(5):
        client = Client(address)
        client.send(data)
        if data.startswith((b"GET /large", b"GET /blocks")):
            client.exactly(100_000)
        getattr(client, way)()
    assert_served_at_once(address)
    assert server.workers() == before
