"""The same with faulthandler, into a file per worker."""

import faulthandler

faulthandler.enable()


def worker_abort(worker):
    with open(f"worker-{worker.pid}.log", "w") as file:
        file.write(f"worker {worker.pid} aborted after {worker.nr} requests\n")
        file.flush()
        faulthandler.dump_traceback(file=file, all_threads=True)
