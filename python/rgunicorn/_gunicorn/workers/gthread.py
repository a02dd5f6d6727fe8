"""`gunicorn.workers.gthread`."""

from rgunicorn.workers import worker_class

ThreadWorker = worker_class("gthread")
