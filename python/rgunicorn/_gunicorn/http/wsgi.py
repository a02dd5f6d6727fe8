"""`gunicorn.http.wsgi`."""

from rgunicorn._rgunicorn import FileWrapper
from rgunicorn._server import Response
