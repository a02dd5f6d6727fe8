"""`gunicorn.workers.gthread`."""

from rgunicorn._server import worker_class

ThreadWorker = worker_class("gthread")
