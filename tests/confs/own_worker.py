"""A worker class of one's own."""

from gunicorn.workers.gthread import ThreadWorker
from hooklog import record


class TeamWorker(ThreadWorker):
    """Does something at its start and at its end, and changes nothing else."""

    def init_process(self):
        record("init_process", age=self.age)
        self.extra = "made in init_process"
        super().init_process()

    def handle_exit(self, sig, frame):
        record("handle_exit", sig=sig)
        super().handle_exit(sig, frame)


worker_class = TeamWorker


def post_request(worker, req, environ, resp):
    record("post_request", extra=worker.extra, kind=type(worker).__name__)
