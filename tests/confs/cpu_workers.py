"""The rule of thumb for the number of workers, with a cap from the environment."""

import multiprocessing
import os

cores = multiprocessing.cpu_count()
workers_per_core = float(os.getenv("WORKERS_PER_CORE", "2"))
web_concurrency = os.getenv("WEB_CONCURRENCY_CAP", None)
workers = max(int(workers_per_core * cores) + 1, 2)
if web_concurrency:
    workers = min(workers, int(web_concurrency))
