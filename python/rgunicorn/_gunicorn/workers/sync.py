"""`gunicorn.workers.sync`."""

from rgunicorn.workers import worker_class

SyncWorker = worker_class("sync")
