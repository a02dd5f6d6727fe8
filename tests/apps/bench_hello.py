"""The application of the benches: the least that a WSGI application can do."""

BODY = b"Hello, world!"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]


def app(environ, start_response):
    """Answer every request with the same 13 bytes."""
    start_response("200 OK", HEADERS)
    return [BODY]
