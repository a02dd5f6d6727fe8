"""Applications that take the connection over through `gunicorn.socket`."""

import contextlib
import os
import socket

from routes import Routes

app = Routes()
END = b"END\n"


def raw_upgrade(sock):
    """Begin a protocol of our own on the connection."""
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")


@app.route("/echo")
def echo(environ, start_response):
    """Upgrade, then send every byte back until END."""
    sock = environ["gunicorn.socket"]
    raw_upgrade(sock)
    seen = b""
    while not seen.endswith(END):
        data = sock.recv(4096)
        if not data:
            break
        seen += data
        sock.sendall(data)
    sock.close()
    return []


@app.text("/looks")
def looks(environ):
    """Looks at the socket without touching its data; the request goes on as any other."""
    sock = environ["gunicorn.socket"]
    return f"{isinstance(sock, socket.socket)} {sock.family.name} {sock.fileno() >= 0} {sock.getpeername()[0]}"


@app.text("/held")
def held(environ):
    """Keeps a duplicate for a moment: harmless as well."""
    os.close(os.dup(environ["gunicorn.socket"].fileno()))
    return "held"


@app.route("/looks-then-long")
def looks_then_long(environ, start_response):
    """Takes the socket, and leaves a response to the server that takes many turns."""
    environ["gunicorn.socket"].fileno()
    start_response("200 OK", [])
    return (b"x" * 65536 for _ in range(100))


@app.route("/looks-behind")
def looks_behind(environ, start_response):
    """Looks at the socket when the response is complete."""

    class Items(list):
        def close(self):
            with contextlib.suppress(OSError):
                environ["gunicorn.socket"].fileno()

    start_response("200 OK", [("Content-Length", "2")])
    return Items([b"ok"])


@app.text("/port")
def port(environ):
    """The client's port twice: as the environ and as the socket has it, if this one is asked."""
    sock = environ["gunicorn.socket"]
    asked = environ["QUERY_STRING"] == "ask"
    return f"{environ['REMOTE_PORT']} {sock.getpeername()[1] if asked else type(sock).__name__}"
