"""The smallest WSGI application: `rgunicorn -k uring --chdir examples hello:app`."""

BODY = b"Hello, world!\n"


def app(environ, start_response):
    """Answer every request with the same line."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(BODY)))])
    return [BODY]
