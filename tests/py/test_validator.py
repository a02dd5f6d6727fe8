"""`wsgiref.validate.validator` around an application, through the whole matrix of requests."""

import itertools

import pytest

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
PATHS = ["/read", "/sized", "/readline", "/readlines", "/iterate", "/unread"]
BODIES = {
    "none": ({}, 0),
    "empty": ({"body": b""}, 0),
    "length": ({"body": b"one\ntwo\nthree" * 99}, 13 * 99),
    "chunked": ({"chunks": [b"one\n", b"two", b"\nthree" * 1000]}, 6007),
    # Below the 64 KiB that a server reads away when the application has not read the body.
    "large": ({"body": b"x" * 60_000}, 60_000),
}
CONNECTIONS = {
    "keep-alive": {},
    "close": {"headers": {"Connection": "close"}},
    "1.0": {"version": "HTTP/1.0"},
    "1.0 keep-alive": {"version": "HTTP/1.0", "headers": {"Connection": "keep-alive"}},
}


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module("validated:app")


def exchange(client, method, path, query, body, connection):
    options, length = BODIES[body]
    response = client.get(f"{path}?{query}", method=method, **options, **CONNECTIONS[connection])
    expected = b"%d bytes" % (0 if path == "/unread" else length)
    assert (response.status, response.body) == (200, b"" if method == "HEAD" else expected), (method, path, query, body)


# There is no chunked framing in HTTP/1.0.
CASES = [pair for pair in itertools.product(BODIES, CONNECTIONS) if pair[0] != "chunked" or "1.0" not in pair[1]]


@pytest.mark.parametrize(("body", "connection"), CASES)
def test_matrix(server, body, connection):
    matrix = itertools.product(METHODS, PATHS, ["", "length", "write", "length,write"])
    if connection == "keep-alive":
        with server.client() as client:
            for method, path, query in matrix:
                exchange(client, method, path, query, body, connection)
        return
    for method, path, query in matrix:
        with server.client() as client:
            exchange(client, method, path, query, body, connection)
