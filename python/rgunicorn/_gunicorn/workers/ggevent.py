"""`gunicorn.workers.ggevent`."""

from rgunicorn.workers import worker_class

GeventWorker = worker_class("gevent")
