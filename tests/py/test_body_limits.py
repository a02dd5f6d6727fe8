"""How large a request body may be: `limit_request_body`, lengths beyond all sense, and no place to store one."""

import pytest
from rawhttp import request

LIMIT = 1000
EXACTLY, BEYOND = b"x" * LIMIT, b"x" * (LIMIT + 1)


def limited(launch, *args, **options):
    """A server with a limit and an access log."""
    log = ("--access-logfile", "access.log", "--access-logformat", "%(m)s %(U)s %(s)s")
    return launch("http_app:app", "--limit-request-body", str(LIMIT), *log, *args, **options)


@pytest.fixture
def server(launch):
    return limited(launch)


@pytest.fixture
def streaming(launch_gevent):
    """A server whose application reads bodies while they arrive."""
    return limited(launch_gevent)


def post(path="/length", **options):
    return request(path, method="POST", **options)


def assert_too_large(server, *pieces):
    """413 and the end, without an interim answer; returns how the access log has it."""
    with server.client() as client:
        client.send(*pieces)
        response = client.response()
        assert (response.status, response.reason, response.interim) == (413, "Content Too Large", [])
        assert response.header("Connection") == "close"
        client.assert_closed()
    server.wait_log("Invalid request .*ip=127.0.0.1: Request body is too large")


def assert_limit(server):
    with server.client() as client:
        for framing in ({"body": EXACTLY}, {"chunks": [EXACTLY[:7], EXACTLY[7:]]}):
            assert client.get("/length", method="POST", **framing).body == str(LIMIT).encode()
    assert server.get().body == b"hello"


@pytest.mark.own
def test_the_limit_itself_is_allowed(server):
    assert_limit(server)


@pytest.mark.own
def test_the_limit_itself_is_allowed_with_gevent(streaming):
    assert_limit(streaming)


@pytest.mark.own
def test_a_length_beyond_it_is_refused_at_the_head(server):
    """Before a byte of the body has come, and before the application is called."""
    assert_too_large(server, post(headers={"Content-Length": str(LIMIT + 1)}))
    assert_too_large(server, post(body=BEYOND) + request("/pid"))
    assert server.terminate() == 0
    assert (server.workdir / "access.log").read_text().splitlines() == ["POST /length 413"] * 2


@pytest.mark.own
def test_a_length_beyond_it_is_refused_at_the_head_with_gevent(streaming):
    assert_too_large(streaming, post(headers={"Content-Length": str(LIMIT + 1)}))


@pytest.mark.own
@pytest.mark.parametrize("length", [LIMIT + 1, 1 << 40])
def test_who_expects_100_continue_is_not_asked_for_the_body(server, length):
    assert_too_large(server, post(headers={"Expect": "100-continue", "Content-Length": str(length)}))


@pytest.mark.own
def test_who_expects_100_continue_is_not_asked_for_the_body_with_gevent(streaming):
    assert_too_large(streaming, post(headers={"Expect": "100-continue", "Content-Length": str(LIMIT + 1)}))


@pytest.mark.own
@pytest.mark.parametrize("cut", [0, 1, 500, LIMIT])
def test_chunks_beyond_it_are_refused_when_they_come(server, cut):
    """However they are divided; what follows belongs to no request."""
    chunks = [chunk for chunk in (BEYOND[:cut], BEYOND[cut:]) if chunk]
    assert_too_large(server, post(chunks=chunks) + request("/pid"))


@pytest.mark.own
def test_chunks_are_refused_before_their_end(server):
    head = post(headers={"Transfer-Encoding": "chunked"})
    assert_too_large(server, head, b"3e8\r\n" + EXACTLY, b"\r\nffff\r\nx")


@pytest.mark.own
def test_chunks_beyond_it_are_refused_when_they_come_with_gevent(streaming):
    head = post(headers={"Transfer-Encoding": "chunked"})
    assert_too_large(streaming, head, b"3e8\r\n" + EXACTLY, b"\r\nffff\r\nx")


@pytest.mark.own
def test_an_application_that_reads_may_answer_by_itself(streaming):
    with streaming.client() as client:
        client.send(post("/caught", headers={"Transfer-Encoding": "chunked", "Expect": "100-continue"}))
        # The application has been called by then.
        assert client.head().status == 100
        client.send(b"3e8\r\n" + EXACTLY, b"\r\nffff\r\nx")
        response = client.response()
        assert (response.status, response.body) == (200, b"RequestBodyError")
        client.assert_closed()


@pytest.mark.own
def test_a_configuration_file_sets_it(launch):
    server = launch("http_app:app", config="limit_request_body = 5")
    assert server.get("/length", method="POST", body=b"12345").body == b"5"
    assert server.get("/length", method="POST", body=b"123456").status == 413


# Without a limit.

ABSURD = [2**64 - 1, 2**63, 2**63 - 1, 2**62, 2**51, 10**16]


@pytest.mark.own
@pytest.mark.parametrize("length", ABSURD)
def test_an_absurd_length_is_refused_at_once(launch, length):
    server = launch("http_app:app")
    for headers in ({}, {"Expect": "100-continue"}):
        with server.client() as client:
            client.send(post(headers={"Content-Length": str(length), **headers}))
            response = client.response()
            assert (response.status, response.interim) == (413, [])
            client.assert_closed()
    assert server.exchange(post(headers={"Content-Length": str(2**64)})).status == 400


@pytest.mark.own
def test_an_absurd_chunk_is_refused_at_once(launch):
    server = launch("http_app:app")
    for size in (b"ffffffffffffffff", b"10000000000000000", b"4000000000001", b"f" * 1000):
        with server.client() as client:
            client.send(post(headers={"Transfer-Encoding": "chunked"}), size + b"\r\nx")
            assert client.response().status == 413
            client.assert_closed()


@pytest.mark.own
def test_a_large_body_is_taken_without_a_limit(launch):
    server = launch("http_app:app")
    assert server.get("/length", method="POST", body=b"x" * 3_000_000).body == b"3000000"


# Where bodies cannot be stored.

NOWHERE = {"TMPDIR": "/nonexistent/directory"}
WARNING = r"\[WARNING\] Cannot write to the temporary directory /nonexistent/directory: No such file"


def test_bodies_are_served_although_tmpdir_cannot_be_written(launch):
    server = launch("http_app:app", env=NOWHERE)
    body = bytes(range(256)) * 10_000
    with server.client() as client:
        for framing in ({"body": body}, {"chunks": [body[:700_000], body[700_000:]]}):
            assert client.get("/echo", method="POST", **framing).body == body


@pytest.mark.own
def test_one_warning_tells_of_it_and_memory_is_bounded(launch):
    if "gevent" in launch.flavour.name:
        pytest.skip("bodies that are read while they arrive are not stored")
    server = launch("http_app:app", env=NOWHERE)
    large = b"x" * (40 << 20)
    # Alone each fits into 64 MiB, and the memory of one that is over is free again.
    for _ in range(3):
        assert server.get("/length", method="POST", body=large).body == str(len(large)).encode()
    with server.client() as client:
        client.send(post(headers={"Content-Length": str(100 << 20)}))
        # The rest may meet a connection that is closed.
        try:
            client.sock.sendall(b"x" * (80 << 20))
        except OSError:
            assert "Cannot store a request body" in server.log
        else:
            assert client.response().status == 500
    server.wait_log("Cannot store a request body")
    assert server.get("/length", method="POST", body=large).body == str(len(large)).encode()
    server.wait_log(WARNING)
    assert server.log.count("temporary directory") == 1
