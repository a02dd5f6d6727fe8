"""`gunicorn.http.unreader`."""

from rgunicorn._server import Unreader
from rgunicorn.body import IterUnreader, SocketUnreader
