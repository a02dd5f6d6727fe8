"""An application inside `wsgiref.validate.validator`: any breach of PEP 3333 by the server ends in a 500."""

from wsgiref.validate import validator

READERS = {
    "/read": lambda stream: stream.read(1 << 20),
    "/sized": lambda stream: b"".join(iter(lambda: stream.read(7), b"")),
    "/readline": lambda stream: b"".join(iter(lambda: stream.readline(), b"")),
    "/readlines": lambda stream: b"".join(stream.readlines()),
    "/iterate": lambda stream: b"".join(stream),
    "/unread": lambda stream: b"",
}


@validator
def app(environ, start_response):
    """Reads the body in the way that the path names and answers its length, in one item, several or by write()."""
    body = READERS[environ["PATH_INFO"]](environ["wsgi.input"])
    environ["wsgi.errors"].write(f"validated {environ['REQUEST_METHOD']} {environ['PATH_INFO']}\n")
    environ["wsgi.errors"].flush()
    items = [str(len(body)).encode(), b" ", b"bytes"]
    headers = [("Content-Type", "text/plain")]
    if "length" in environ["QUERY_STRING"]:
        headers.append(("Content-Length", str(sum(map(len, items)))))
    if environ["REQUEST_METHOD"] == "HEAD":
        items = []
    write = start_response("200 OK", headers)
    if "write" in environ["QUERY_STRING"]:
        write(items.pop(0) if items else b"")
    return items
