"""As `coop`, and it has a hub and what belongs to one already when it is imported."""

from coop import app, gevent, meetings, parameter
from gevent.lock import BoundedSemaphore
from gevent.queue import Queue

hub = gevent.get_hub()
tokens = Queue()
semaphore = BoundedSemaphore(2)
gevent.spawn(tokens.put, "spawned at import")


@app.text("/token")
def token(environ):
    """?name=&n=: through a semaphore made at import, with n requests at once."""
    meetings.join(parameter(environ, "name"), int(parameter(environ, "n")))
    with semaphore:
        gevent.sleep(0.001)
    return "ok"
