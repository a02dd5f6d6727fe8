"""What happens to the memory of Python frames: greenlets, threads, forks and deep calls, each with its page faults.

Everything runs inside one request, in greenlets of its own. A fresh 16 KiB chunk is an mmap, at least one minor fault
and a munmap; so `faults` over `count` tells, without tracing, whether chunks were new.
"""

import gc
import json
import os
import resource
import threading

from greenlet import getcurrent, greenlet
from routes import Routes, parameter

app = Routes()
PAGE = resource.getpagesize()


def waiter(number):
    """Waits in the middle of its life for a value."""
    return number, getcurrent().parent.switch(number)


def suspended(count):
    """Greenlets that all live at once."""
    alive = [greenlet(waiter) for _ in range(count)]
    for number, one in enumerate(alive):
        assert one.switch(number) == number
    return alive


def finish(alive):
    """Wake them in reverse order, check what they have kept on their frames."""
    for number in reversed(range(len(alive))):
        assert alive[number].switch(-number) == (number, -number)
        assert alive[number].dead


FROM_IMPORT = suspended(300)
"""With a preloaded application these have got their chunks in the master, before the worker's cache was there."""


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def memory():
    """Mapped and resident bytes."""
    with open("/proc/self/statm") as statm:
        mapped, resident = statm.read().split()[:2]
    return int(mapped) * PAGE, int(resident) * PAGE


def counted(work, count):
    work(10)
    before = faults()
    work(count)
    return json.dumps({"faults": faults() - before, "count": count})


def one_by_one(count):
    for number in range(count):
        assert greenlet(lambda x: x + 1).switch(number) == number + 1


@app.text("/greenlets")
def greenlets(environ):
    """`count` greenlets, one after the other."""
    return counted(one_by_one, int(parameter(environ, "count")))


@app.text("/spawn")
def spawn(environ):
    """`count` greenlets of gevent, in a loop of its own."""
    import gevent

    def work(count):
        ended = 0
        for _ in range(count):
            ended += gevent.spawn(lambda x: x, 1).get()
        assert ended == count

    return counted(work, int(parameter(environ, "count")))


@app.text("/crowd")
def crowd(environ):
    """`count` greenlets alive at once: mapped and resident memory before the last of them ends, and after."""
    gc.disable()
    alive = suspended(int(parameter(environ, "count")))
    before = memory()
    finish(alive)
    after = memory()
    gc.enable()
    return json.dumps({"mapped": before[0] - after[0], "resident": before[1] - after[1]})


@app.text("/from-import")
def from_import(environ):
    """Ends greenlets that were started when the application was imported."""
    finish(FROM_IMPORT)
    one_by_one(1000)
    return "finished"


def nothing():
    pass


def at_depth(left, body):
    return at_depth(left - 1, body) if left else body()


@app.text("/edge")
def edge(environ):
    """The worst of all call depths: most faults of 1,000 calls, made where a chunk of frames may be just full."""

    def calls():
        before = faults()
        for _ in range(1000):
            nothing()
        return faults() - before

    return json.dumps({"faults": max(at_depth(left, calls) for left in range(400))})


def huge(names):
    """A function whose frame is larger than a chunk, and its result."""
    lines = [f"    v{number} = seed + {number}" for number in range(names)]
    total = " ".join(["    total = 0", *(f"\n    total += v{number}" for number in range(names))])
    space = {}
    exec("\n".join(["def function(seed):", *lines, total, "    return total"]), space)
    return space["function"], lambda seed: names * seed + names * (names - 1) // 2


@app.text("/deep")
def deep(environ):
    """Chunks of every size at once: deep recursion and huge frames in greenlets that switch in the middle."""
    function, expected = huge(5000)

    def down(left, number):
        if left:
            return 1 + down(left - 1, number)
        getcurrent().parent.switch()
        assert function(number) == expected(number)
        getcurrent().parent.switch()
        return 0

    for turn in range(3):
        alive = [greenlet(down) for _ in range(40)]
        for number, one in enumerate(alive):
            one.switch(10 * number, number + turn)
        for one in alive[::2]:
            one.switch()
        for number, one in enumerate(alive):
            if number % 3:
                while not one.dead:
                    result = one.switch()
                assert result == 10 * number
        del alive, one  # A third is dropped half-way: GreenletExit unwinds its frames.
    return "right"


def in_threads(threads, count):
    """Greenlets in several threads at once; the number of those that ended well."""
    done = []

    def work():
        for _ in range(5):
            one_by_one(count // 5)
            finish(suspended(20))
        done.append(threading.get_ident())

    started = [threading.Thread(target=work) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return len(done)


@app.text("/threads")
def threads(environ):
    """Short threads one by one, then long ones side by side."""
    for _ in range(200):
        thread = threading.Thread(target=nothing)
        thread.start()
        thread.join()
    return str(in_threads(8, 2000))


@app.text("/fork")
def fork(environ):
    """Forks while other threads make greenlets; each child makes some itself, in threads too."""
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            one_by_one(50)

    others = [threading.Thread(target=busy) for _ in range(4)]
    for thread in others:
        thread.start()
    statuses = []
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                one_by_one(300)
                finish(suspended(50))
                status = 0 if in_threads(2, 50) == 2 else 2
            finally:
                os._exit(status)
        statuses.append(os.waitpid(pid, 0)[1])
    stop.set()
    for thread in others:
        thread.join()
    one_by_one(300)
    return json.dumps(statuses)
