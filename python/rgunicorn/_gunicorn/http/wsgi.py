"""`gunicorn.http.wsgi`."""

import logging

from rgunicorn import util
from rgunicorn._rgunicorn import FileWrapper
from rgunicorn._server import Response
from rgunicorn.compat import names as _names
from rgunicorn.environ import WSGIErrorsWrapper, base_environ, create, default_environ, proxy_environ

log = logging.getLogger("gunicorn.http.wsgi")
#: As `gunicorn` has them when this is imported. Setting them here counts, too.
SERVER, SERVER_SOFTWARE = _names()
