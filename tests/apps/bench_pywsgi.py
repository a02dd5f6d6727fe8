"""`python bench_pywsgi.py PORT`: bench_gevent's application on gevent's own server, which does not patch by itself."""

import socket
import sys

from gevent import monkey

monkey.patch_all()

from bench_gevent import app  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402

if __name__ == "__main__":
    # A backlog as long as Gunicorn's, so that hundreds of clients that come at once find the same door.
    server = WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None, backlog=2048)
    server.init_socket()
    # It sends head and body apart; without this (connections inherit it) the body waits 40 ms for the client's ACK.
    server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server.serve_forever()
