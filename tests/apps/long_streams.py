"""An application for tests of answers that go on for long: their items come slowly, or fast and without end."""

import os
import time

from routes import Routes, parameter

app = Routes()
given = 0


def wait(seconds):
    time.sleep(seconds)
    return b"item\n"


def compute(seconds):
    """Keeps the processor busy: greenlets cannot run meanwhile."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return b"item\n"


def wait_for_nothing(seconds):
    time.sleep(seconds)
    return b""


def hurry(seconds):
    return b"x"


KINDS = {"waits": wait, "computes": compute, "gives nothing": wait_for_nothing, "hurries": hurry}


@app.route("/stream")
def stream(environ, start_response):
    """?kind=&s=: first the process's number, then items without end; leaves a file behind when it is closed."""
    kind = KINDS[parameter(environ, "kind").replace("-", " ")]
    seconds = float(parameter(environ, "s", "0.05"))

    def items():
        global given
        try:
            yield f"{os.getpid()}\n".encode()
            while True:
                item = kind(seconds)
                given += 1
                yield item
        finally:
            with open("closed", "a") as file:
                file.write(".")

    start_response("200 OK", [("Content-Type", "text/plain")])
    return items()


@app.text("/given")
def count(environ):
    """How many items this process has given."""
    return str(given)
