"""Requests of a cooperative worker that are ended at random points of their lives: see `stress_greenlets`.

`/work?seed=` reads its body, computes, waits and answers, all of it decided by the seed. Meanwhile other greenlets kill
it or throw something into it, its own time-outs end it, and callbacks do to the worker's loop whatever callbacks can
do. The bodies of requests and answers are known, so that a byte of somebody else's would be seen.
"""

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import tempfile  # noqa: E402
import weakref  # noqa: E402

import gevent  # noqa: E402
import stress_greenlets as stress  # noqa: E402
from greenlet import GreenletExit  # noqa: E402
from routes import Routes, parameter  # noqa: E402
from stress_world import Boom, World, somewhere  # noqa: E402

app = Routes()
KNOWN = bytes(range(251)) * 2500
worlds = []


def world():
    """Made by the worker's first request: its hub is another one than the master's."""
    if not worlds:
        made = World(os.environ["STRESS_SEED"])
        made.greenlets = weakref.WeakSet()
        gc.collect()
        gc.freeze()
        gc.set_threshold(500, 5, 5)
        made.pulse = made.loop.timer(0.002, 0.002)
        worlds.append(made)
    return worlds[0]


def beat(shared):
    """The callbacks that make trouble."""
    if shared.greenlets:
        stress.mischief(shared)


def expected(seed):
    """The body that belongs to a seed, as long as anybody wants."""
    at = seed % 251
    return KNOWN[at:]


@app.route("/work")
def work(environ, start_response):
    shared, seed = world(), int(parameter(environ, "seed"))
    if not shared.pulse.active:
        shared.pulse.start(beat, shared)
    shared.greenlets.add(gevent.getcurrent())
    shared.counts["begun"] += 1
    rng = random.Random(seed)
    stress.litter(shared, rng)
    if rng.random() < 0.3:
        kill = gevent.getcurrent().kill
        gevent.spawn_later(rng.choice((0, 0.0005, 0.003)), kill, rng.choice((GreenletExit, Boom)), block=False)
    with gevent.Timeout(rng.choice((None, None, 0, 0.001, 0.005)), Boom if rng.random() < 0.5 else None):
        return answer(shared, rng, seed, environ, start_response)


def answer(shared, rng, seed, environ, start_response):
    found = bytearray()
    somewhere(shared, rng, lambda: read(rng, environ["wsgi.input"], found))
    if found != expected(seed)[: len(found)]:
        shared.find(f"request {seed} read something else")
    somewhere(shared, rng, lambda: gevent.sleep(rng.choice((0, 0.001))))
    if rng.random() < 0.1:
        raise Boom
    size = rng.choice((0, 10, 1000, 70_000, len(KNOWN) - 251))
    data = expected(seed)[:size]
    headers = [("Content-Type", "application/octet-stream"), ("X-Size", str(size))]
    if rng.random() < 0.5:
        headers.append(("Content-Length", str(size)))
    write = start_response("200 OK", headers)
    kind = rng.randrange(5)
    if kind == 0:
        return [data]
    if kind == 1:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - it is the server's from here on.
        file.write(data)
        file.seek(0)
        return environ["wsgi.file_wrapper"](file, 8192)
    if kind == 2:
        rest = pieces(rng, data)
        for _ in range(3):
            somewhere(shared, rng, lambda: write(next(rest, b"")))
        return rest
    return Items(shared, rng, data)


class Items:
    """An iterable whose items, and end, take their time."""

    def __init__(self, shared, rng, data):
        self.shared = shared
        self.rng = rng
        self.pieces = pieces(rng, data)

    def __iter__(self):
        return self

    def __next__(self):
        chance = self.rng.random()
        if chance < 0.02:
            raise Boom
        if chance < 0.2:
            somewhere(self.shared, self.rng, lambda: gevent.sleep(self.rng.choice((0, 0.001))))
        return next(self.pieces)

    def close(self):
        self.shared.counts["closed"] += 1
        chance = self.rng.random()
        if chance < 0.1:
            gevent.sleep(0)
        elif chance < 0.2:
            raise Boom


def pieces(rng, data):
    at = 0
    while at < len(data):
        size = rng.choice((1, 100, 20_000, 200_000))
        yield data[at : at + size]
        at += size


def read(rng, source, found):
    """Reads some or all of the (rest of the) body."""
    for _ in range(rng.randrange(4)):
        found += source.readline() if rng.random() < 0.2 else source.read(rng.choice((1, 100, 10_000, -1)))


@app.text("/state")
def state(environ):
    """What is going on; asked for in the end, it stops the trouble."""
    shared = world()
    if parameter(environ, "end"):
        shared.pulse.stop()
        while watcher := shared.orphan():
            watcher.close()
        gc.collect()
    alive = sum(not greenlet.dead for greenlet in shared.greenlets)
    return json.dumps({
        "pid": os.getpid(), "alive": alive, "findings": shared.findings, "counts": shared.counts,
        "watchers": len(shared.watchers),
    })  # fmt: skip
