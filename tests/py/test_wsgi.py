"""PEP 3333: what the application may count on."""

import json
import signal

import pytest
from harness import wait_for
from rawhttp import request


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module("wsgi_app:app")


def notes(server):
    """What the application noted so far."""
    return json.loads(server.get("/notes").body)


def wait_note(server, key, count=1):
    wait_for(f"note {key!r}", lambda: notes(server).get(key, 0) >= count)
    assert notes(server)[key] == count


BODY = b"one\ntwo\n\nlast"

# Expressions over wsgi.input; blanks are written as `_`, so that they can stand in a query.
READS = {
    "input.read()": BODY,
    "input.read(None)": BODY,
    "input.read(-1)": BODY,
    "input.read(-7)": BODY,
    "input.read(0)": b"",
    "input.read(3)": b"one",
    "input.read(1000)": BODY,
    "[input.read(5),input.read(5),input.read(5),input.read(5),input.read()]": [b"one\nt", b"wo\n\nl", b"ast", b"", b""],
    "input.readline()": b"one\n",
    "input.readline(None)": b"one\n",
    "input.readline(-1)": b"one\n",
    "input.readline(0)": b"",
    "input.readline(2)": b"on",
    "input.readline(100)": b"one\n",
    "[input.readline(2),input.readline(),input.readline()]": [b"on", b"e\n", b"two\n"],
    "[input.readline()_for_i_in_range(6)]": [b"one\n", b"two\n", b"\n", b"last", b"", b""],
    "input.readlines()": [b"one\n", b"two\n", b"\n", b"last"],
    "list(input)": [b"one\n", b"two\n", b"\n", b"last"],
    "[next(input),input.read(2),list(input)]": [b"one\n", b"tw", [b"o\n", b"\n", b"last"]],
    "[iter(input)_is_input,input.read()]": [True, BODY],
    "[input.read(4),input.readline(),input.read(1),input.readlines()]": [b"one\n", b"two\n", b"\n", [b"last"]],
}


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("expression", READS)
def test_input(server, expression, framing):
    options = {"body": BODY} if framing == "length" else {"chunks": [BODY[:5], BODY[5:6], BODY[6:]]}
    assert eval(server.get(f"/input?do={expression}", method="POST", **options).body) == READS[expression]


@pytest.mark.own
@pytest.mark.parametrize(("hint", "lines"), [(1, 1), (4, 1), (5, 2), (9, 3), (10, 4), (100, 4), (0, 4), (-1, 4)])
def test_readlines_stops_at_its_hint(server, hint, lines):
    """As Python's files do: no further line once so many bytes have been read. Gunicorn reads all."""
    response = server.get(f"/input?do=input.readlines({hint})", method="POST", body=BODY)
    assert eval(response.body) == [b"one\n", b"two\n", b"\n", b"last"][:lines]


@pytest.mark.parametrize("expression", ["input.read()", "input.read(5)", "input.readline()"])
def test_input_without_a_body(server, expression):
    assert server.get(f"/input?do={expression}").body == b"b''"


@pytest.mark.parametrize("expression", ["input.read('x')", "input.read(1.5)", "input.readline('x')"])
def test_input_wrong_argument(server, expression):
    assert server.get(f"/input?do={expression}", method="POST", body=BODY).status == 500


def test_long_lines(server):
    """Lines longer than any buffer."""
    body = b"x" * 100_000 + b"\n" + b"y" * 50_000
    found = server.get("/input?do=[len(line)_for_line_in_input]", method="POST", body=body).body
    assert found == b"[100001, 50000]"


def test_errors_stream(launch):
    server = launch("wsgi_app:app")
    assert server.get("/errors").body == b"done"
    for line in ("written to errors", "a line", "ünïcode", "printed to errors"):
        server.wait_log(f"(?m)^{line}$")


def test_errors_stream_as_a_file(launch):
    server = launch("wsgi_app:app")
    assert server.get("/errors-file").body == b"[False, False, False, False]"
    server.wait_log("(?m)^by a handler$")


# Results.


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/write", b"one two three"),
        ("/generator", b"ab"),
        ("/tuple", b"ab"),
        ("/getitem", b"ab"),
        ("/empty-list", b""),
        ("/one-item", b"hello"),
    ],
)
def test_results(server, path, body):
    with server.client() as client:
        response = client.get(path)
        assert (response.status, response.body) == (200, body)
        assert client.get("/notes").status == 200
    assert server.get(path, version="HTTP/1.0").body == body
    assert server.get(path, method="HEAD").body == b""


@pytest.mark.parametrize("path", ["/lazy", "/write-waits"])
def test_an_item_reaches_the_client_before_the_next_is_asked_for(launch, path):
    """The application goes on only when the client, which holds the first item, opens the gate.

    It does so in another worker thread or, where one thread does all, after it has the first item on its side.
    """
    server = launch("wsgi_gate:app")
    with server.client() as client:
        client.send(request(path))
        assert client.head().status == 200
        assert client.chunk() == b"first"
        (server.workdir / "gate").touch()
        assert client.chunk() == b"second"


def test_head_response_is_closed_too(server):
    before = notes(server).get("closed head", 0)
    assert server.get("/closing?key=head", method="HEAD").status == 200
    wait_note(server, "closed head", before + 1)


def test_start_response_with_exc_info_replaces(server):
    response = server.get("/exc-info")
    assert (response.status, response.body, response.header("X-Second")) == (503, b"replaced", "1")


@pytest.mark.own
def test_start_response_with_exc_info_replaces_the_fields(server):
    """PEP 3333, "The start_response() Callable"; Gunicorn appends the new fields to the old ones."""
    assert server.get("/exc-info").header("X-First") is None


def test_start_response_with_exc_info_after_bytes_reraises(server):
    with server.client() as client:
        client.send(request("/exc-info-late"))
        assert client.head().status == 200
        assert client.chunk() == b"sent"
        assert client.rest() == b""
    wait_note(server, "reraised")
    server.wait_log("LookupError: replaced")


BAD = [
    "twice", "bytes status", "int status", "word status", "newline in status", "bytes name", "bytes value", "int value",
    "newline in value", "NUL in value", "blank in name", "empty name", "colon in name", "none", "unstarted",
]  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_an_application_may_not_do(server, case):
    with server.client() as client:
        response = client.get(f"/bad?case={case.replace(' ', '_')}")
        assert (response.status, response.header("Connection")) == (500, "close")
        assert response.header("X-B") is None
        client.assert_closed()


@pytest.mark.own
@pytest.mark.parametrize(
    "case",
    [
        "str item", "bytearray item", "memoryview item", "negative length", "signed length", "length with underscore",
        "word for a length", "list of lengths", "two lengths", "empty length", "length beyond 64 bits",
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_a_500(server, case):
    """Gunicorn sends the head, and then closes or lets the client wait; of lengths it takes what Python's int does."""
    with server.client() as client:
        response = client.get(f"/bad?case={case.replace(' ', '_')}")
        assert (response.status, response.header("Connection")) == (500, "close")
        client.assert_closed()


def test_text_instead_of_bytes_is_never_a_whole_response(server):
    """Gunicorn has sent the header block by then and cuts the connection; a 500 is as good."""
    with server.client() as client:
        client.send(request("/bad?case=str_item"))
        answer = client.rest()
    assert b"text\r\n" not in answer
    assert answer.startswith(b"HTTP/1.1 500") or not answer.endswith(b"0\r\n\r\n")
    server.wait_log("TypeError")


@pytest.mark.own
def test_stop_iteration_from_the_application_is_an_error_like_any_other(server):
    """Gunicorn takes it for the end of the connection: it closes without an answer and without a log line."""
    assert server.get("/stop-iteration").status == 500


@pytest.mark.own
@pytest.mark.parametrize("path", ["/raises", "/raises-in-iteration"])
@pytest.mark.parametrize(
    "what",
    ["OSError", "TimeoutError", "BrokenPipeError", "ConnectionResetError", "Unusual", "GeneratorExit"],
)
def test_any_exception_before_the_first_byte_is_a_500(server, path, what):
    """Gunicorn takes an OSError for the client's, and closes; what is no Exception ends its worker."""
    pid = server.get("/pid").body
    assert server.get(f"{path}?what={what}").status == 500
    assert server.get("/pid").body == pid
    server.wait_log(f"Error handling request GET {path}")


def test_wrong_signature(launch):
    server = launch("wsgi_app:not_even_a_function")
    assert server.get().status == 500
    server.wait_log("TypeError: not_even_a_function")


# close() is called exactly once, whatever happens.


@pytest.mark.parametrize(("query", "key"), [("key=good", "good"), ("key=failing&fail=1", "failing")])
def test_close_is_called(server, query, key):
    with server.client() as client:
        client.send(request(f"/closing?{query}"))
        assert client.head().status == 200
        client.chunk()
    wait_note(server, f"closed {key}")


def test_close_is_called_although_nothing_was_started(server):
    assert server.get("/closing-unstarted").status == 500
    wait_note(server, "closed unstarted")


@pytest.mark.parametrize("way", ["close", "reset"])
def test_close_is_called_when_the_client_goes_away(launch, way):
    server = launch("wsgi_app:app")
    client = server.client()
    client.send(request("/closing-big"))
    assert client.head().status == 200
    client.chunk()
    getattr(client, way)()
    wait_note(server, "closed big")


@pytest.mark.own(reason="Gunicorn waits in send() and leaves the iterable alone when it is stopped")
def test_close_is_called_when_the_worker_leaves(launch):
    server = launch("wsgi_app:app")
    with server.client() as client:
        client.send(request("/closing-leaves-a-file"))
        assert client.head().status == 200
        client.chunk()
        server.kill(signal.SIGINT)
        assert server.wait_exit() == 0
    assert (server.workdir / "closed").exists()


def test_exception_in_close_is_logged(server):
    assert server.get("/closing-raises").body == b"hello"
    wait_note(server, "closed badly")
    server.wait_log("ValueError: raised in close")


@pytest.mark.own
def test_a_connection_outlives_an_exception_in_close(server):
    """The response was complete. Gunicorn closes."""
    with server.client() as client:
        assert client.get("/closing-raises").body == b"hello"
        assert client.get("/notes").status == 200


# wsgi.file_wrapper.


def content(size, offset=0):
    return bytes(index % 251 for index in range(size))[offset:]


@pytest.mark.parametrize("kind", ["real", "memory", "bare"])
@pytest.mark.parametrize("size", [0, 1, 8192, 300_000])
def test_file_wrapper(server, kind, size):
    assert server.get(f"/file?kind={kind}&size={size}").body == content(size)
    assert server.get(f"/file?kind={kind}&size={size}&length={size}").body == content(size)


@pytest.mark.parametrize("kind", ["real", "memory"])
def test_file_wrapper_begins_at_the_offset(server, kind):
    with server.client() as client:
        assert client.get(f"/file?kind={kind}&size=20000&offset=1234").body == content(20000, 1234)
        assert client.get(f"/file?kind={kind}&size=20000&offset=1234&length=18766").body == content(20000, 1234)
        assert client.get(f"/file?kind={kind}&size=20000&offset=100&length=10").body == content(110, 100)
        assert client.get("/notes").status == 200


@pytest.mark.parametrize("kind", ["real", "memory"])
def test_file_wrapper_closes_the_file(launch, kind):
    server = launch("wsgi_app:app")
    assert server.get(f"/file?kind={kind}&size=10").body == content(10)
    wait_note(server, "file closed")


def test_file_wrapper_block_size(server):
    """Without a file descriptor the blocks are read one by one."""
    assert server.get("/file?kind=bare&size=10&block=4").chunks == [content(4), content(8, 4), content(10, 8)]


def test_file_wrapper_and_head(server):
    response = server.get("/file?size=10&length=10", method="HEAD")
    assert (response.status, response.header("Content-Length")) == (200, "10")


# wsgi.early_hints, RFC 8297.


def test_early_hints(server):
    response = server.get("/hints")
    assert [(answer.status, answer.reason) for answer in response.interim] == [(103, "Early Hints")] * 2
    assert [answer.headers for answer in response.interim] == [
        [("Link", "</a.css>; rel=preload")],
        [("Link", "</b.css>; rel=preload")],
    ]
    assert response.body == b"hello"


def test_early_hints_are_nothing_for_http_1_0(server):
    response = server.get("/hints", version="HTTP/1.0")
    assert (response.interim, response.body) == ([], b"hello")


# What is kept beyond its request, and what comes at the wrong time.


@pytest.fixture(scope="module")
def kept(launch_module):
    return launch_module("wsgi_kept:app")


@pytest.mark.own
def test_what_an_application_kept_leads_nowhere(kept):
    """Gunicorn's write() puts its bytes between the responses of whoever has the connection now."""
    with kept.client() as client:
        for _ in range(3):
            assert client.get("/keep").body == b"kept"
            used = client.get("/use")
            assert used.interim == []
            assert used.body == b"RuntimeError,None,AssertionError,OSError,b''"


@pytest.mark.own
def test_write_in_close_comes_too_late(kept):
    with kept.client() as client:
        assert client.get("/write-in-close").body == b"in time"
        assert client.get("/in-close").body == b"RuntimeError"


def test_early_hints_end_with_the_head(kept):
    with kept.client() as client:
        response = client.get("/late-hints")
        assert [answer.headers for answer in response.interim] == [[("Link", "</early>")]]
        assert response.body == b"one two three"


def test_fields_may_be_lists_and_come_from_a_generator(kept):
    response = kept.get("/list-headers")
    assert (response.status, response.header("X-List"), response.body) == (200, "1", b"ok")


@pytest.mark.parametrize("case", range(3))
def test_a_field_is_a_pair(kept, case):
    assert kept.get(f"/bad-pair?case={case}").status == 500


@pytest.mark.own
def test_other_threads_may_read_but_not_send(kept):
    found = kept.get("/other-thread", method="POST", body=b"abc")
    assert (found.interim, found.body) == ([], b"b'abc',RuntimeError,RuntimeError")


def test_write_fails_when_the_client_has_left(kept):
    """An application that writes for ever must learn of it."""
    with kept.client() as client:
        client.send(request("/write-for-ever"))
        assert client.head().status == 200
        client.reset()
    wait_for("the failure", lambda: kept.get("/write-failed").body in (b"BrokenPipeError", b"ConnectionResetError"))


@pytest.mark.own
def test_file_wrapper_sends_what_read_gives(kept):
    """Gunicorn sends the compressed bytes: it asks for the descriptor of whatever has one."""
    assert kept.get("/compressed").body == b"plain text" * 1000


@pytest.mark.own
@pytest.mark.parametrize("kind", ["shouting", "subclass", "buffered", "instance"])
def test_a_file_with_a_read_of_its_own_is_read(kept, kind):
    """Gunicorn sends what lies behind the descriptor."""
    assert kept.get(f"/wrapped?kind={kind}").body == b"PLAIN TEXT" * 1000


@pytest.mark.parametrize("kind", ["plain", "raw", "writable"])
def test_a_plain_file_leaves_by_sendfile(kept, kind):
    """Which does not move the file's offset: it is where it was when the file is closed."""
    assert kept.get(f"/wrapped?kind={kind}").body == b"plain text" * 1000
    wait_for("the end", lambda: kept.get(f"/position?kind={kind}").body == b"0")


@pytest.mark.own
def test_file_wrapper_with_a_file_of_unknown_size(kept):
    """Gunicorn believes the size and sends nothing."""
    assert kept.get("/proc").body.startswith(b"Name:")


@pytest.mark.parametrize("size", [7, 100, 20_000])
def test_lines_of_a_large_body(kept, size):
    """Larger than what is held in memory."""
    body = b"".join(b"%d" % number * (number % 50) + b"\n" for number in range(30_000))
    assert kept.get(f"/lines?size={size}", method="POST", body=body).body == body
