"""`python bench_pywsgi.py PORT [MODULE:NAME]`: an application on gevent's server, which does not patch by itself."""

import importlib
import socket
import sys

from gevent import monkey

monkey.patch_all()

from gevent.pywsgi import WSGIServer  # noqa: E402

if __name__ == "__main__":
    module, _, name = (sys.argv[2:] or ["bench_gevent:app"])[0].partition(":")
    app = getattr(importlib.import_module(module), name)
    # A backlog as long as Gunicorn's, so that hundreds of clients that come at once find the same door.
    server = WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None, backlog=2048)
    server.init_socket()
    # It sends head and body apart; without this (connections inherit it) the body waits 40 ms for the client's ACK.
    server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server.serve_forever()
