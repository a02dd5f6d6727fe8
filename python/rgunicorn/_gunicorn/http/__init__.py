"""`gunicorn.http`."""

from rgunicorn._server import Request
