"""Memory that workers share with the master stays untouched by the collector."""

import gc

preload_app = True
workers = 2


def when_ready(server):
    gc.collect()
    gc.freeze()
    server.log.info("froze %s", gc.get_freeze_count() > 0)


def post_fork(server, worker):
    gc.set_threshold(50_000, 20, 20)
