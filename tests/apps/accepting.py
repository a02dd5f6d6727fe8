"""Which worker answers, and after how long: `/begin` waits until a file called `gate` appears in the working directory."""

import os
import pathlib
import time

from routes import Routes, parameter

app = Routes()
WAIT_S = 20.0
POLL_S = 0.005


@app.text("/begin")
def begin(environ):
    """Notes that this worker is busy, blocks until the gate is there, answers the worker's pid."""
    pathlib.Path(f"busy-{os.getpid()}-{time.monotonic_ns()}").touch()
    deadline = time.monotonic() + WAIT_S
    while not os.path.exists("gate") and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return str(os.getpid())


@app.text("/sleep")
def sleep(environ):
    """?s=SECONDS, then the worker's pid."""
    time.sleep(float(parameter(environ, "s")))
    return str(os.getpid())
