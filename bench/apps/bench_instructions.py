"""The applications whose requests bench/callgrind.py counts; a request with a field `Mark` ends a part of the count."""

import functools
import gc
import json
import os

HELLO = b"Hello, world!"
HELLO_HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(HELLO)))]

TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind. "
ROWS = json.dumps([{"id": number, "name": f"name of {number}", "text": TEXT * 4} for number in range(3)])


@functools.cache
def settle() -> None:
    """Collect, once, what the imports have left: a first one of this checkout compiles, and leaves more."""
    gc.collect()


def mark() -> None:
    """Call what callgrind was told to watch for: a function of libc that has no effect and no other caller."""
    settle()
    os.sched_get_priority_max(0)


def hello(environ, start_response):
    """The least that a WSGI application can do, and the look for the mark."""
    if "HTTP_MARK" in environ:
        mark()
    start_response("200 OK", HELLO_HEADERS)
    return [HELLO]


def answer_json(environ, start_response):
    """A kilobyte of JSON, mostly from a cache, with the fields that caches and browsers ask for."""
    if "HTTP_MARK" in environ:
        mark()
    query = json.dumps({"path": environ["PATH_INFO"], "query": environ["QUERY_STRING"], "rows": 3})
    body = f'{{"asked": {query}, "rows": {ROWS}}}'.encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "private, max-age=0"),
        ("Vary", "Accept-Encoding, Cookie"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    start_response("200 OK", headers)
    return [body]


def upload(environ, start_response):
    """Read the whole body; answer with the number of its bytes."""
    if "HTTP_MARK" in environ:
        mark()
    body = b"%d" % len(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
