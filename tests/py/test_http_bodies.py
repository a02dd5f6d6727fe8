"""Request bodies: framing, what is refused while the body is read, what becomes of an unread one, 100-continue."""

import pytest
from rawhttp import request

CHUNKED_HEAD = request("/echo", method="POST", headers={"Transfer-Encoding": "chunked"})


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module("http_app:app")


def test_no_framing_means_no_body(server):
    with server.client() as client:
        client.send(request("/echo", method="POST") + request("/pid"))
        assert client.response().body == b""
        assert client.response().body.isdigit()


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 65536, 1 << 20, 5_000_001])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_sizes(server, size, framing):
    body = bytes(index % 251 for index in range(997)) * (size // 997 + 1)
    body = body[:size]
    options = (
        {"body": body} if framing == "length" else {"chunks": [body[i : i + 70_000] for i in range(0, size, 70_000)]}
    )
    with server.client() as client:
        assert client.get("/echo", method="POST", **options).body == body
        assert client.get().body == b"hello"


def test_get_may_have_a_body(server):
    assert server.get("/echo", body=b"hello").body == b"hello"


GOOD_CHUNKS = {
    "upper case size": b"A\r\n0123456789\r\n0\r\n\r\n",
    "leading zeros": b"00a\r\n0123456789\r\n000\r\n\r\n",
    "extension": b"a;name=value\r\n0123456789\r\n0;last\r\n\r\n",
    "quoted extension": b'a;name="v;a\\"lue"\r\n0123456789\r\n0\r\n\r\n',
    "blank before extension": b"a ;name\r\n0123456789\r\n0\r\n\r\n",
    "trailer": b"a\r\n0123456789\r\n0\r\nX-Sum: 45\r\n\r\n",
}


@pytest.mark.parametrize("name", GOOD_CHUNKS)
def test_good_chunks(server, name):
    with server.client() as client:
        client.send(CHUNKED_HEAD + GOOD_CHUNKS[name])
        assert client.response().body == b"0123456789"
        assert client.get().body == b"hello"


BAD_CHUNKS = {
    "not hex": b"x\r\n0123456789\r\n0\r\n\r\n",
    "0x prefix": b"0xa\r\n0123456789\r\n0\r\n\r\n",
    "sign": b"+a\r\n0123456789\r\n0\r\n\r\n",
    "underscore": b"1_0\r\n0123456789012345\r\n0\r\n\r\n",
    "empty size": b"\r\n0123456789\r\n0\r\n\r\n",
    "blank before size": b" a\r\n0123456789\r\n0\r\n\r\n",
    "blank after size": b"a \r\n0123456789\r\n0\r\n\r\n",
    "bare LF after size": b"a\n0123456789\r\n0\r\n\r\n",
    "data too long": b"5\r\n0123456789\r\n0\r\n\r\n",
    "data not followed by CRLF": b"a\r\n0123456789XX0\r\n\r\n",
    "bad extension": b"a;na(me\r\n0123456789\r\n0\r\n\r\n",
    "control byte in extension": b"a;n=\x01\r\n0123456789\r\n0\r\n\r\n",
    "bad trailer": b"a\r\n0123456789\r\n0\r\nno colon\r\n\r\n",
    "framing in trailer": b"a\r\n0123456789\r\n0\r\nContent-Length: 5\r\n\r\n",
    "size line too long": b"a;" + b"n" * 20_000 + b"\r\n0123456789\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_bad_chunks(server, name):
    with server.client() as client:
        client.send(CHUNKED_HEAD + BAD_CHUNKS[name] + request("/pid"))
        response = client.response()
        assert (response.status, response.header("Connection")) == (400, "close")
        client.assert_closed()


@pytest.mark.own
@pytest.mark.parametrize(("size", "status"), [(8190, 200), (8191, 400)])
def test_the_line_before_a_chunk_has_the_bound_of_a_field(server, size, status):
    """However it is divided. Under Gunicorn the bound depends on that."""
    line = b"a;" + b"n" * (size - 2)
    for pieces in ([line], [line[:4000], line[4000:]]):
        with server.client() as client:
            client.send(CHUNKED_HEAD, *pieces, b"\r\n0123456789\r\n0\r\n\r\n")
            assert client.response().status == status


@pytest.mark.parametrize(
    "data",
    [
        request("/echo", method="POST", headers={"Content-Length": "10"}) + b"12345",
        CHUNKED_HEAD + b"a\r\n12345",
        CHUNKED_HEAD + b"a\r\n0123456789\r\n",
        CHUNKED_HEAD + b"a",
    ],
    ids=["length", "in a chunk", "between chunks", "in a size"],
)
def test_end_in_the_middle_of_a_body_is_never_a_whole_request(server, data):
    """The application never gets half a body as if it were whole: `/echo` must not answer 200 for chunked ones."""
    with server.client() as client:
        client.send(data)
        client.shutdown()
        if b"chunked" in data:
            assert not client.rest().startswith(b"HTTP/1.1 200")


def test_compressed_and_chunked_is_handed_over_and_closes(server):
    with server.client() as client:
        client.send(request("/echo", method="POST", headers={"Transfer-Encoding": "gzip, chunked"}))
        client.send(b"5\r\nhello\r\n0\r\n\r\n")
        response = client.response()
        assert (response.body, response.header("Connection")) == (b"hello", "close")
        client.assert_closed()


def test_smuggled_request_is_not_served(server):
    """Bytes after a refused framing are never taken for a request."""
    smuggled = request("/pid")
    head = request("/echo", method="POST", headers={"Content-Length": "4", "Transfer-Encoding": "chunked"})
    with server.client() as client:
        client.send(head + b"0\r\n\r\n" + smuggled)
        assert client.response().status == 400
        client.assert_closed()


@pytest.mark.parametrize("framing", [{"body": b"x" * 5000}, {"chunks": [b"x" * 5000]}], ids=["length", "chunked"])
def test_an_unread_body_is_skipped(server, framing):
    with server.client() as client:
        client.send(request("/unread", method="POST", **framing) + request("/pid"))
        assert client.response().body == b"body ignored"
        assert client.response().body.isdigit()


def test_an_unread_huge_body_does_not_harm(server):
    """More than the 64 KiB that are read away to keep the connection; the response arrives all the same."""
    with server.client() as client:
        client.send(request("/unread", method="POST", headers={"Content-Length": "100000"}))
        client.send(b"x" * 100_000)
        assert client.response().body == b"body ignored"
    assert server.get().status == 200


# Expect: 100-continue, RFC 9110 section 10.1.1.


@pytest.mark.parametrize("value", ["100-continue", "100-Continue"])
def test_continue_is_sent_before_the_body(server, value):
    with server.client() as client:
        client.send(request("/echo", method="POST", headers={"Expect": value, "Content-Length": "5"}))
        interim = client.head()
        assert (interim.version, interim.status, interim.headers) == ("HTTP/1.1", 100, [])
        client.send(b"hello")
        assert client.response().body == b"hello"
        assert client.get().interim == []


def test_continue_with_chunks(server):
    with server.client() as client:
        client.send(request("/echo", method="POST", headers={"Expect": "100-continue", "Transfer-Encoding": "chunked"}))
        assert client.head().status == 100
        client.send(b"5\r\nhello\r\n0\r\n\r\n")
        assert client.response().body == b"hello"


def test_continue_is_ignored_for_http_1_0(server):
    response = server.get("/echo", method="POST", headers={"Expect": "100-continue"}, body=b"hello", version="HTTP/1.0")
    assert (response.body, response.interim) == (b"hello", [])
