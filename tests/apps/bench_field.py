"""The applications of bench/field.py: what servers have to do besides a hello.

The size of the answers of `sized` is in the environment variable `BENCH_BODY_BYTES`.
"""

import json
import os
import time

SIZE = int(os.environ.get("BENCH_BODY_BYTES", "100000"))
LARGE = b"x" * SIZE
LARGE_HEADERS = [("Content-Type", "application/octet-stream"), ("Content-Length", str(SIZE))]

ITEM = b"An item of a stream of items, each about as long as a line of text that comes by itself.\n"
ITEMS = 20
STREAM_HEADERS = [("Content-Type", "text/plain")]
SLOW_ITEM_S = 0.02

ROWS = [{"id": number, "name": f"name of {number}", "price": number * 1.25} for number in range(10)]


def answer_json(environ, start_response):
    """Serialise ten rows, and read what a browser sends with its request."""
    asked = {"path": environ["PATH_INFO"], "query": environ["QUERY_STRING"], "agent": environ.get("HTTP_USER_AGENT")}
    body = json.dumps({"asked": asked, "rows": ROWS}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def upload(environ, start_response):
    """Read the whole body; answer with its length."""
    body = b"%d" % len(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def sized(environ, start_response):
    """Answer with as many bytes as were asked for."""
    start_response("200 OK", LARGE_HEADERS)
    return [LARGE]


def stream(environ, start_response):
    """Answer item by item, of a length that is not known before; slowly, if the path says so."""
    pause_s = SLOW_ITEM_S if environ["PATH_INFO"] == "/slow" else 0
    start_response("200 OK", STREAM_HEADERS)
    for number in range(ITEMS):
        if pause_s and number:
            time.sleep(pause_s)
        yield ITEM
