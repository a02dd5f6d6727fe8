"""Requests whose helpers, greenlets of their own, still wait for the client when the request is over."""

from collections import defaultdict

import gevent
from coop import app, notes
from routes import parameter

SOON_S = 0.02
BYTES = 5_000_000

requests = defaultdict(list)


def note_end(name, what):
    """Run `what` in a greenlet, and note how it ended."""

    def run():
        try:
            notes[name].append(str(what()))
        except Exception as error:
            notes[name].append(type(error).__name__)

    return gevent.spawn(run)


@app.route("/write")
def write(environ, start_response):
    """?name=: a helper writes more than the client takes at once, and the request returns."""
    start = start_response("200 OK", [("Content-Length", str(BYTES + 4))])
    note_end(parameter(environ, "name"), lambda: start(b"x" * BYTES))
    gevent.sleep(SOON_S)
    return [b"tail"]


@app.route("/write-and-wait")
def write_and_wait(environ, start_response):
    """?name=: a helper writes more than the client takes at once, and the request waits to be killed."""
    name = parameter(environ, "name")
    start = start_response("200 OK", [("Content-Length", str(BYTES))])
    note_end(name, lambda: start(b"x" * BYTES))
    requests[name].append(gevent.getcurrent())
    gevent.sleep(60)
    return []


@app.text("/kill-request")
def kill_request(environ):
    """?name="""
    for request in requests[parameter(environ, "name")]:
        request.kill(block=False)
    return "ok"


@app.route("/read")
def read(environ, start_response):
    """?name=: a helper waits for the body, and the request returns."""
    note_end(parameter(environ, "name"), lambda: len(environ["wsgi.input"].read()))
    gevent.sleep(SOON_S)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


@app.route("/read-and-stream")
def read_and_stream(environ, start_response):
    """?name=: a helper waits for the body, while the request streams for ever."""
    name = parameter(environ, "name")
    note_end(name, lambda: len(environ["wsgi.input"].read()))
    start_response("200 OK", [])
    try:
        while True:
            yield b"x" * 1_000_000
    finally:
        notes[name].append("closed")
