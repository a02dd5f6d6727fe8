"""The PROXY protocol: who the client is, who may say so, and what is refused."""

import json
import struct

import pytest
from harness import wait_for
from rawhttp import request

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LINE = b"PROXY TCP4 198.51.100.7 203.0.113.9 1000 2000\r\n"
LINE_V6 = b"PROXY TCP6 2001:db8::1 2001:db8::2 65535 1\r\n"
BLOCK = bytes([198, 51, 100, 7, 203, 0, 113, 9]) + struct.pack(">HH", 1000, 2000)
BLOCK_V6 = bytes.fromhex("20010db8000000000000000000000001 20010db8000000000000000000000002 ffff 0001")
SEEN = {
    "PROXY_PROTOCOL": "TCP4", "PROXY_ADDR": "203.0.113.9", "PROXY_PORT": "2000",
    "REMOTE_ADDR": "198.51.100.7", "REMOTE_PORT": "1000",
}  # fmt: skip
SEEN_V6 = {
    "PROXY_PROTOCOL": "TCP6", "PROXY_ADDR": "2001:db8::2", "PROXY_PORT": "1",
    "REMOTE_ADDR": "2001:db8::1", "REMOTE_PORT": "65535",
}  # fmt: skip
PROXY_KEYS = [key for key in SEEN if key.startswith("PROXY")]


def binary(block=BLOCK, *, command=0x21, family=0x11):
    """A header of version 2."""
    return SIGNATURE + bytes([command, family]) + struct.pack(">H", len(block)) + block


GOOD = {
    "v1 TCP4": (LINE, SEEN),
    "v1 TCP6": (LINE_V6, SEEN_V6),
    "v2 TCP4": (binary(), SEEN),
    "v2 TCP6": (binary(BLOCK_V6, family=0x21), SEEN_V6),
    "v2 with extensions": (binary(BLOCK + b"\x04\0\x64" + b"x" * 100), SEEN),
}
# The proxy speaks for itself, or does not know.
UNKNOWN = {
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", "UNKNOWN"),
    "v1 UNKNOWN with words": (b"PROXY UNKNOWN 1 2 3\r\n", "UNKNOWN"),
    "v2 LOCAL": (binary(b"", command=0x20, family=0), "LOCAL"),
    "v2 UNSPEC": (binary(b"", family=0x01), "UNSPEC"),
    "v2 UNSPEC without transport": (binary(b"", family=0), "UNSPEC"),
    "v2 UDP over IPv4": (binary(family=0x12), "UNSPEC"),
    "v2 UDP over IPv6": (binary(BLOCK_V6, family=0x22), "UNSPEC"),
    "v2 unix stream": (binary(b"/run/client\0".ljust(108, b"\0") * 2, family=0x31), "UNSPEC"),
    "v2 unix datagram": (binary(bytes(216), family=0x32), "UNSPEC"),
    "v2 unix without addresses": (binary(b"", family=0x31), "UNSPEC"),
}
BAD_LINES = {
    "too few words": b"PROXY TCP4 1.2.3.4 5.6.7.8 1000\r\n",
    "too many words": b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 2000 3000\r\n",
    "two blanks": b"PROXY TCP4  1.2.3.4 5.6.7.8 1000 2000\r\n",
    "unknown family": b"PROXY UDP4 1.2.3.4 5.6.7.8 1000 2000\r\n",
    "bad address": b"PROXY TCP4 1.2.3 5.6.7.8 1000 2000\r\n",
    "address of the other family": b"PROXY TCP6 1.2.3.4 5.6.7.8 1000 2000\r\n",
    "bad port": b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 65536\r\n",
    "no number": b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 http\r\n",
    "twice": LINE + LINE,
    "after an empty line": b"\r\n" + LINE,
}
BAD_HEADERS = {
    "version": binary(command=0x31),
    "command": binary(command=0x22),
    "transport": binary(family=0x13),
    "no transport": binary(family=0x10),
    "family": binary(family=0x41),
    "too short": binary(BLOCK[:8]),
}


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module("http_app:app", "--proxy-protocol", "auto", "--access-logfile", "access.log")


def addresses(response):
    """What the application has been told about the client."""
    assert response.status == 200, response
    environ = json.loads(response.body)
    return {key: value for key, value in environ.items() if key in SEEN}


def peer_of(client):
    """What it is told without a header."""
    host, port = client.sock.getsockname()[:2]
    return {"REMOTE_ADDR": host, "REMOTE_PORT": str(port)}


def answer_to(server, data):
    """The answer to a header and a request, and that the connection is closed after it."""
    with server.client() as client:
        client.send(data + request("/environ"))
        response = client.response()
        assert client.rest() == b""
    return response


@pytest.mark.parametrize(("header", "expected"), GOOD.values(), ids=GOOD)
def test_the_client_is_who_the_header_says(server, header, expected):
    with server.client() as client:
        client.send(header + request("/environ"))
        assert addresses(client.response()) == expected


@pytest.mark.parametrize(("header", "expected"), GOOD.values(), ids=GOOD)
def test_a_header_in_pieces(server, header, expected):
    with server.client() as client:
        data = header + request("/environ")
        client.send(*(data[at : at + 1] for at in range(60)), data[60:])
        assert addresses(client.response()) == expected


def test_a_header_and_the_request_later(server):
    with server.client() as client:
        client.send(LINE)
        client.send(request("/environ"))
        assert addresses(client.response()) == SEEN


def test_requests_without_a_header(server):
    with server.client() as client:
        for _ in range(2):
            client.send(request("/environ"))
            assert addresses(client.response()) == peer_of(client)
        # Later it is no header but a bad request.
        client.send(LINE + request("/environ"))
        assert client.response().status == 400


@pytest.mark.parametrize("header", [LINE, binary()], ids=["v1", "v2"])
@pytest.mark.own(reason="Gunicorn's threads forget the header after the first request, its greenlets do not")
def test_the_header_counts_for_the_whole_connection(server, header):
    with server.client() as client:
        client.send(header + request("/environ") * 3)
        for _ in range(3):
            assert addresses(client.response()) == SEEN
        client.send(request("/echo", method="POST", body=b"hello"))
        assert client.response().status == 200
        client.send(request("/environ"))
        assert addresses(client.response()) == SEEN


def test_the_header_counts_for_the_whole_connection_with_gevent(launch_gevent):
    server = launch_gevent("http_app:app", "--proxy-protocol", "auto")
    with server.client() as client:
        client.send(LINE + request("/environ"))
        assert addresses(client.response()) == SEEN
        client.send(request("/environ"))
        assert addresses(client.response()) == SEEN


@pytest.mark.parametrize(("header", "name"), UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.own(reason="Gunicorn refuses UNKNOWN, UDP and unix sockets, or puts None into the environ")
def test_without_addresses_the_peer_is_the_client(server, header, name):
    with server.client() as client:
        client.send(header + request("/environ"))
        assert addresses(client.response()) == peer_of(client) | {"PROXY_PROTOCOL": name}


@pytest.mark.parametrize("header", BAD_LINES.values(), ids=BAD_LINES)
def test_bad_lines(server, header):
    response = answer_to(server, header)
    assert (response.status, response.reason) == (400, "Bad Request")
    assert response.names[-3:] == ["Connection", "Content-Type", "Content-Length"]


@pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=BAD_HEADERS)
@pytest.mark.own(reason="Gunicorn answers 500 and logs a traceback")
def test_bad_headers(server, header):
    response = answer_to(server, header)
    assert (response.status, response.reason) == (400, "Bad Request")


@pytest.mark.own(reason="Gunicorn reads until a line ends")
def test_a_line_without_end(server):
    with server.client() as client:
        client.send(b"PROXY TCP4 " + b"1" * 200)
        assert client.response().status == 400


def test_the_access_log_names_the_client(server):
    with server.client() as client:
        client.send(LINE + request("/environ?logged"))
        assert client.response().status == 200
    access = server.workdir / "access.log"
    line = wait_for("the record", lambda: [line for line in access.read_text().splitlines() if "?logged" in line])
    assert line[0].startswith("198.51.100.7 - - [")


@pytest.mark.parametrize("header", [LINE, binary(), LINE[:6] + b"nonsense\r\n"], ids=["v1", "v2", "bad"])
def test_peers_that_are_not_allowed(launch, header):
    server = launch("http_app:app", "--proxy-protocol", "auto", "--proxy-allow-from", "192.0.2.1,198.51.100.0/24")
    response = answer_to(server, header)
    assert (response.status, response.reason) == (403, "Forbidden")
    wait_for("the log line", lambda: "Invalid request from ip=127.0.0.1" in server.log)
    with server.client() as client:
        client.send(request("/environ"))
        assert addresses(client.response()) == peer_of(client)


@pytest.mark.parametrize("allowed", ["*", "127.0.0.0/8"])
def test_allowed_networks(launch, allowed):
    server = launch("http_app:app", "--proxy-protocol", "auto", "--proxy-allow-from", allowed)
    with server.client() as client:
        client.send(LINE + request("/environ"))
        assert addresses(client.response()) == SEEN


def test_unix_peers_are_always_allowed(launch):
    server = launch(
        "http_app:app", "--proxy-protocol", "auto", "--proxy-allow-from", "192.0.2.1", bind="unix:s.sock", quiet=True
    )
    with server.client() as client:
        client.send(LINE + request("/environ"))
        assert addresses(client.response()) == SEEN


@pytest.mark.own(reason="Gunicorn puts None into the environ")
def test_a_unix_peer_that_speaks_for_itself(launch):
    server = launch("http_app:app", "--proxy-protocol", "v2", bind="unix:s.sock", quiet=True)
    with server.client() as client:
        client.send(binary(b"", command=0x20, family=0) + request("/environ"))
        assert addresses(client.response()) == {"REMOTE_ADDR": "", "PROXY_PROTOCOL": "LOCAL"}


@pytest.mark.parametrize(
    ("mode", "header", "status"),
    [("v1", LINE, 200), ("v1", binary(), 400), ("v2", binary(), 200), ("v2", LINE, 400), ("off", LINE, 400)],
    ids=["v1 with v1", "v1 with v2", "v2 with v2", "v2 with v1", "off"],
)
def test_modes(launch, mode, header, status):
    server = launch("http_app:app", "--proxy-protocol", mode)
    with server.client() as client:
        client.send(header + request("/environ"))
        assert client.response().status == status


@pytest.mark.parametrize(("trusted", "scheme"), [("127.0.0.1", "https"), ("198.51.100.7", "http")])
def test_trust_in_forwarding_headers_is_in_the_peer(launch, trusted, scheme):
    """The proxy is trusted or not, whoever its client is."""
    server = launch("http_app:app", "--proxy-protocol", "auto", "--forwarded-allow-ips", trusted)
    with server.client() as client:
        client.send(LINE + request("/environ", headers={"X-Forwarded-Proto": "https"}))
        response = client.response()
    assert addresses(response) == SEEN
    assert json.loads(response.body)["wsgi.url_scheme"] == scheme


@pytest.mark.own(reason="Gunicorn waits for ever")
@pytest.mark.parametrize("pieces", [LINE[:3], LINE[:20], SIGNATURE, binary()[:20], LINE])
def test_a_header_has_the_time_of_a_head(launch, pieces):
    server = launch("http_app:app", "--proxy-protocol", "auto", "--header-timeout", "1")
    with server.client() as client:
        client.send(pieces)
        assert client.rest() == b""


INFO = """
import json

def pre_request(worker, req):
    with open("info.json", "w") as file:
        json.dump(req.proxy_protocol_info, file)
"""


@pytest.mark.parametrize("proxied", [True, False])
def test_hooks_are_told(launch, proxied):
    server = launch("http_app:app", "--proxy-protocol", "auto", config=INFO)
    with server.client() as client:
        client.send((b"PROXY TCP4 192.0.2.9 198.51.100.1 5555 443\r\n" if proxied else b"") + request("/"))
        assert client.response().status == 200
    told = {
        "proxy_protocol": "TCP4", "client_addr": "192.0.2.9", "client_port": 5555,
        "proxy_addr": "198.51.100.1", "proxy_port": 443,
    }  # fmt: skip
    assert json.loads((server.workdir / "info.json").read_text()) == (told if proxied else None)
