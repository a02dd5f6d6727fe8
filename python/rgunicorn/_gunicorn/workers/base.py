"""`gunicorn.workers.base`."""

from rgunicorn.workers import Worker
