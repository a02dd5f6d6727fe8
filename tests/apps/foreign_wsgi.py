"""A WSGI application for worker classes that others have written."""

import os
import time
from pathlib import Path


def app(environ, start_response):
    """Answer by the path, as `foreign_asgi` does."""
    path, body = environ["PATH_INFO"], str(os.getpid()).encode()
    if path == "/slow":
        Path("begun").touch()
        while not Path("gate").exists():
            time.sleep(0.01)
    elif path.startswith("/note/"):
        body = path.removeprefix("/note/").encode()
        with open("noted", "ab") as file:
            file.write(body + b"\n")
        time.sleep(0.02)
    elif path == "/block":
        end = time.monotonic() + 60
        while time.monotonic() < end:
            pass
    elif path == "/echo":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
