"""`gunicorn.http.parser`."""

from rgunicorn.body import Parser, RequestParser
