"""`gunicorn.workers.workertmp`."""

from rgunicorn.workers import Heartbeat as WorkerTmp
