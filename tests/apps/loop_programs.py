"""Real programs on a gevent loop: processes, pools and queues of the standard library, patched by gevent.

`loop_programs.py PROGRAM TIMES` runs one of them as often, on any loop of gevent's (`GEVENT_LOOP`), and prints what
came out of each run. A run that hangs ends the process.
"""

import faulthandler
import sys

from gevent import monkey

monkey.patch_all()

import concurrent.futures
import multiprocessing
import os
import subprocess

import gevent
import gevent.pool
import gevent.subprocess

# For one run; they take a tenth of a second.
PATIENCE_S = 20
context = multiprocessing.get_context("fork")


def square(number):
    return number * number


def leave(status):
    os._exit(status)


def put(queue, number):
    queue.put(number * number)


def send(pipe, number):
    pipe.send(number * number)
    pipe.close()


def processes(count=4):
    """Started, then joined one after the other."""
    workers = [context.Process(target=leave, args=(number,)) for number in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [worker.exitcode for worker in workers]


def reversed_processes():
    workers = [context.Process(target=leave, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in reversed(workers):
        worker.join()
    return [worker.exitcode for worker in workers]


def many_processes():
    return processes(12)


def pipes():
    """Each child answers on a pipe of its own."""
    found, workers = [], []
    for number in range(4):
        # gevent makes the sockets of a duplex one non-blocking, which the module does not expect.
        mine, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=send, args=(theirs, number))
        worker.start()
        theirs.close()
        workers.append((worker, mine))
    for worker, mine in workers:
        found.append(mine.recv())
        worker.join()
    return found


def queues():
    """Children put, the parent gets."""
    queue = context.SimpleQueue()
    workers = [context.Process(target=put, args=(queue, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    found = sorted(queue.get() for _ in workers)
    for worker in workers:
        worker.join()
    return found


def greenlets_join():
    """Each child is joined by a greenlet of its own."""
    def one(number):
        worker = context.Process(target=leave, args=(number,))
        worker.start()
        worker.join()
        return worker.exitcode

    return gevent.pool.Pool(4).map(one, range(8))


def popens():
    """In numbers, waited for one after the other."""
    children = [subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({number})"]) for number in range(6)]
    return [child.wait() for child in children]


def outputs():
    def one(number):
        return int(subprocess.check_output(["/bin/sh", "-c", f"echo {number}"]))

    return gevent.pool.Pool(4).map(one, range(12))


def pool_of_processes():
    return [child.returncode for child in gevent.pool.Pool(4).map(finished, range(8))]


def finished(number):
    child = gevent.subprocess.Popen(["/bin/sh", "-c", f"exit {number}"])
    child.wait()
    return child


def thread_futures():
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        return list(executor.map(lambda number: processes(number)[-1], range(1, 5)))


def terminated():
    """Children that wait are terminated, and joined."""
    workers = [context.Process(target=gevent.sleep, args=(60,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()
    return [worker.exitcode for worker in workers]


def process_futures():
    with concurrent.futures.ProcessPoolExecutor(3, mp_context=context) as executor:
        return list(executor.map(square, range(10)))


program, times = globals()[sys.argv[1]], int(sys.argv[2])
for _ in range(times):
    faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
    print(program(), flush=True)
faulthandler.cancel_dump_traceback_later()
