"""Requests as bytes: heads, limits, bodies, pipelining, and what is refused with which status.

RFC 9112 is the law where Gunicorn is strict, and Gunicorn is where it is stricter or laxer.
"""

from email.utils import parsedate_to_datetime

import pytest
from harness import wait_for
from rawhttp import request

HEAD_BYTES_MAX = 100 * (8190 + 2) + 4


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module("http_app:app")


def header(name, value="x"):
    """A GET with one more header field, given as raw text."""
    return f"GET / HTTP/1.1\r\nHost: a\r\n{name}{value}\r\n\r\n".encode("latin-1")


ACCEPTED = {
    "one empty line first": b"\r\n" + request(),
    "no Host in HTTP/1.0": request(host=None, version="HTTP/1.0"),
    "empty Host": request(host=""),
    "Host with a port": request(host="a.test:8000"),
    "Host with an empty port": request(host="a.test:"),
    "IPv6 Host": request(host="[::1]:80"),
    "Host with an underscore": request(host="my_app"),
    "percent-encoded Host": request(host="%2Frun%2Fapp.sock"),
    "HTTP/1.2": request(version="HTTP/1.2"),
    "absolute form": request("http://other.test:81/"),
    "asterisk form": request("*", method="OPTIONS"),
    "authority form": request("example.test:443", method="CONNECT"),
    "longest method": request(method="A" * 20),
    "unknown method": request(method="M-SEARCH"),
    "empty value": header("X-Empty:", ""),
    "value with tab and latin-1": header("X-Odd: ", "a\tb\xff"),
    "blanks around the value": header("X-Blank: \t ", "v \t "),
    "odd but legal name": header("!#$%&'*+-.^_`|~09az: "),
    "request line at its limit": request("/?" + "q" * (4094 - len("GET /? HTTP/1.1"))),
    "field at its limit": header("X-Long: ", "v" * (8190 - len("X-Long: \r\n"))),
    "100 fields": request(headers=[(f"X-{number}", "v") for number in range(99)]),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(server, name):
    response = server.exchange(ACCEPTED[name])
    assert response.status in (200, 404), response


REFUSED_400 = {
    "two empty lines first": b"\r\n\r\n" + request(),
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF after a field": b"GET / HTTP/1.1\r\nHost: a\n\r\n",
    "bare LF as the end": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR in a value": header("X: ", "a\rb"),
    "two blanks in the request line": b"GET  / HTTP/1.1\r\n\r\n",
    "tab in the request line": b"GET\t/ HTTP/1.1\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "four parts": b"GET / x HTTP/1.1\r\n\r\n",
    "blank before the method": b" GET / HTTP/1.1\r\n\r\n",
    "method too short": request(method="GO"),
    "method too long": request(method="A" * 21),
    "lower case method": request(method="get"),
    "method with #": request(method="GE#T"),
    "method not a token": request(method="GE(T"),
    "target with a control byte": b"GET /\x01 HTTP/1.1\r\n\r\n",
    "target with a high byte": b"GET /\xe9 HTTP/1.1\r\n\r\n",
    "target without slash": request("index.html"),
    "asterisk with GET": request("*"),
    "authority form with GET": request("example.test:443"),
    "HTTP/0.9": request(version="HTTP/0.9"),
    "HTTP/2.0": request(version="HTTP/2.0"),
    "HTTP/1": request(version="HTTP/1"),
    "HTTP/1.10": request(version="HTTP/1.10"),
    "lower case version": request(version="http/1.1"),
    "field without colon": header("NoColon"),
    "empty field name": header(": "),
    "blank in the name": header("X Y: "),
    "blank before the colon": header("X : "),
    "tab before the colon": header("X\t: "),
    "name not a token": header("X(Y): "),
    "name with a high byte": header("X\xe9: "),
    "folded line": header("X: a\r\n b"),
    "folded first field": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "NUL in a value": header("X: ", "a\0b"),
    "escape in a value": header("X: ", "a\x1bb"),
    "DEL in a value": header("X: ", "a\x7fb"),
    "two Host fields": request(headers=[("Host", "b")]),
    "two equal Content-Types": request(headers=[("Content-Type", "a/b")] * 2),
    "Content-Length with sign": request(headers={"Content-Length": "+5"}),
    "negative Content-Length": request(headers={"Content-Length": "-5"}),
    "Content-Length as list": request(headers={"Content-Length": "5, 5"}),
    "Content-Length in hex": request(headers={"Content-Length": "0x5"}),
    "Content-Length with underscore": request(headers={"Content-Length": "1_0"}),
    "empty Content-Length": header("Content-Length:", ""),
    "Content-Length superscript": request(headers={"Content-Length": "\xb2"}),
    "two equal Content-Lengths": request(headers=[("Content-Length", "5")] * 2) + b"hello",
    "two different Content-Lengths": request(headers=[("Content-Length", "5"), ("Content-Length", "6")]) + b"hello",
    "both framings": request(headers={"Content-Length": "5"}, chunks=[b"hello"]),
    "both framings reversed": request(headers=[("Transfer-Encoding", "chunked"), ("Content-Length", "5")]),
    "chunked twice": request(headers={"Transfer-Encoding": "chunked, chunked"}),
    "chunked twice in two fields": request(headers=[("Transfer-Encoding", "chunked")] * 2),
    "coding after chunked": request(headers={"Transfer-Encoding": "chunked, gzip"}),
    "coding without chunked": request(headers={"Transfer-Encoding": "gzip"}),
    "chunked with HTTP/1.0": request(version="HTTP/1.0", chunks=[b"hello"]),
}


def assert_refused(server, data, status, reason):
    """The error page in Gunicorn's form, then the connection closes; nothing sent after is answered."""
    with server.client() as client:
        client.send(data)
        response = client.response()
        assert (response.version, response.status, response.reason) == ("HTTP/1.1", status, reason)
        date = ["Date"] if server.flavour.own else []
        assert response.names == [*date, "Connection", "Content-Type", "Content-Length"]
        assert response.header("Connection") == "close"
        assert response.header("Content-Type") == "text/html"
        page = response.body.decode("latin-1")
        assert f"<title>{reason}</title>" in page
        # Gunicorn nests a paragraph in its heading, which HTML does not allow.
        assert f"<h1>{reason}</h1>" in page.replace("<h1><p>", "<h1>").replace("</p></h1>", "</h1>")
        client.assert_closed()


@pytest.mark.parametrize("name", REFUSED_400)
def test_bad_request(server, name):
    assert_refused(server, REFUSED_400[name], 400, "Bad Request")
    assert server.get().body == b"hello"


def with_host(value):
    return request(host=value)


HOST_REFUSED = {
    "missing": request(host=None),
    "missing in HTTP/1.2": request(host=None, version="HTTP/1.2"),
    "missing beside an absolute target": request("http://a.test/", host=None),
    "blank": with_host("a b"),
    "blank in HTTP/1.0": request(host="a b", version="HTTP/1.0"),
    "slash": with_host("a/b"),
    "user": with_host("u@h"),
    "open bracket": with_host("[::1"),
    "no address in brackets": with_host("[zz]"),
    "address without brackets": with_host("::1"),
    "two ports": with_host("a:1:2"),
    "port of letters": with_host("a:http"),
    "only a port": with_host(":80"),
    "list": with_host("a.test, b.test"),
    "list without a blank": with_host("a.test,b.test"),
    "latin-1": with_host("caf\xe9.test"),
    "bad escape": with_host("a%zz"),
    "empty brackets in the target": request("http://[]/x"),
    "no address in the target's brackets": request("http://[zz]/x"),
    "user in the target": request("http://u:p@a.test/x"),
    "no host in the target": request("http:///x"),
    "two ports in the target": request("http://a.test:1:2/x"),
    "CONNECT without a port": request("a.test", method="CONNECT"),
    "CONNECT with an empty port": request("a.test:", method="CONNECT"),
    "CONNECT with port 0": request("a.test:0", method="CONNECT"),
    "CONNECT with a port beyond all": request("a.test:65536", method="CONNECT"),
    "CONNECT without a host": request(":443", method="CONNECT"),
    "CONNECT with a path": request("/", method="CONNECT"),
    "CONNECT with a URL": request("http://a.test:443", method="CONNECT"),
}


@pytest.mark.own
@pytest.mark.parametrize("name", HOST_REFUSED)
def test_a_request_says_for_which_host_it_is(server, name):
    """RFC 9112 section 3.2, RFC 9110 sections 4.2.1, 4.2.4, 9.3.6. Gunicorn takes nearly all of these."""
    assert_refused(server, HOST_REFUSED[name], 400, "Bad Request")


REFUSED = {
    "request line over its limit": (request("/?" + "q" * (4095 - len("GET /? HTTP/1.1"))), 414, "URI Too Long"),
    "field over its limit": (
        header("X-Long: ", "v" * (8191 - len("X-Long: \r\n"))),
        431,
        "Request Header Fields Too Large",
    ),
    "101 fields": (
        request(headers=[(f"X-{number}", "v") for number in range(100)]),
        431,
        "Request Header Fields Too Large",
    ),
    "unknown expectation": (request(headers={"Expect": "200-ok"}), 417, "Expectation Failed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_refusals(server, name):
    assert_refused(server, *REFUSED[name])


@pytest.mark.own
def test_unknown_transfer_coding_has_its_own_reason(server):
    """Gunicorn says "501 Bad Request"."""
    assert_refused(server, request(headers={"Transfer-Encoding": "wonder, chunked"}), 501, "Not Implemented")


@pytest.mark.own
def test_dropped_names_count_as_fields(server):
    """Gunicorn does not count names with an underscore, which lets a client send any number of them."""
    fields = [(f"X_{number}", "v") for number in range(100)]
    assert_refused(server, request(headers=fields), 431, "Request Header Fields Too Large")


@pytest.mark.parametrize(
    ("option", "value", "good", "bad", "status"),
    [
        ("--limit-request-line", "40", "/" + "a" * 26, "/" + "a" * 27, 414),
        ("--limit-request-line", "0", "/" + "a" * 9000, None, 414),
        ("--limit-request-line", "99999", "/" + "a" * 8176, "/" + "a" * 8177, 414),
    ],
)
def test_request_line_limit(launch, option, value, good, bad, status):
    server = launch("http_app:app", option, value)
    assert server.get(good).status == 404
    if bad is not None:
        assert server.get(bad).status == status


def test_field_limits(launch):
    server = launch("http_app:app", "--limit-request-fields", "3", "--limit-request-field_size", "30")
    assert server.get(headers=[("A", "1"), ("B", "2")]).status == 200
    assert server.get(headers=[("A", "1"), ("B", "2"), ("C", "3")]).status == 431
    assert server.get(headers={"X": "v" * 25}).status == 200
    assert server.get(headers={"X": "v" * 26}).status == 431


def test_error_page_escapes_the_message(server):
    response = server.exchange(request(headers={"<script>": "x"}))
    assert response.status == 400
    assert b"<script>" not in response.body


# Faults of each kind, and the request line that the access log shows of them.
PAGES = {
    "field": ("{} / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400, "{} / HTTP/1.1"),
    "Host": ("{} /x?y HTTP/1.1\r\n\r\n", 400, "{} /x?y HTTP/1.1"),
    "version": ("{} / HTTP/7.0\r\nHost: a\r\n\r\n", 400, "{} - -"),
    "line": (f"{{}} /{'a' * 5000} HTTP/1.1\r\n", 414, "{} - -"),
    "fields": (f"{{}} / HTTP/1.1\r\n{'A: b' * 5000}\r\n\r\n", 431, "{} / HTTP/1.1"),
    "expectation": ("{} / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417, "{} / HTTP/1.1"),
    "coding": ("{} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n", 501, "{} / HTTP/1.1"),
    "chunk": ("{} /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400, "{} /echo HTTP/1.1"),
    "script name": ("{} /x HTTP/1.1\r\nHost: a\r\nSCRIPT_NAME: /app\r\n\r\n", 500, "{} /x HTTP/1.1"),
    "application": ("{} /raise HTTP/1.1\r\nHost: a\r\n\r\n", 500, "{} /raise HTTP/1.1"),
    "no page": ("{} /status?line=OK HTTP/1.1\r\nHost: a\r\n\r\n", 500, "{} /status?line=OK HTTP/1.1"),
}


@pytest.mark.own
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_each_error_page_has_a_date_and_a_record_and_none_is_sent_for_head(launch, method):
    """RFC 9110 sections 6.6.1 and 9.3.2. Gunicorn's pages have no date, are sent for HEAD, and not all are recorded."""
    server = launch("http_app:app", "--access-logfile", "access.log", "--access-logformat", "%(r)s %(s)s")
    expected = []
    for name, (text, status, line) in PAGES.items():
        with server.client() as client:
            client.send(text.format(method).encode())
            response = client.response(method)
            assert (response.status, response.header("Connection")) == (status, "close"), name
            assert parsedate_to_datetime(response.header("Date")), name
            assert int(response.header("Content-Length")) > 50, name
            client.assert_closed()
        expected.append(f"{line.format(method)} {status}")
    log = server.workdir / "access.log"
    wait_for("the records", lambda: log.read_text().count("\n") >= len(expected))
    server.terminate()
    assert log.read_text().splitlines() == expected


@pytest.mark.own
def test_what_is_no_http_is_recorded_without_a_request_line(launch):
    server = launch("http_app:app", "--access-logfile", "access.log", "--access-logformat", "%(h)s %(r)s %(s)s %(U)s")
    with server.client() as client:
        client.send(b"\x16\x03\x01\x00\xa5\n")
        assert client.response().status == 400
    log = server.workdir / "access.log"
    wait_for("the record", log.read_text)
    server.terminate()
    assert log.read_text() == "127.0.0.1 - - - 400 -\n"


RECORDING = """
from gunicorn.glogging import Logger

class Recording(Logger):
    def access(self, resp, req, environ, request_time):
        with open("records", "a") as file:
            print(req.method, req.uri, str(resp.status).split()[0], environ["REMOTE_ADDR"], file=file)

logger_class = Recording
"""


def assert_recorded(server):
    records = server.workdir / "records"
    for data in (
        b"bad\n",
        b"GET /a HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /b HTTP/1.1\r\n\r\n",
        request("/raise"),
        request(),
    ):
        server.exchange(data)
    wait_for("the records", lambda: records.exists() and records.read_text().count("\n") >= 5)
    # In threads an order is not promised.
    assert sorted(records.read_text().splitlines()) == [
        "- - 400 127.0.0.1",
        "GET / 200 127.0.0.1",
        "GET /a 400 127.0.0.1",
        "GET /b 400 127.0.0.1",
        "GET /raise 500 127.0.0.1",
    ]
    assert server.get().body == b"hello"


@pytest.mark.own
def test_a_logger_of_the_configuration_hears_of_refusals(launch):
    """Gunicorn's hears of those whose head has been read."""
    assert_recorded(launch("http_app:app", config=RECORDING))


@pytest.mark.own
def test_a_logger_of_the_configuration_hears_of_refusals_with_gevent(launch_gevent):
    assert_recorded(launch_gevent("http_app:app", config=RECORDING))


def test_refusal_is_logged(launch):
    server = launch("http_app:app")
    server.exchange(request(method="get"))
    server.wait_log(r"\[WARNING\] Invalid request from ip=127\.0\.0\.1: \S")


# Splits, pipelining, keep-alive.

WHOLE = request("/echo", method="POST", body=b"hello\r\nworld")
CHUNKED = request("/echo", method="POST", chunks=[b"hello", b"\r\n", b"world"])


@pytest.mark.parametrize("data", [WHOLE, CHUNKED], ids=["length", "chunked"])
def test_split_at_every_byte(server, data):
    with server.client() as client:
        for cut in range(1, len(data)):
            client.send(data[:cut], data[cut:])
            assert client.response().body == b"hello\r\nworld", cut


def test_byte_by_byte(server):
    with server.client() as client:
        client.send(*(CHUNKED[index : index + 1] for index in range(len(CHUNKED))))
        assert client.response().body == b"hello\r\nworld"


def test_pipelined_requests_are_answered_in_order(server):
    bodies = [b"%d" % number * number for number in range(1, 30)]
    framings = [{"body": body} if index % 2 else {"chunks": [body]} for index, body in enumerate(bodies)]
    with server.client() as client:
        client.send(b"".join(request("/echo", method="POST", **framing) for framing in framings))
        assert [client.response().body for _ in bodies] == bodies


def test_pipelined_after_a_refused_one_is_not_served(server):
    with server.client() as client:
        client.send(request() + request(method="get") + request("/pid"))
        assert client.response().status == 200
        assert client.response().status == 400
        client.assert_closed()


KEEPS = {
    "1.1": ("HTTP/1.1", {}, "keep-alive"),
    "1.1 keep-alive": ("HTTP/1.1", {"Connection": "keep-alive"}, "keep-alive"),
    "1.1 close": ("HTTP/1.1", {"Connection": "close"}, "close"),
    "1.1 Close": ("HTTP/1.1", {"Connection": "Close"}, "close"),
    "1.0": ("HTTP/1.0", {}, "close"),
    "1.0 keep-alive": ("HTTP/1.0", {"Connection": "keep-alive"}, "keep-alive"),
    "1.0 Keep-Alive": ("HTTP/1.0", {"Connection": "Keep-Alive"}, "keep-alive"),
    "1.0 close": ("HTTP/1.0", {"Connection": "close"}, "close"),
}


def assert_keeps(server, version, headers, says):
    with server.client() as client:
        response = client.get(version=version, headers=headers)
        assert (response.version, response.header("Connection"), response.body) == (version, says, b"hello")
        if says == "close":
            client.assert_closed()
        else:
            assert client.get().status == 200


@pytest.mark.parametrize("name", KEEPS)
def test_keep_alive(server, name):
    assert_keeps(server, *KEEPS[name])


@pytest.mark.own
@pytest.mark.parametrize("version", ["HTTP/1.2", "HTTP/1.5", "HTTP/1.9"])
def test_later_minor_versions_are_answered_as_1_1(server, version):
    """RFC 9110 section 6.2: a version is a promise. Gunicorn repeats the client's."""
    with server.client() as client:
        for target, body in [("/", b"hello"), ("/items", b"onetwothree")]:
            response = client.get(target, version=version)
            found = (response.version, response.header("Connection"), response.body)
            assert found == ("HTTP/1.1", "keep-alive", body)
        assert client.get("/items", version=version).chunked
        assert client.get("/environ", version=version).body.count(version.encode()) == 1


@pytest.mark.own
@pytest.mark.parametrize(
    ("version", "headers", "says"),
    [
        ("HTTP/1.1", [("Connection", "foo, close")], "close"),
        ("HTTP/1.1", [("Connection", "foo"), ("Connection", "close")], "close"),
        ("HTTP/1.0", [("Connection", "keep-alive, foo")], "keep-alive"),
    ],
)
def test_connection_is_a_list_of_tokens(server, version, headers, says):
    """RFC 9110 section 7.6.1; Gunicorn compares the first field as one value."""
    assert_keeps(server, version, headers, says)


def test_keep_alive_ends_after_its_time(launch):
    server = launch("http_app:app", "--keep-alive", "1")
    with server.client() as client:
        assert client.get().status == 200
        client.assert_closed()


def test_keep_alive_zero_closes_at_once(launch):
    server = launch("http_app:app", "--keep-alive", "0")
    with server.client() as client:
        assert client.get().header("Connection") == "close"
        client.assert_closed()


def test_connect_then_nothing_is_harmless(server):
    for _ in range(5):
        server.client().close()
    assert server.get().status == 200


def test_end_in_the_middle_of_the_head_is_not_answered(server):
    with server.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHos")
        client.shutdown()
        client.assert_closed()
