"""Responses as bytes: header block, framing, statuses without a body, what becomes of a failing application."""

import json
import re
import time
from email.utils import parsedate_to_datetime

import pytest
from rawhttp import request


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module("http_app:app")


def with_headers(server, *fields, **options):
    """The response of an application that gives these header fields."""
    return server.get("/headers", body=json.dumps(fields).encode(), **options)


def test_header_block(server):
    response = server.get()
    assert (response.version, response.status, response.reason) == ("HTTP/1.1", 200, "OK")
    assert response.names == ["Server", "Date", "Connection", "Content-Type", "Content-Length"]
    assert response.header("Server") in ("gunicorn", server.flavour.program)
    assert response.header("Connection") == "keep-alive"
    date = response.header("Date")
    assert re.fullmatch(r"\w{3}, \d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2} GMT", date)
    assert abs(parsedate_to_datetime(date).timestamp() - time.time()) < 5


def test_header_block_of_a_chunked_response(server):
    response = server.get("/items")
    assert response.names == ["Server", "Date", "Connection", "Transfer-Encoding", "Content-Type"]


def test_each_item_is_one_chunk_and_empty_items_are_skipped(server):
    assert server.get("/items").chunks == [b"one", b"two", b"three"]


def test_http_1_0_without_length_is_delimited_by_the_close(server):
    response = server.get("/items", version="HTTP/1.0", headers={"Connection": "keep-alive"})
    assert (response.version, response.header("Connection")) == ("HTTP/1.0", "close")
    assert (response.header("Transfer-Encoding"), response.body) == (None, b"onetwothree")


def test_application_fields_keep_order_case_and_repetition(server):
    fields = [["x-B", "1"], ["X-a", "2"], ["Set-Cookie", "a=1"], ["set-cookie", "b=2"], ["x-B", "1"]]
    response = with_headers(server, *fields)
    assert [list(pair) for pair in response.headers[-5:]] == fields


def test_latin_1_value(server):
    assert with_headers(server, ["X-Name", "caf\xe9"]).header("X-Name") == "caf\xe9"


@pytest.mark.parametrize(
    "name",
    [
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "TE",
        "Trailers",
        "Transfer-Encoding",
        "Upgrade",
        "Server",
    ],
)
def test_hop_by_hop_fields_are_dropped(server, name):
    response = with_headers(server, [name, "mine"], ["Content-Length", "5"])
    assert "mine" not in response.all(name)
    assert response.body == b"hello"


def test_the_servers_own_date_wins(server):
    assert "mine" not in with_headers(server, ["Date", "mine"]).header("Date")


@pytest.mark.parametrize("value", ["mine", "close"])
def test_application_may_not_choose_connection(server, value):
    assert with_headers(server, ["Connection", value]).header("Connection") == "keep-alive"


def test_websocket_upgrade_is_kept(server):
    response = with_headers(server, ["Connection", "Upgrade"], ["Upgrade", "websocket"])
    assert response.header("Upgrade") == "websocket"
    assert response.header("Connection").lower() == "upgrade"


def status(server, line, length="", method="GET", **options):
    """A connection's answer to a status line, and whether the connection stays in step."""
    with server.client() as client:
        response = client.get(f"/status?line={line.replace(' ', '_')}&length={length}", method=method, **options)
        assert client.get().body == b"hello"
        return response


@pytest.mark.parametrize("line", ["200 OK", "299 Something Odd", "404 Not Found", "600 Beyond"])
def test_status_line_is_kept(server, line):
    response = status(server, line)
    assert f"{response.status} {response.reason}" == line


def test_status_without_reason(server):
    assert status(server, "200").status == 200


@pytest.mark.parametrize("line", ["204 No Content", "304 Not Modified"])
def test_no_body_for(server, line):
    response = status(server, line)
    assert (response.body, response.header("Transfer-Encoding"), response.header("Content-Length")) == (b"", None, None)


def test_length_goes_with_204_and_stays_with_304(server):
    assert status(server, "204 No Content", "5").header("Content-Length") is None
    assert status(server, "304 Not Modified", "5").header("Content-Length") == "5"


@pytest.mark.parametrize("length", ["", "5"])
def test_head(server, length):
    response = status(server, "200 OK", length, method="HEAD")
    assert (response.header("Content-Length"), response.header("Transfer-Encoding")) == (length or None, None)


def test_a_dropped_body_is_warned_of(launch):
    server = launch("http_app:app")
    status(server, "204 No Content")
    assert "body" in server.wait_log(r"(?i).*\b204\b.*|.*body.*")[0].lower()


def test_connect_closes(server):
    with server.client() as client:
        assert client.get("example.test:443", method="CONNECT").header("Connection") == "close"


def test_surplus_is_dropped(server):
    with server.client() as client:
        assert client.get("/long").body == b"hello"
        assert client.get().body == b"hello"


@pytest.mark.own
def test_short_body_closes_the_connection(launch):
    """Gunicorn leaves the connection open: the client waits for bytes that never come."""
    server = launch("http_app:app")
    with server.client() as client:
        client.send(request("/short"))
        assert client.head().header("Content-Length") == "10"
        assert client.rest() == b"hello"
    server.wait_log(r"\[WARNING\]")


# A failing application.


def test_exception_before_the_first_byte(launch):
    server = launch("http_app:app")
    with server.client() as client:
        response = client.get("/raise?q=1")
        assert (response.status, response.reason) == (500, "Internal Server Error")
        assert response.names[-3:] == ["Connection", "Content-Type", "Content-Length"]
        assert b"<title>Internal Server Error</title>" in response.body
        assert b"ValueError" not in response.body
        client.assert_closed()
    server.wait_log(r"\[ERROR\] Error handling request GET /raise\?q=1")
    server.wait_log(r"Traceback \(most recent call last\):\n(.*\n)+ValueError: raised before start_response")


def test_exception_after_the_first_byte(launch):
    server = launch("http_app:app")
    with server.client() as client:
        client.send(request("/raise-late"))
        assert client.head().status == 200
        assert client.chunk() == b"first"
        assert client.rest() == b""
    server.wait_log("ValueError: raised after the first item")
    assert server.get().status == 200
