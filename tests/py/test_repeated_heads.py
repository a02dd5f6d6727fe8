"""Clients that send the same fields with each request of a connection: each environ is that of a first request."""

import json
import random

import pytest
from rawhttp import request

BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) test",
    "Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate",
    "Cookie": "session=0123456789abcdef; theme=dark",
    "Cache-Control": "max-age=0",
}
#: Heads that a test mixes: fields, and what else the request is made of.
HEADS = {
    "browser": {"headers": BROWSER},
    "other cookie": {"headers": BROWSER | {"Cookie": "session=0123456789abcdee; theme=dark"}},
    "other agent": {"headers": BROWSER | {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) tesu"}},
    "few": {"headers": {"Accept": "*/*"}},
    "none": {},
    "body": {"method": "POST", "headers": BROWSER, "body": b"name=value"},
    "twice": {"headers": [("X-One", "1"), ("X-One", "2"), ("Cookie", "a=1"), ("Cookie", "b=2")]},
    "other host": {"headers": BROWSER, "host": "other.test"},
    "proxy": {"headers": BROWSER | {"X-Forwarded-Proto": "https"}},
    "type": {"method": "PUT", "headers": {"Content-Type": "text/plain"}, "body": b"text"},
}
TARGETS = ["/environ", "/environ?a=1", "/environ?b", "http://absolute.test/environ"]
#: What differs from connection to connection, or is an object.
OWN = ("REMOTE_PORT", "gunicorn.socket", "wsgi.input", "wsgi.errors")


@pytest.fixture(scope="module", params=["direct", "greenlets"])
def server(request, launch_module, launch_gevent_module):
    launch = launch_module if request.param == "direct" else launch_gevent_module
    return launch("http_app:app")


def environ(response):
    assert response.status == 200, response
    found = json.loads(response.body)
    port = found["REMOTE_PORT"]
    # Objects are shown with their addresses.
    return {key: value if isinstance(value, str) else value[0] for key, value in found.items() if key not in OWN}, port


def alone(server, target, options):
    """The environ of a request that is the first one of its connection."""
    return environ(server.get(target, **options))[0]


@pytest.mark.parametrize("name", HEADS)
def test_the_same_head_again(server, name):
    expected = alone(server, "/environ", HEADS[name])
    with server.client() as client:
        port = str(client.sock.getsockname()[1])
        for _ in range(8):
            assert environ(client.get("/environ", **HEADS[name])) == (expected, port)


@pytest.mark.parametrize("name", HEADS)
def test_the_same_fields_with_other_targets(server, name):
    with server.client() as client:
        for _ in range(4):
            for target in TARGETS:
                assert environ(client.get(target, **HEADS[name]))[0] == alone(server, target, HEADS[name])


def test_heads_that_change_and_come_back(server):
    chance = random.Random(14)
    names = list(HEADS)
    expected = {(name, target): alone(server, target, HEADS[name]) for name in names for target in TARGETS}
    with server.client() as client:
        for _ in range(40):
            name, target = chance.choice(names), chance.choice(TARGETS)
            for _ in range(chance.randrange(1, 6)):
                assert environ(client.get(target, **HEADS[name]))[0] == expected[name, target]


def test_pipelined_heads(server):
    """Several in one piece, of which the parser sees each where it lies."""
    heads = [
        ("few", "/environ"),
        ("few", "/environ?a=1"),
        ("few", "/environ"),
        ("browser", "/environ?b"),
        ("few", "/environ"),
    ]
    with server.client() as client:
        for _ in range(3):
            client.send(b"".join(request(target, **HEADS[name]) for name, target in heads))
            for name, target in heads:
                assert environ(client.response())[0] == alone(server, target, HEADS[name])


def test_many_connections_with_the_same_head(server):
    """More than there are places to remember heads: some share one, and each has a port of its own."""
    clients = [server.client() for _ in range(100)]
    try:
        for _ in range(8):
            for client in clients:
                _, port = environ(client.get("/environ", headers=BROWSER))
                assert port == str(client.sock.getsockname()[1])
    finally:
        for client in clients:
            client.close()


PROXIED = "PROXY_PROTOCOL", "PROXY_ADDR", "PROXY_PORT"


@pytest.mark.own(reason="Gunicorn's gthread forgets a PROXY header after the first request")
def test_the_same_head_behind_proxies(launch):
    """The same place may be another client's, or none's that came through a proxy."""
    server = launch("http_app:app", "--proxy-protocol", "--proxy-allow-from", "*")
    for number in range(1, 4):
        with server.client() as client:
            client.send(f"PROXY TCP4 198.51.100.{number} 203.0.113.9 {number} 2000\r\n".encode())
            for _ in range(8):
                found, port = environ(client.get("/environ", headers=BROWSER))
                assert (found["REMOTE_ADDR"], port) == (f"198.51.100.{number}", str(number))
                assert [found[key] for key in PROXIED] == ["TCP4", "203.0.113.9", "2000"]


def test_the_same_head_over_a_unix_socket(launch):
    server = launch("http_app:app", bind="unix:server.sock")
    with server.client() as client:
        first = json.loads(client.get("/environ", headers=BROWSER).body)
        assert first["SERVER_NAME"] == "example.test"
        for _ in range(8):
            found = json.loads(client.get("/environ", headers=BROWSER).body)
            assert [
                found.get(key) for key in ("REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT", "PATH_INFO")
            ] == [first.get(key) for key in ("REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT", "PATH_INFO")]


def test_many_connections_with_different_fields(server):
    """More than there are places to remember them."""
    clients = [server.client() for _ in range(100)]
    try:
        for _ in range(5):
            for number, client in enumerate(clients):
                found, _ = environ(client.get("/environ", headers=BROWSER | {"X-Number": str(number)}))
                assert found["HTTP_X_NUMBER"] == str(number)
    finally:
        for client in clients:
            client.close()


CHANGING = """
kept = []

def app(environ, start_response):
    seen = sorted(key for key in environ if key.startswith("HTTP_"))
    texts = ",".join(f"{key}={environ[key]}" for key in seen)
    objects = environ["gunicorn.socket"], environ["wsgi.early_hints"]
    fresh = not any(one is other for one in objects for pair in kept for other in pair)
    if environ["PATH_INFO"] == "/keep":
        kept.append(objects)
    for key in seen:
        environ[key] = "changed"
    environ["HTTP_NEW"] = "new"
    environ.pop("HTTP_HOST", None)
    start_response("200 OK", [])
    return [f"{fresh} {texts}".encode("latin-1")]
"""


@pytest.mark.own(reason="Gunicorn's requests of one connection share its socket object")
@pytest.mark.parametrize("way", ["direct", "greenlets"])
def test_what_an_application_changes_or_keeps_is_not_the_next_one_s(launch, launch_gevent, workdir, way):
    """Its own environ is changed, and objects that it keeps belong to no later request."""
    (workdir / "changing.py").write_text(CHANGING)
    server = (launch if way == "direct" else launch_gevent)("changing:app", workdir=workdir)
    expected = b"True " + b",".join(
        f"HTTP_{key.upper().replace('-', '_')}={value}".encode()
        for key, value in sorted((BROWSER | {"Host": "example.test"}).items())
    )
    with server.client() as client, server.client() as other:
        for number in range(20):
            path = "/keep" if number % 3 == 2 else "/"
            for one in (client, other):
                assert one.get(path, headers=BROWSER).body == expected
