"""Requests in greenlets: they wait side by side, are strangers to each other, and end alone."""

import contextlib
import json

import pytest
from harness import wait_for
from rawhttp import request

MANY = 50


@pytest.fixture(scope="module")
def server(launch_gevent_module):
    return launch_gevent_module("coop:app", "--worker-connections", "300")


def wait_holding(server, name, count=1):
    """Wait until so many requests are inside of `/hold` or `/grind`."""
    wait_for(f"{count} requests in {name}", lambda: server.get(f"/holding?name={name}").body == b"%d" % count)


def notes(server, name):
    return server.get(f"/notes?name={name}").body.decode()


@contextlib.contextmanager
def held(server, name, count=1):
    """Connections whose requests wait in the application for `/release`."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(count)]
        for client in clients:
            client.send(request(f"/hold?name={name}"))
        wait_holding(server, name, count)
        yield clients


def test_requests_wait_side_by_side(server):
    answers = server.together([f"/meet?name=many&n={MANY}"] * MANY)
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"met")] * MANY


def test_one_request_releases_others(server):
    with held(server, "some", 5) as clients:
        assert server.get("/release?name=some").body == b"ok"
        assert [client.response().body for client in clients] == [b"released some"] * 5


def test_a_connection_goes_on_after_it_has_waited(server):
    with held(server, "again") as [client]:
        server.get("/release?name=again")
        assert client.response().status == 200
        for _ in range(3):
            assert client.get("/meet?name=alone&n=1").body == b"met"


def test_pipelined_requests_run_in_order(server):
    """The first waits for what only another connection can bring; the second may not pass it."""
    with server.client() as client:
        client.send(request("/hold?name=pipe") + request("/meet?name=alone&n=1"))
        wait_holding(server, "pipe")
        server.get("/release?name=pipe")
        assert client.response().body == b"released pipe"
        assert client.response().body == b"met"


def test_the_request_is_a_gevent_greenlet(server):
    found = json.loads(server.get("/current").body)
    assert found["gevent"]
    assert not found["hub"]
    assert found["parent is hub"]
    assert found["started"]


def test_environ_says_multithread(server):
    """Requests of one process overlap, and a library that asks (a session store, a profiler) has to know."""
    found = json.loads(server.get("/current").body)
    assert found["multithread"] is True
    assert found["run_once"] is False


def test_locals_are_fresh_in_each_request(server):
    for _ in range(3):
        assert json.loads(server.get("/fresh").body) == [None, None, None]


@pytest.mark.own
def test_locals_are_fresh_in_each_request_of_a_connection(server):
    """Gunicorn has one greenlet for a connection, so there the locals of one request are seen by the next."""
    with server.client() as client:
        for _ in range(3):
            assert json.loads(client.get("/fresh").body) == [None, None, None]


def test_locals_are_apart_in_requests_that_overlap(server):
    answers = server.together(["/fresh"] * 10)
    assert [json.loads(answer.body) for answer in answers] == [[None, None, None]] * 10


def test_link_callbacks_run_when_the_request_has_ended(server):
    assert server.get("/link?name=linked", headers={"Connection": "close"}).body == b"ok"
    wait_for("the callback", lambda: notes(server, "linked") == "ended")


def test_a_greenlet_goes_on_after_its_request(server):
    assert server.get("/spawn?name=spawned").body == b"ok"
    wait_for("the greenlet", lambda: notes(server, "spawned") == "ran")


def test_a_greenlet_that_fails_after_its_request(server):
    with held(server, "by") as [client]:
        assert server.get("/spawn-failing?name=failing").body == b"ok"
        server.wait_log("LookupError: in the background")
        server.get("/release?name=by")
        assert client.response().status == 200


def test_an_exception_ends_its_request_only(server):
    with held(server, "spared") as [client]:
        assert server.get("/fail").status == 500
        server.wait_log("LookupError: for the log")
        server.get("/release?name=spared")
        assert client.response().status == 200


def test_exit_ends_its_request_only(server):
    """`sys.exit` in a greenlet would end the process if it came to the hub."""
    pid = server.worker_pid()
    with held(server, "stays") as [client], server.client() as leaver:
        leaver.send(request("/exit", headers={"Connection": "close"}))
        assert b"200 OK" not in leaver.rest()
        server.get("/release?name=stays")
        assert client.response().status == 200
    assert server.worker_pid() == pid


def test_kill_ends_one_request_only(server):
    with held(server, "victim") as [victim], held(server, "witness") as [witness]:
        assert server.get("/kill?name=victim").body == b"1"
        victim.assert_closed()
        assert notes(server, "victim") == "left"
        server.get("/release?name=witness")
        assert witness.response().body == b"released witness"


def test_kill_in_the_end_of_a_request(launch_gevent):
    """The iterable's close() waits and is killed there: as quiet as anywhere else."""
    server = launch_gevent("coop:app")
    with server.client() as client:
        client.send(request("/hold-closing?name=closing"))
        wait_holding(server, "closing")
        assert server.get("/kill?name=closing").body == b"1"
        wait_for("the request's end", lambda: notes(server, "closing") == "left")
    assert server.get("/meet?name=alone&n=1").status == 200
    assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def helpers(launch_gevent_module):
    return launch_gevent_module("coop_helpers:app", "--keep-alive", "60")


@pytest.mark.own(reason="Gunicorn's greenlet of a connection goes on before its helpers have written")
@pytest.mark.parametrize("last", [False, True], ids=["kept", "last"])
def test_a_helper_that_still_writes_when_its_request_returns(helpers, last):
    """The response goes out whole, its helper hears of no error, and the connection goes on, or ends."""
    name = f"write-{last}"
    with helpers.client() as client:
        client.send(request(f"/write?name={name}", headers={"Connection": "close"} if last else {}))
        if not last:
            client.send(request("/meet?name=alone&n=1"))
        wait_for("the helper", lambda: notes(helpers, name) != "")
        assert client.response().body[-4:] == b"tail"
        assert notes(helpers, name) == "None"
        if last:
            client.assert_closed()
        else:
            assert client.response().body == b"met"


@pytest.mark.own(reason="Gunicorn's greenlet of a connection is the request's: its helper writes to the end")
def test_a_kill_while_a_helper_writes_ends_the_connection(helpers):
    with helpers.client() as client:
        client.send(request("/write-and-wait?name=killed"))
        client.head()
        assert helpers.get("/kill-request?name=killed").body == b"ok"
        wait_for("the helper", lambda: notes(helpers, "killed") != "")
        assert notes(helpers, "killed") == "BrokenPipeError"
        client.rest()


@pytest.mark.own(reason="Gunicorn's input has no end of its own: it would read the next request")
def test_a_helper_that_still_reads_when_its_request_returns(helpers):
    with helpers.client() as client:
        client.send(b"POST /read?name=reader HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nfour")
        assert client.response().body == b"ok"
        wait_for("the helper", lambda: notes(helpers, "reader") != "")
        client.send(b"more")
        assert client.get("/meet?name=alone&n=1").body == b"met"


@pytest.mark.own(reason="Gunicorn's input raises nothing when the client leaves")
def test_a_reader_whose_client_leaves_ends_the_response_of_its_request(helpers):
    with helpers.client() as client:
        client.send(b"POST /read-and-stream?name=both HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nfour")
        client.head()
        client.shutdown()
        wait_for("both", lambda: sorted(notes(helpers, "both").split(",")) == ["ConnectionResetError", "closed"])
        client.rest()


@contextlib.contextmanager
def held_back(server, *names):
    """Connections whose requests' greenlets wait for `/let` before they begin."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in names]
        with server.client() as control:
            for name, client in zip(names, clients, strict=True):
                assert control.get(f"/hold-next?name={name}").body == b"ok"
                client.send(request(f"/name?name={name}"))
                # Not by another request, which could be the next one itself.
                wait_for("it to be held", (server.workdir / f"held-{name}").exists)
            yield control, clients


@pytest.mark.own(reason="Gunicorn has a greenlet for a connection, and many requests in it")
@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
def test_each_greenlet_serves_its_own_request_however_late(launch_gevent, order):
    server = launch_gevent("held_back:app")
    with held_back(server, "first", "second") as (control, clients):
        by_name = dict(zip(("first", "second"), clients, strict=True))
        for name in order:
            control.get(f"/let?name={name}&how=begin")
            assert by_name[name].response().body == name.encode()


@pytest.mark.own(reason="Gunicorn has a greenlet for a connection, and many requests in it")
@pytest.mark.parametrize("how", ["kill", "throw"])
def test_a_greenlet_that_ends_before_it_begins_closes_its_connection(launch_gevent, how):
    server = launch_gevent("held_back:app")
    with held_back(server, "victim", "witness") as (control, (victim, witness)):
        control.get(f"/let?name=victim&how={how}")
        victim.assert_closed()
        control.get("/let?name=witness&how=begin")
        assert witness.response().body == b"witness"
        # gevent calls one dead that it killed, greenlet lets it begin all the same: there is nothing for it to do.
        control.get("/let?name=victim&how=begin")
        assert control.get("/meet?name=alone&n=1").body == b"met"
    assert "Traceback" not in server.log


def test_a_client_that_leaves_disturbs_nobody(launch_gevent):
    server = launch_gevent("coop:app", "--log-level", "info")
    with held(server, "stays", 3) as others:
        for name in ("leaves", "resets"):
            with held(server, name) as [client]:
                if name == "resets":
                    client.reset()
            server.get(f"/release?name={name}")
            wait_for("the request's end", lambda name=name: notes(server, name) == "left")
        server.get("/release?name=stays")
        assert [client.response().status for client in others] == [200] * 3
    assert server.get("/meet?name=alone&n=1").status == 200
    assert "Traceback" not in server.log


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_client_that_leaves_ends_its_stream(server, way):
    with server.client() as client:
        client.send(request(f"/endless?name=stream-{way}"))
        client.until(b"xxx")
        if way == "reset":
            client.reset()
    wait_for("the end of the stream", lambda: notes(server, f"stream-{way}") == "closed")


def test_streams_interleave(server):
    """Each item is made only after the server has sent the one before, which is another response's."""
    answers = server.together([f"/relay?name=relay&me={me}&of=5&n=10" for me in range(5)])
    for me, answer in enumerate(answers):
        assert answer.status == 200
        assert answer.body.decode().split() == [f"{me}.{number}" for number in range(10)]


def test_an_item_is_sent_before_the_next_is_made(server):
    with server.client() as client:
        client.send(request("/write?name=step&n=3"))
        for number in range(3):
            server.get(f"/release?name=step{number}")
            if number == 0:
                assert client.head().chunked
            assert client.chunk() == b"%d\n" % number
        assert client.chunk() == b""


def test_a_slow_reader_holds_nobody_up(server):
    with server.client() as slow, server.client() as slower:
        slow.send(request("/bulk?mb=16"))
        slower.send(request("/bulk?mb=16"))
        assert slow.head().status == 200
        assert slower.head().status == 200
        answers = server.together(["/meet?name=beside&n=5"] * 5)
        assert [answer.status for answer in answers] == [200] * 5
        for client in (slower, slow):
            body = client.exactly(16 << 20)
            assert body[:: 1 << 20] == bytes(number * 16 % 251 for number in range(16))


# Gunicorn's input waits for 1,024 bytes, or the end, whatever the application asks for.
PIECES = [4096, pytest.param(5, marks=pytest.mark.own)]


@pytest.mark.parametrize("size", PIECES)
def test_an_upload_is_read_as_it_comes(server, size):
    """The application sees the first piece while the client still holds back the second, and other requests run."""
    name = f"up{size}"
    with server.client() as client:
        head = request(
            f"/swallow?name={name}&size={size}", method="POST", headers={"Content-Length": str(2 * size)}
        )  # fmt: skip
        client.send(head + b"1" * size)
        wait_for("the first piece", lambda: notes(server, name) == str(size))
        answers = server.together([f"/meet?name={name}&n=3"] * 3)
        assert [answer.status for answer in answers] == [200] * 3
        client.send(b"2" * size)
        assert client.response("POST").body == b"%d" % (2 * size)
    assert notes(server, name) == f"{size},{size}"


@pytest.mark.parametrize("size", PIECES)
def test_a_chunked_upload_is_read_as_it_comes(server, size):
    name = f"chunks{size}"
    with server.client() as client:
        headers = {"Transfer-Encoding": "chunked"}
        client.send(request(f"/swallow?name={name}&size={size}", method="POST", headers=headers))
        for count in (1, 2):
            client.send(b"%x\r\n%s\r\n" % (size, b"x" * size))
            wait_for(f"chunk {count}", lambda count=count: notes(server, name) == ",".join([str(size)] * count))
        client.send(b"0\r\n\r\n")
        assert client.response("POST").body == b"%d" % (2 * size)


def test_uploads_overlap(server):
    """Ten bodies arrive in turns, one piece of each after the other."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(10)]
        head = request("/swallow?name=overlap&size=4096", method="POST", headers={"Content-Length": str(3 * 4096)})
        for client in clients:
            client.send(head)
        for count in (1, 2, 3):
            for client in clients:
                client.send(b"x" * 4096)
            expected = ",".join(["4096"] * 10 * count)
            wait_for(f"piece {count} of each", lambda expected=expected: notes(server, "overlap") == expected)
        assert [client.response("POST").body for client in clients] == [b"12288"] * 10


@pytest.mark.own
def test_a_line_is_read_as_it_comes(server):
    with server.client() as client:
        client.send(request("/lines?name=lines", method="POST", headers={"Content-Length": "8"}) + b"one\n")
        wait_for("the first line", lambda: notes(server, "lines") == "one")
        client.send(b"two\n")
        assert client.response("POST").body == b"2"


def test_computing_requests_starve_nobody(server):
    """They look at the loop every few milliseconds; the release has to get in between."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(3)]
        for client in clients:
            client.send(request("/grind?name=mill"))
        wait_holding(server, "mill", 3)
        assert server.get("/release?name=mill").body == b"ok"
        assert [client.response().body for client in clients] == [b"True"] * 3


def test_a_request_that_blocks_delays_others_only(server):
    answers = server.together(["/burn?s=0.1", "/meet?name=later&n=3", "/burn?s=0.1"] + ["/meet?name=later&n=3"] * 2)
    assert [answer.status for answer in answers] == [200] * 5


@pytest.mark.parametrize("path", ["slow-close", "slow-end"])
def test_the_next_request_of_a_connection_waits_for_the_end_of_the_last(server, path):
    with server.client() as client:
        for _ in range(2):
            client.send(request(f"/{path}?name={path}"))
        assert [client.response().body for _ in range(2)] == [b"ok"] * 2
        client.send(request(f"/notes?name={path}"))
        assert client.response().body == b"called,closed,called,closed"


def test_a_body_is_read_while_the_response_is_written(server):
    """Two greenlets wait for one connection: for more of the body, and for a slow reader."""
    with server.client() as client:
        head = b"POST /both-ways?name=both&mib=16 HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n"
        client.send(head + b"b" * 5000)
        assert server.get("/notes?name=both").body == b""
        client.send(b"b" * 15000)
        assert client.response().body == b"x" * (16 << 20)
    wait_for("the reader's end", lambda: notes(server, "both") == "20000")
