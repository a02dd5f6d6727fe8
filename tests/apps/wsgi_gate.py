"""Responses that go on only when a file called `gate` appears in the working directory: `/lazy`, `/write-waits`."""

import os
import time

from routes import Routes

app = Routes()
WAIT_S = 10.0
POLL_S = 0.01


def wait_for_gate():
    """Block, as an application does, until the client has made the file."""
    deadline = time.monotonic() + WAIT_S
    while not os.path.exists("gate"):
        if time.monotonic() > deadline:
            raise TimeoutError("the client never got the first item")
        time.sleep(POLL_S)


@app.route("/lazy")
def lazy(environ, start_response):
    start_response("200 OK", [])
    yield b"first"
    wait_for_gate()
    yield b"second"


@app.route("/write-waits")
def write_waits(environ, start_response):
    write = start_response("200 OK", [])
    write(b"first")
    wait_for_gate()
    return [b"second"]
