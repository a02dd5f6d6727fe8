"""Says of each request where it has begun and ended: `METHOD PATH?QUERY LENGTH:BODY`."""

from routes import plain


def app(environ, start_response):
    """Read the whole body, and tell."""
    body = environ["wsgi.input"].read()
    query = "?" + environ["QUERY_STRING"] if environ["QUERY_STRING"] else ""
    head = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{query} {len(body)}:"
    return plain(start_response, head.encode("latin-1") + body)
