"""`gunicorn.http`."""

from rgunicorn._server import Request
from rgunicorn._server import Request as Message
from rgunicorn.body import RequestParser
