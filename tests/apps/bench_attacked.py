"""What the bench of attacks needs: a small answer, a large one, and somebody who reads uploads."""

HELLO = b"Hello, world!"
LARGE = bytes(1_000_000)


def app(environ, start_response):
    body = LARGE if environ["PATH_INFO"] == "/large" else HELLO
    if environ["REQUEST_METHOD"] == "POST":
        while environ["wsgi.input"].read(65_536):
            pass
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))])
    return [body]
