"""`gunicorn.workers.sync`."""

from rgunicorn._server import worker_class

SyncWorker = worker_class("sync")
