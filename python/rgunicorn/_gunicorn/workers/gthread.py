"""`gunicorn.workers.gthread`."""

from rgunicorn.pywsgi import TConn
from rgunicorn.workers import ThreadWorker
