"""`gunicorn.workers.base`."""

from rgunicorn.workers import Worker  # noqa: F401
