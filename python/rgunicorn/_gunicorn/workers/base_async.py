"""`gunicorn.workers.base_async`."""

from rgunicorn.pywsgi import ALREADY_HANDLED
from rgunicorn.workers import AsyncWorker
