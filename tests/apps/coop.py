"""An application written for gevent: requests that wait for each other, which only works if they run side by side.

Whoever waits here does so for `PATIENCE_S` at most; then the request fails, and the test with it.
"""

# First of all, as gevent's manual wants it. Where the server has patched already this does nothing.
from gevent import monkey

monkey.patch_all()

import contextvars  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from collections import Counter, defaultdict  # noqa: E402

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402
from gevent.local import local  # noqa: E402
from routes import Routes, parameter, plain  # noqa: E402

app = Routes()
PATIENCE_S = 15.0
TICK_S = 0.01


class Meetings:
    """Meetings by name: each ends as soon as its last guest is there."""

    def __init__(self):
        self.present = Counter()
        self.complete = defaultdict(Event)

    def join(self, name, size):
        """Wait until `size` callers are here at once."""
        self.present[name] += 1
        if self.present[name] >= size:
            self.complete[name].set()
        with gevent.Timeout(PATIENCE_S):
            self.complete[name].wait()


meetings = Meetings()
# Requests that wait, and what lets them go, by name; what has been seen of a name, in order.
holders = defaultdict(list)
gates = defaultdict(Event)
notes = defaultdict(list)


def mark(name):
    """One more event, for a test that must not send a request meanwhile."""
    with open(name, "a") as file:
        file.write(".")


def tick():
    """A greenlet of the application."""
    while True:
        mark("ticks")
        gevent.sleep(TICK_S)


if os.environ.get("COOP_BACKGROUND"):
    gevent.spawn(tick)
    threading.Thread(target=tick, daemon=True).start()
    gevent.signal_handler(signal.SIGUSR2, mark, "usr2")


@app.text("/meet")
def meet(environ):
    """?name=&n=: answers when n requests are in here at once."""
    meetings.join(parameter(environ, "name"), int(parameter(environ, "n")))
    return "met"


@app.text("/hold")
def hold(environ):
    """?name=: waits for `/release`."""
    name = parameter(environ, "name")
    holders[name].append(gevent.getcurrent())
    try:
        with gevent.Timeout(PATIENCE_S):
            gates[name].wait()
    finally:
        holders[name].remove(gevent.getcurrent())
        notes[name].append("left")
    return f"released {name}"


@app.route("/hold-closing")
def hold_closing(environ, start_response):
    """?name=: the iterable waits for `/release` when it is closed."""

    class Items(list):
        def close(self):
            hold(environ)

    start_response("200 OK", [("Content-Length", "2")])
    return Items([b"ok"])


@app.route("/slow-close")
def slow_close(environ, start_response):
    """?name=: the iterable takes its time to be closed, and makes a note when it has been."""
    name = parameter(environ, "name")
    notes[name].append("called")

    class Items(list):
        def close(self):
            gevent.sleep(0.3)
            notes[name].append("closed")

    start_response("200 OK", [("Content-Length", "2")])
    return Items([b"ok"])


@app.route("/slow-end")
def slow_end(environ, start_response):
    """?name=: as `/slow-close`, when the last reference to the iterable goes."""
    name = parameter(environ, "name")
    notes[name].append("called")

    class Items:
        def __iter__(self):
            yield b"ok"

        def __del__(self):
            gevent.sleep(0.3)
            notes[name].append("closed")

    start_response("200 OK", [("Content-Length", "2")])
    return Items()


@app.text("/nap-and-compute")
def nap_and_compute(environ):
    """?s=&cpu=: waits, then computes."""
    gevent.sleep(float(parameter(environ, "s")))
    end = time.monotonic() + float(parameter(environ, "cpu"))
    while time.monotonic() < end:
        pass
    return "ok"


@app.route("/both-ways")
def both_ways(environ, start_response):
    """?name=&mib=: another greenlet reads the body while the response is written."""
    mib = int(parameter(environ, "mib"))
    start_response("200 OK", [("Content-Length", str(mib << 20))])
    reader = gevent.spawn(environ["wsgi.input"].read)
    for _ in range(mib):
        yield b"x" * (1 << 20)
    notes[parameter(environ, "name")].append(len(reader.get()))


@app.text("/stubborn")
def stubborn(environ):
    """?file=: as `/until`, and waits once more when it is killed."""
    try:
        return until(environ)
    finally:
        gevent.sleep(0.3)
        with open("log", "a") as log:
            log.write("end\n")


@app.text("/release")
def release(environ):
    gates[parameter(environ, "name")].set()
    return "ok"


@app.text("/holding")
def holding(environ):
    """?name=: how many requests wait."""
    return str(len(holders[parameter(environ, "name")]))


@app.text("/until")
def until(environ):
    """?file=: waits for a file, which a test can make when it cannot send a request; writes `in` and `out` to `log`."""
    path = parameter(environ, "file")
    with open("log", "a", buffering=1) as log:
        log.write("in\n")
        while not os.path.exists(path):
            gevent.sleep(TICK_S)
        log.write("out\n")
    return str(os.getpid())


@app.text("/notes")
def show_notes(environ):
    return ",".join(map(str, notes[parameter(environ, "name")]))


@app.text("/kill")
def kill(environ):
    """?name=: kills every request that waits there, and does not wait for their ends."""
    victims = list(holders[parameter(environ, "name")])
    for victim in victims:
        victim.kill(block=False)
    return str(len(victims))


@app.text("/current")
def current(environ):
    """What the request runs in."""
    greenlet = gevent.getcurrent()
    return json.dumps({
        "gevent": isinstance(greenlet, gevent.Greenlet),
        "hub": greenlet is gevent.get_hub(),
        "parent is hub": greenlet.parent is gevent.get_hub(),
        "started": bool(greenlet),
        "multithread": environ["wsgi.multithread"],
        "run_once": environ["wsgi.run_once"],
        "thread is main": threading.current_thread() is threading.main_thread(),
    })  # fmt: skip


greenlet_local, thread_local = local(), threading.local()
context_variable = contextvars.ContextVar("test", default=None)


@app.text("/fresh")
def fresh(environ):
    """What earlier requests have left in places that belong to one request; leaves something there."""
    found = [getattr(greenlet_local, "x", None), getattr(thread_local, "x", None), context_variable.get()]
    greenlet_local.x = thread_local.x = "left over"
    context_variable.set("left over")
    gevent.sleep(0)
    assert (greenlet_local.x, thread_local.x, context_variable.get()) == ("left over",) * 3
    return json.dumps(found)


@app.text("/link")
def link(environ):
    """?name=: notes how the request's greenlet ends."""
    name = parameter(environ, "name")
    gevent.getcurrent().link(lambda greenlet: notes[name].append("ended" if greenlet.ready() else "running"))
    return "ok"


@app.text("/spawn")
def spawn(environ):
    """?name=: answers at once; a greenlet goes on and makes a note."""
    gevent.spawn_later(TICK_S, notes[parameter(environ, "name")].append, "ran")
    return "ok"


@app.text("/spawn-failing")
def spawn_failing(environ):
    """?name=: a greenlet fails after the answer."""

    def fail():
        notes[parameter(environ, "name")].append("failing")
        raise LookupError("in the background")

    gevent.spawn_later(TICK_S, fail)
    return "ok"


@app.route("/fail")
def fail(environ, start_response):
    gevent.sleep(0)
    raise LookupError("for the log")


@app.text("/exit")
def leave(environ):
    gevent.sleep(0)
    sys.exit(3)


@app.text("/grind")
def grind(environ):
    """?name=: computes until `/release`, with a look at the loop every few milliseconds."""
    name = parameter(environ, "name")
    holders[name].append(gevent.getcurrent())
    end = time.monotonic() + PATIENCE_S
    while not gates[name].is_set() and time.monotonic() < end:
        burn(0.005)
        gevent.sleep(0)
    holders[name].remove(gevent.getcurrent())
    return str(gates[name].is_set())


def burn(seconds):
    """Compute, and let nobody else run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@app.text("/burn")
def burn_once(environ):
    """?s=: computes for so long without a pause."""
    burn(float(parameter(environ, "s")))
    return "ok"


@app.text("/sleep")
def sleep(environ):
    """?s=SECONDS, through the patched module."""
    time.sleep(float(parameter(environ, "s")))
    return "ok"


@app.route("/relay")
def relay(environ, start_response):
    """?name=&me=&of=&n=: n items, each only when it is this response's turn among `of` responses."""
    name, me, of = parameter(environ, "name"), int(parameter(environ, "me")), int(parameter(environ, "of"))

    def items():
        for round_ in range(int(parameter(environ, "n"))):
            turn = round_ * of + me
            if turn:
                with gevent.Timeout(PATIENCE_S):
                    gates[f"{name}{turn}"].wait()
            gevent.sleep(0.001)
            yield f"{me}.{round_}\n".encode()
            # The server has taken the item and wants the next one: the others go first.
            gates[f"{name}{turn + 1}"].set()

    start_response("200 OK", [("Content-Type", "text/plain")])
    return items()


@app.route("/endless")
def endless(environ, start_response):
    """?name=: items until the client has gone; notes it."""
    name = parameter(environ, "name")

    def items():
        try:
            while True:
                yield b"x" * 1000
                gevent.sleep(0.001)
        finally:
            notes[name].append("closed")

    start_response("200 OK", [("Content-Type", "text/plain")])
    return items()


@app.route("/bulk")
def bulk(environ, start_response):
    """?mb=: more than fits into any socket buffer."""
    megabytes = int(parameter(environ, "mb"))
    start_response("200 OK", [("Content-Length", str(megabytes << 20))])
    return (bytes([number % 251]) * 65536 for number in range(megabytes * 16))


@app.route("/write")
def write(environ, start_response):
    """?name=&n=: items by the write() callable, each after a release of NAME0, NAME1 and so on."""
    name = parameter(environ, "name")
    send = start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(int(parameter(environ, "n"))):
        with gevent.Timeout(PATIENCE_S):
            gates[f"{name}{number}"].wait()
        send(f"{number}\n".encode())
    return []


@app.route("/swallow")
def swallow(environ, start_response):
    """?name=&size=: reads the body in pieces of that size, notes each as it comes, and answers with what it got."""
    name, size, total = parameter(environ, "name"), int(parameter(environ, "size")), 0
    while piece := environ["wsgi.input"].read(size):
        notes[name].append(len(piece))
        total += len(piece)
    return plain(start_response, str(total))


@app.route("/lines")
def lines(environ, start_response):
    """?name=: as `/swallow`, by lines."""
    name = parameter(environ, "name")
    for line in environ["wsgi.input"]:
        notes[name].append(line.decode().strip())
    return plain(start_response, str(len(notes[name])))
