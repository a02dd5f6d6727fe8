"""`gunicorn.workers.base`."""

from rgunicorn.workers import Heartbeat as WorkerTmp
from rgunicorn.workers import Worker
