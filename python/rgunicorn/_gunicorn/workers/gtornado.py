"""`gunicorn.workers.gtornado`: a name; as a worker class it ends the start."""

from rgunicorn.pywsgi import TornadoWorker
