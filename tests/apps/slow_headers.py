"""A configuration and its application: `pre_request` hands over headers that wait when the server looks at them.

Other requests begin and end between the making of such a request's environ and its call.
"""

from gevent.event import Event
from routes import Routes

PATIENCE_S = 15.0

app = Routes()
looked, released = Event(), Event()
kept = []


class SlowHeaders(list):
    """Compares when it is told to."""

    __hash__ = None

    def __eq__(self, other):
        looked.set()
        released.wait(PATIENCE_S)
        return list.__eq__(self, other)


def pre_request(worker, req):
    if req.path == "/slow":
        req.headers = SlowHeaders(req.headers)


@app.text("/looked")
def is_looked_at(environ):
    return str(looked.is_set())


@app.text("/keep")
def keep(environ):
    """Keeps what leads to its request."""
    kept.append(environ["rgunicorn.client_disconnected"])
    return "kept"


@app.text("/release")
def release(environ):
    released.set()
    return "released"


@app.text("/client")
@app.text("/slow")
def client(environ):
    """Tells whether this request's client has left."""
    return str(environ["rgunicorn.client_disconnected"]())
