"""A process title, and something to do before a worker leaves gracefully."""

import signal

from hooklog import record


def post_worker_init(worker):
    with open("/proc/self/comm", "w") as file:
        file.write(f"shop {worker.age}")
    original = signal.getsignal(signal.SIGTERM)

    def leave(signum, frame):
        record("leave", signum=signum, alive=worker.alive)
        original(signum, frame)
        record("left", alive=worker.alive)

    record("post_worker_init", callable=callable(original))
    signal.signal(signal.SIGTERM, leave)
