"""The application of bench/proxied.py and bench/busy.py: keeps its thread for as many milliseconds as the query says.

Also where gevent has patched `time.sleep`. The answer tells which worker it was.
"""

import os
import signal


def app(environ, start_response):
    """Work, then answer."""
    signal.sigtimedwait([], int(environ["QUERY_STRING"] or 0) / 1000)
    headers = [("Content-Type", "text/plain"), ("Content-Length", "13"), ("X-Pid", str(os.getpid()))]
    start_response("200 OK", headers)
    return [b"Hello, world!"]
