"""`gunicorn.workers.ggevent`."""

from rgunicorn._server import worker_class

GeventWorker = worker_class("gevent")
