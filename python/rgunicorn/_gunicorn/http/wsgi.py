"""`gunicorn.http.wsgi`."""

from rgunicorn._rgunicorn import FileWrapper  # noqa: F401
from rgunicorn._server import Response  # noqa: F401
