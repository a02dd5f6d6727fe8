"""`gunicorn.workers.sync`."""

from rgunicorn.pywsgi import StopWaiting
from rgunicorn.workers import SyncWorker
