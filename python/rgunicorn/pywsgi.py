"""Names of Gunicorn's workers that serve by `gevent.pywsgi` or tornado, and of what belongs to such workers.

Packages subclass them when they are imported. As worker classes they stand for Gunicorn's own (`rgunicorn._foreign`);
their objects cannot be made otherwise.
"""

from __future__ import annotations

from typing import Any, NoReturn

from rgunicorn._names import refuse
from rgunicorn.workers import GeventWorker, Worker

_INSTEAD = "Use the worker gevent or uring; environ['gunicorn.socket'] is the connection."


class AlreadyHandled:
    """The type of `ALREADY_HANDLED`."""

    def __iter__(self) -> NoReturn:
        # As by an application that raises it: there is no response, and if the connection was taken over, none is due.
        raise StopIteration


#: What an application returns that has answered by ``environ["gunicorn.socket"]`` itself.
ALREADY_HANDLED = AlreadyHandled()


class PyWSGIHandler:
    """A name for the handler of a connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        refuse("gunicorn.workers.ggevent.PyWSGIHandler", _INSTEAD)


class PyWSGIServer:
    """A name for the server of a listening socket."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        refuse("gunicorn.workers.ggevent.PyWSGIServer", _INSTEAD)


class GeventResponse:
    """A response, as a logger's `access` takes it."""

    def __init__(self, status: str, headers: Any, clength: int) -> None:
        self.status, self.headers, self.sent = status, headers, clength


class GeventPyWSGIWorker(GeventWorker):
    """A name for a worker of one's own."""

    server_class = PyWSGIServer
    wsgi_handler = PyWSGIHandler


class TornadoWorker(Worker):
    """A name for a worker that serves by tornado."""


class TConn:
    """A name for a connection of a worker with threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        refuse("gunicorn.workers.gthread.TConn", "The server has the connections of its workers.")


class StopWaiting(Exception):
    """The end of a `sync` worker's wait; nothing raises it."""
