"""`gunicorn.workers.gtornado`: a name; as a worker class it stands for Gunicorn's own."""

from rgunicorn.pywsgi import TornadoWorker
