"""`gunicorn.workers.base`."""

from rgunicorn._server import Worker  # noqa: F401
