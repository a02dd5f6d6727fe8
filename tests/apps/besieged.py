"""What hostile clients ask for: answers that are large, late, endless or broken, and how much this process holds."""

import gc
import os
import tempfile

from routes import Routes, parameter, plain

app = Routes()
LARGE = bytes(range(256)) * 2048
BLOCK = LARGE[: 16 * 1024]
FILE = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
FILE.write(LARGE)
FILE.flush()


@app.text("/")
def hello(environ):
    return "hello"


@app.text("/echo")
def echo(environ):
    return environ["wsgi.input"].read()


@app.text("/unread")
def unread(environ):
    return "body ignored"


@app.text("/some")
def some(environ):
    return environ["wsgi.input"].read(100)


@app.text("/large")
def large(environ):
    return LARGE


@app.route("/file")
def file(environ, start_response):
    """A file, to be sent by the kernel."""
    opened = os.fdopen(os.dup(FILE.fileno()), "rb")
    opened.seek(0)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(LARGE)))])
    return environ["wsgi.file_wrapper"](opened)


@app.route("/stream")
def stream(environ, start_response):
    """?blocks=N: as many, without a length."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (BLOCK for _ in range(int(parameter(environ, "blocks", "8"))))


@app.route("/write")
def write(environ, start_response):
    """The old way."""
    send = start_response("200 OK", [("Content-Type", "text/plain")])
    send(BLOCK)
    return [b"end"]


@app.route("/raise")
def fail(environ, start_response):
    """No answer but the server's."""
    raise ValueError("as asked")


@app.route("/raise-late")
def fail_late(environ, start_response):
    """An answer that breaks off."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield BLOCK
    raise ValueError("as asked")


class Stubborn(list):
    """A body that does not close."""

    def close(self):
        raise ValueError("as asked")


@app.route("/raise-close")
def fail_close(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return Stubborn([b"hello"])


@app.route("/short")
def short(environ, start_response):
    """Less than was promised."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "50")])
    return [b"hello"]


@app.route("/held")
def held(environ, start_response):
    """Objects that the collector knows in this process, and memory that is free is given back."""
    gc.collect()
    return plain(start_response, str(len(gc.get_objects())))
