"""An application that holds up its worker's loop in every way that a report of it has to cope with."""

import gc
import os
import threading
import time
from types import FrameType

from greenlet import getcurrent, greenlet
from routes import Routes, parameter

app = Routes()


@app.text("/sleep")
def sleep(environ):
    """Blocks in a system call: ?s=SECONDS."""
    time.sleep(float(parameter(environ, "s")))
    return "slept"


@app.text("/system")
def system(environ):
    """Blocks in a system call that gevent knows nothing of: ?s=SECONDS."""
    import gevent.monkey

    gevent.monkey.get_original("time", "sleep")(float(parameter(environ, "s")))
    return "slept"


@app.text("/spin")
def spin(environ):
    """Computes in Python and never waits: ?s=SECONDS."""
    end = time.monotonic() + float(parameter(environ, "s"))
    while time.monotonic() < end:
        pass
    return "span"


@app.text("/hold")
def hold(environ):
    """Computes in C and keeps the interpreter lock: about ?s=SECONDS, at least that."""
    count, took = 1_000_000, 0.0
    while took < float(parameter(environ, "s")):
        begin = time.monotonic()
        total(count)
        took = time.monotonic() - begin
        count = int(count * 1.5)
    return "held"


def total(count):
    return sum(range(count))


@app.route("/iterate")
def iterate(environ, start_response):
    """Is quick when it is called, and slow when its items are asked for."""
    start_response("200 OK", [])
    return slow_items(float(parameter(environ, "s")))


def slow_items(seconds):
    yield b"first "
    time.sleep(seconds)
    yield b"second"


def wait_in_thread(event):
    event.wait()


@app.text("/thread")
def beside_a_thread(environ):
    """Blocks while another thread waits."""
    event = threading.Event()
    other = threading.Thread(target=wait_in_thread, args=[event], name="the other one")
    other.start()
    sleep(environ)
    event.set()
    other.join()
    return "joined"


def wait_in_greenlet():
    getcurrent().parent.switch()


@app.text("/greenlets")
def beside_greenlets(environ):
    """Blocks in a greenlet of its own while `count` others are suspended."""
    alive = [greenlet(wait_in_greenlet) for _ in range(int(parameter(environ, "count")))]
    for one in alive:
        one.switch()
    answer = greenlet(sleep).switch(environ)
    for one in alive:
        one.switch()
    return answer


class Nosy:
    """Objects that nobody may ask anything."""

    asked = 0

    @property
    def __class__(self):
        Nosy.asked += 1
        return Nosy

    def __repr__(self):
        Nosy.asked += 1
        return "nosy"

    def __del__(self):
        # Whether a finalizer ever ran on a thread that is not the application's.
        if threading.get_native_id() != os.getpid():
            Nosy.asked += 1


@app.text("/gevent")
def beside_gevent(environ):
    """Blocks while greenlets of gevent sleep, one of which was given a nosy argument."""
    import gevent

    def tick(nosy):
        gevent.sleep(60)

    started = gevent.spawn(tick, Nosy())
    gevent.sleep(0)
    seconds, before = float(parameter(environ, "s")), gc.get_threshold()
    gc.disable()
    cycle = [Nosy()]
    cycle.append(cycle)
    del cycle
    # Whoever makes an object now has to collect this one.
    gc.set_threshold(1)
    gc.enable()
    time.sleep(seconds)
    gc.set_threshold(*before)
    started.kill()
    return "slept"


@app.text("/asked")
def asked(environ):
    return str(Nosy.asked)


@app.text("/deep")
def deep(environ):
    """Blocks at the end of a recursion."""

    def down(left):
        return down(left - 1) if left else sleep(environ)

    return down(500)


@app.text("/frames")
def frames(environ):
    """How many frames of the report are left."""
    gc.collect()
    return str(sum(1 for one in gc.get_objects() if type(one) is FrameType and "_stacks" in one.f_code.co_filename))


@app.text("/fork")
def fork(environ):
    """A child of a worker that is watched leaves as any other; one that comes back leaves too."""
    pid = os.fork()
    if pid == 0:
        time.sleep(float(parameter(environ, "s")))
        return "child"
    return str(os.waitpid(pid, 0)[1])


@app.text("/tasks")
def tasks(environ):
    """The threads of this process as the kernel knows them."""
    names = []
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/comm") as comm:
            names.append(comm.read().strip())
    return " ".join(sorted(names))
