"""`gunicorn.http`."""

from rgunicorn._server import Request  # noqa: F401
