"""`gunicorn.http.message`."""

from rgunicorn._server import Request
