"""Metrics of several processes in files of a directory that starts empty."""

import os
import shutil

from standins import mark_process_dead, open_gauge

os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", os.path.abspath("metrics"))
metrics_dir = os.environ["PROMETHEUS_MULTIPROC_DIR"]

workers = 2


def on_starting(server):
    shutil.rmtree(metrics_dir, ignore_errors=True)
    os.makedirs(metrics_dir, exist_ok=True)
    server.log.info("metrics directory %s is empty", metrics_dir)


def post_fork(server, worker):
    open_gauge()


def child_exit(server, worker):
    mark_process_dead(worker.pid)
