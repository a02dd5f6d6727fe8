"""`gunicorn.http.message`: the built-in limits; the settings `limit_request_line` and its like are those in force."""

from rgunicorn._server import Request
from rgunicorn._server import Request as Message

MAX_REQUEST_LINE = 8190
MAX_HEADERS = 32768
DEFAULT_MAX_HEADERFIELD_SIZE = 8190
