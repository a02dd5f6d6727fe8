"""The application of bench/proxied.py: keeps its thread for as many milliseconds as the query says."""

import time


def app(environ, start_response):
    """Work, then answer."""
    time.sleep(int(environ["QUERY_STRING"] or 0) / 1000)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return [b"done"]
