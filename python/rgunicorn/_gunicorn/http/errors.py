"""`gunicorn.http.errors`."""

from rgunicorn.request_errors import *
