"""`gunicorn.util`."""

from rgunicorn._unix import *
from rgunicorn._wire import (
    close,
    close_graceful,
    has_fileno,
    hop_headers,
    is_hoppish,
    make_fail_app,
    split_request_uri,
    unquote_to_wsgi_str,
    write,
    write_chunk,
    write_error,
    write_nonblock,
)
from rgunicorn.util import *
from rgunicorn.util import _setproctitle
