"""Large responses and large uploads, whose bytes can be checked without keeping them."""

import hashlib
import threading

from routes import Routes, parameter, plain

app = Routes()
BLOCK = bytes(index % 251 for index in range(65536))
LARGE_BYTES = 50_000_000
large = (BLOCK * (LARGE_BYTES // len(BLOCK) + 1))[:LARGE_BYTES]
produced = {}
lock = threading.Lock()


@app.text("/large")
def large_body(environ):
    """50 MB in one item."""
    return large


@app.route("/blocks")
def blocks(environ, start_response):
    """?n=N&id=ID: N blocks of 64 KiB, made one by one; `/produced` tells how many have been made."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    name = parameter(environ, "id")
    for count in range(1, int(parameter(environ, "n")) + 1):
        with lock:
            produced[name] = count
        yield BLOCK


@app.route("/written")
def written(environ, start_response):
    """The same 50 MB by `write()`, which cannot wait for the client."""
    write = start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(LARGE_BYTES))])
    for begin in range(0, LARGE_BYTES, len(BLOCK)):
        write(large[begin : begin + len(BLOCK)])
    return []


@app.text("/produced")
def show_produced(environ):
    return str(produced.get(parameter(environ, "id"), 0))


@app.text("/digest")
def digest(environ):
    """The digest of an upload, read block by block."""
    found = hashlib.sha256()
    while block := environ["wsgi.input"].read(65536):
        found.update(block)
    return found.hexdigest()


@app.route("/partial")
def partial(environ, start_response):
    """Answers before it has read the body."""
    return plain(start_response, "early")
