"""Connections that the preloaded application opened belong to the master: each worker opens its own."""

preload_app = True
workers = 2


def post_fork(server, worker):
    from team_app import engine

    engine.dispose(close=False)
    server.log.info("worker %s dropped the master's connections", worker.pid)
