"""For development: templates count as sources."""

import glob

from hooklog import record

reload = True
reload_engine = "poll"
reload_extra_files = glob.glob("templates/*.html")
loglevel = "debug"


def worker_int(worker):
    record("worker_int", alive=worker.alive)
