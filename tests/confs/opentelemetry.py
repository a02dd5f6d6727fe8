"""Tracing: the exporter's thread has to be started after the fork."""

from standins import BatchSpanProcessor

workers = 2
processor = None


def post_fork(server, worker):
    global processor
    server.log.info("Worker spawned (pid: %s)", worker.pid)
    processor = BatchSpanProcessor({"service": "shop", "worker": worker.pid})


def pre_request(worker, req):
    processor.spans.put(f"{req.method} {req.path}")


def worker_exit(server, worker):
    processor.shutdown()
