"""Hooks and a logger that configuration files name by dotted path."""

from gunicorn.glogging import Logger
from hooklog import record


def when_ready(server):
    record("when_ready", pid_of_server=server.pid)


def post_fork(server, worker):
    record("post_fork", age=worker.age)


def post_request(worker, req, environ, resp):
    record("post_request", path=req.path, status=resp.status_code)


class ShoutingLogger(Logger):
    """Marks every line of the error log."""

    def setup(self, cfg):
        self.error_fmt = "TEAM %(levelname)s [%(process)d] %(message)s"
        super().setup(cfg)
