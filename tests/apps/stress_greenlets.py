"""A gevent program that does everything at once that the stack rule (CONTRIBUTING.md) is about, at random.

Thousands of greenlets wait for descriptors, timers, threads, children and each other. They are killed, timed out and
thrown into while they do; descriptors are closed under their feet; watchers are stopped, closed and started again by
callbacks; suspended greenlets are dropped, which runs them, wherever the loop lets go of an object; the collector runs
all the time and its finalizers switch; and the loop is entered again from within. Meanwhile C functions keep data of
each greenlet in their frames, and what comes out of them is looked at.

A violation shows itself as a crash, a panic (some builds have assertions), an error that nobody threw, data that has
changed, an event that never comes, or something that is left over in the end. Then the exit status is not 0 and the
seed is printed; RGUNICORN_SEED replays its decisions (not the kernel's). RGUNICORN_TORTURE=1 makes it longer.
"""

import contextlib
import faulthandler
import functools
import gc
import os
import random
import signal
import sys
import time
import traceback
import weakref

import gevent
import gevent.event
import gevent.pool
import gevent.queue
import gevent.socket
import gevent.subprocess
from greenlet import GreenletExit, getcurrent, greenlet
from stress_world import SEED, Boom, World, somewhere

TORTURE = os.environ.get("RGUNICORN_TORTURE", "") not in ("", "0")
GREENLETS = 20_000 if TORTURE else 2_500
# Processes are expensive, and there need not be many.
CHILDREN = 60 if TORTURE else 8
# What comes at all comes in milliseconds. Whoever waits so long has lost an event.
PATIENCE_S = 20.0
# Callbacks that enter the loop again, whose callbacks enter it again.
DEPTH = 3
READ, WRITE = 1, 2


# Things that run where something is dropped.


def suspended(world, seed):
    """A greenlet in the middle of something. Whoever drops it runs the rest of it, right there."""
    rng = random.Random(seed)

    def body():
        world.counts["suspended"] += 1
        try:
            somewhere(world, rng, getcurrent().parent.switch)
            getcurrent().parent.switch()
        finally:
            world.counts["dropped"] += 1
            # The loop must be whole here, wherever this is.
            world.loop.update_now()
            chance = rng.random()
            if chance < 0.1:
                gc.collect(0)
            elif chance < 0.2:
                world.loop.run_callback(mischief, world)
            elif chance < 0.3:
                end_another(world, rng, None)
            elif chance < 0.4:
                make = suspended(world, rng.random())
                del make
            elif chance < 0.45 and getcurrent().parent is world.hub:
                # The hub drops it, and goes on: it is not dead yet. Later it must not end in whoever was its parent.
                gevent.sleep(0)
                getcurrent().parent = world.hub
            elif chance < 0.5:
                raise Boom

    made = greenlet(body)
    made.switch()
    return made


class Trap:
    """Garbage whose end makes trouble."""

    def __init__(self, world, seed):
        self.world = world
        self.seed = seed
        self.cycle = self
        self.held = suspended(world, seed) if seed < 0.3 else None

    def __del__(self):
        self.world.counts["finalized"] += 1
        if self.seed < 0.5:
            there = greenlet(lambda: getcurrent().parent.switch())
            there.switch()
        elif self.seed < 0.6:
            raise Boom
        elif self.seed < 0.9:
            self.world.loop.run_callback(mischief, self.world)


def litter(world, rng):
    """Leaves something to the collector."""
    trap = Trap(world, rng.random())
    weakref.finalize(trap, world.loop.run_callback, mischief, world).atexit = False
    del trap
    if rng.random() < 0.2:
        gc.collect(rng.randrange(3))


# What callbacks do: any of these may happen anywhere in the loop.


def mischief(world, watcher=None, *_held):
    """One nasty thing. Runs in the hub, or where a watcher calls back."""
    rng = world.random
    world.counts["mischief"] += 1
    choice = rng.choice(MISCHIEF)
    choice(world, rng, watcher)


def again(world, rng, watcher):
    """The former arguments are dropped by `start`, or by what comes after it."""
    if watcher is not None:
        watcher.start(mischief, world, watcher, suspended(world, rng.random()))
        if rng.random() < 0.7:
            watcher.stop()
        else:
            world.orphans.append(watcher)


def end(_world, rng, watcher):
    if watcher is not None:
        (watcher.close if rng.random() < 0.5 else watcher.stop)()


def end_another(world, _rng, _watcher):
    if watcher := world.orphan():
        watcher.close()


def aim_another(world, rng, _watcher):
    """What a watcher held is dropped by whatever replaces it."""
    if watcher := world.orphan():
        held = suspended(world, rng.random())
        choice = rng.randrange(4)
        if choice == 0:
            watcher.args = (world, watcher, held)
        elif choice == 1:
            watcher.callback = functools.partial(lambda _held, *_rest: None, held)
        elif choice == 2 and hasattr(watcher, "again"):
            watcher.again(mischief, world, watcher, held)
        else:
            watcher.start(mischief, world, watcher, held)
        # Only the watcher has it now.
        del held
        world.orphans.append(watcher)


def fail(_world, _rng, _watcher):
    raise Boom


def drop(world, rng, _watcher):
    callback = world.loop.run_callback(mischief, world, None, suspended(world, rng.random()))
    if rng.random() < 0.5:
        callback.stop()


def hop(world, rng, _watcher):
    there = greenlet(lambda: somewhere(world, rng, getcurrent().parent.switch))
    for _ in range(3):
        there.switch()


def enter_again(world, rng, _watcher):
    if world.depth < DEPTH and getcurrent() is world.hub:
        world.depth += 1
        try:
            world.loop.run(nowait=True, once=rng.random() < 0.5)
        finally:
            world.depth -= 1


def collect(_world, rng, _watcher):
    gc.collect(rng.choice((0, 0, 1, 2)))


def kill(world, rng, _watcher):
    if victim := world.victim():
        victim.kill(rng.choice((GreenletExit, Boom)), block=False)


def throw(world, _rng, _watcher):
    """At once, which only the hub may."""
    if getcurrent() is world.hub and (victim := world.victim()):
        victim.throw(Boom)


def look(world, _rng, watcher):
    text = repr(watcher) + repr(world.loop)
    if hasattr(world.loop, "debug"):
        text += "".join(map(str, world.loop.debug()))
    world.counts["looked at"] += bool(text)


def another_loop(world, rng, _watcher):
    """Made, run and destroyed by callbacks, its own ones too."""
    loop = type(world.loop)(default=False)
    timers = [world.known(loop.timer(0)) for _ in range(3)]
    for timer in timers:
        timer.start(lambda held: None, suspended(world, rng.random()))
    if rng.random() < 0.5:
        loop.run_callback(loop.destroy)
    if getcurrent() is world.hub:
        loop.run(nowait=True)
    for timer in timers:
        timer.stop()
        timer.close()
    loop.destroy()


MISCHIEF = (
    again, again, again, aim_another, aim_another, end, end, end_another, fail, drop, drop, hop, hop, enter_again,
    collect, kill, throw, look, another_loop,
)  # fmt: skip


# What greenlets do.


def nap(world, rng):
    gevent.sleep(rng.choice((0, 0, 0.0001, 0.002)))


def exchange(world, rng):
    """Bytes through a pair of sockets, more of them than fit in there at once."""
    here, there = gevent.socket.socketpair()
    data = rng.randbytes(rng.choice((1, 100, 5_000, 500_000)))

    def send():
        with contextlib.suppress(OSError):  # Closed meanwhile.
            there.sendall(data)

    sender = gevent.spawn(send)
    try:
        found = bytearray()
        with gevent.Timeout(PATIENCE_S, AssertionError("no bytes came")):
            while len(found) < len(data):
                found += here.recv(100_000)
        if found != data:
            world.find("other bytes have come than were sent")
    finally:
        here.close()
        there.close()
        if rng.random() < 0.3:
            sender.kill(block=False)


def reuse(world, rng):
    """A descriptor is closed without a word while it is waited for, and its number used again."""
    reader, writer = os.pipe()
    watcher = world.known(world.loop.io(reader, READ))
    timer = world.known(world.loop.timer(0.0005))
    timer.start(os.close, reader)
    try:
        with gevent.Timeout(0.002, False):
            world.hub.wait(watcher)
    finally:
        if timer.active or timer.pending:
            os.close(reader)
        timer.close()
        if rng.random() < 0.5:
            watcher.close()
        os.close(writer)
        # Whatever the loop still thinks of that number: this is another pipe.
        try:
            converse(world, rng)
        finally:
            watcher.close()


def converse(world, rng):
    reader, writer = os.pipe()
    watcher = world.known(world.loop.io(reader, READ))
    timer = world.known(world.loop.timer(rng.choice((0, 0.001))))
    timer.start(os.write, writer, b"x")
    try:
        with gevent.Timeout(PATIENCE_S, AssertionError("a pipe with a byte did not become readable")):
            world.hub.wait(watcher)
    finally:
        timer.close()
        watcher.close()
        os.close(reader)
        os.close(writer)


def watch(world, rng):
    """Watchers of all kinds, with callbacks that do the worst."""
    loop = world.loop
    pair = gevent.socket.socketpair()
    makers = (
        lambda: loop.io(pair[0].fileno(), READ), lambda: loop.io(pair[0].fileno(), READ | WRITE),
        lambda: loop.io(pair[1].fileno(), WRITE, priority=rng.randrange(-2, 3)),
        lambda: loop.timer(0), lambda: loop.timer(0.0005, 0.0005), lambda: loop.timer(0.001, priority=-1),
        lambda: loop.check(), lambda: loop.prepare(), lambda: loop.idle(), lambda: loop.async_(),
        lambda: loop.stat("/"), lambda: loop.signal(signal.SIGWINCH), lambda: loop.fork(ref=False),
    )  # fmt: skip
    mine = [world.known(rng.choice(makers)()) for _ in range(rng.randrange(1, 5))]
    try:
        for watcher in mine:
            options = {"pass_events": True} if hasattr(watcher, "events") and rng.random() < 0.3 else {}
            if options:
                watcher.start(lambda _events, *held: mischief(*held), world, watcher, **options)
            else:
                watcher.start(mischief, world, watcher, suspended(world, rng.random()))
        for watcher in mine:
            if hasattr(watcher, "send"):
                watcher.send()
        pair[1].send(b"x")
        if rng.random() < 0.3:
            os.kill(os.getpid(), signal.SIGWINCH)
        gevent.sleep(rng.choice((0, 0.001)))
    finally:
        for watcher in mine:
            if hasattr(watcher, "fd") or rng.random() < 0.7:
                watcher.close()
            else:
                world.orphans.append(watcher)
        for one in pair:
            one.close()


def close_awaited(world, rng):
    """Sockets that are closed by one greenlet while others wait for them."""
    here, there = gevent.socket.socketpair()

    def wait(sock):
        try:
            sock.recv(1)
        except OSError:
            world.counts["closed while waiting"] += 1

    others = [gevent.spawn(wait, sock) for sock in (here, there)]
    try:
        gevent.sleep(0)
        here.close()
        with gevent.Timeout(PATIENCE_S, AssertionError("a socket was closed, and nobody told")):
            gevent.joinall(others)
    finally:
        here.close()
        there.close()


def threads(world, rng):
    """From other threads, into this one."""
    event = gevent.event.Event()
    notice = world.known(world.loop.async_())
    notice.start(event.set)

    def there():
        world.loop.run_callback_threadsafe(mischief, world)
        notice.send()
        return 5

    try:
        with gevent.Timeout(PATIENCE_S, AssertionError("no news of the thread")):
            if world.hub.threadpool.apply(there) != 5:
                world.find("a thread gave something else")
            event.wait()
    finally:
        notice.close()


def child(world, rng):
    if world.children >= CHILDREN:
        return
    world.children += 1
    process = gevent.subprocess.Popen(["/bin/sh", "-c", "exit 7"])
    with gevent.Timeout(PATIENCE_S, AssertionError("no news of the child")):
        if process.wait() != 7:
            world.find(f"a child gave {process.returncode}")


def queue(world, rng):
    items, count = gevent.queue.Queue(rng.randrange(1, 4)), rng.randrange(1, 20)
    giver = gevent.spawn(lambda: [items.put(item) for item in range(count)])
    try:
        with gevent.Timeout(PATIENCE_S, AssertionError("an item was lost")):
            found = [items.get() for _ in range(count)]
        if found != list(range(count)):
            world.find(f"a queue gave {found}")
    finally:
        giver.kill(block=False)


def bare(world, rng):
    """A greenlet that is none of gevent's."""
    done = gevent.event.Event()

    def body():
        try:
            somewhere(world, rng, lambda: gevent.sleep(0.0001))
        finally:
            done.set()

    greenlet(body, world.hub).switch()
    with gevent.Timeout(PATIENCE_S, AssertionError("a bare greenlet was lost")):
        done.wait()


def second_loop(world, rng):
    """Another loop runs in a greenlet, its callbacks switch, and what is thrown there leaves it in the middle."""
    loop = type(world.loop)(default=False)
    loop.error_handler = world.on_error
    timer = world.known(loop.timer(0, 0.0001))
    left = [rng.randrange(1, 5)]

    def tick(_held):
        left[0] -= 1
        gevent.sleep(0)
        if left[0] < 1:
            timer.stop()

    timer.start(tick, suspended(world, rng.random()))
    try:
        loop.run()
    finally:
        timer.close()
        loop.destroy()


def raise_boom(world, rng):
    raise Boom


STEPS = (
    nap, nap, exchange, exchange, reuse, converse, watch, watch, watch, close_awaited, threads, child, queue,
    bare, second_loop, raise_boom,
)  # fmt: skip


def live(world, number):
    """A greenlet's life: some steps, some of them cut short."""
    rng = random.Random(f"{SEED}:{number}")
    world.counts["begun"] += 1
    try:
        for _ in range(rng.randrange(1, 5)):
            step, limit = rng.choice(STEPS), rng.choice((None, None, 0, 0.0005, 0.003))
            litter(world, rng)
            try:
                with gevent.Timeout(limit, False):
                    somewhere(world, rng, lambda step=step: step(world, rng))
            except Boom:
                if rng.random() < 0.5:
                    raise
    except AssertionError:
        world.find(f"greenlet {number}: {traceback.format_exc()}")
        raise Boom from None
    finally:
        world.counts["over"] += 1


def descriptors():
    """What is open. By its nature, not by number: an epoll makes itself anew when the application has confused it."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # The one that lists them.
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(found)


def settle(what, world, condition):
    """Waits for a state that has to come."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            world.find(f"waited in vain for {what}")
            return
        gevent.sleep(0.005)


def clean_up(world):
    """Ends everything, and looks at what is left."""

    def stop_orphans():
        while watcher := world.orphan():
            watcher.close()
        gc.collect()
        return not len(world.pool)

    for greenlet_ in list(world.pool.greenlets):
        greenlet_.kill(block=False)
    settle("the end of all greenlets", world, stop_orphans)


def main():
    world = World()
    # What exists from here on is what the collector looks at.
    gc.collect()
    gc.freeze()
    gc.set_threshold(200, 5, 5)
    # One signal watcher stays, or the signal would have its default effect.
    forever = world.loop.signal(signal.SIGWINCH, ref=False)
    forever.start(world.counts.update, ["signals"])
    for warm_up in (exchange, threads, queue):
        warm_up(world, random.Random(1))
    settle("the threads", world, lambda: not len(world.hub.threadpool))
    files, before = descriptors(), world.loop.activecnt
    pulse = world.loop.timer(0.001, 0.001, ref=False)
    pulse.start(mischief, world)

    def revive():
        """Somebody may have stopped it."""
        if not pulse.active:
            pulse.start(mischief, world)

    started = time.monotonic()
    for number in range(GREENLETS):
        world.pool.spawn(live, world, number)
        revive()
    with gevent.Timeout(PATIENCE_S, False):
        world.pool.join()
    pulse.close()
    clean_up(world)
    settle("the watchers' ends", world, lambda: gc.collect() >= 0 and not len(world.watchers))
    settle("the descriptors' ends", world, lambda: descriptors() == files)
    settle("the loop's counter", world, lambda: world.loop.activecnt <= before + 1)
    if world.counts["begun"] != world.counts["over"]:
        world.find("greenlets have not come to their ends")
    if left := list(world.watchers):
        world.find(f"left over: {left[:5]}")
    if descriptors() != files:
        world.find(f"descriptors: {files} before, {descriptors()} after")
    # It works as ever.
    for step in (exchange, converse, threads, queue, close_awaited):
        step(world, random.Random(2))
    forever.close()
    print(f"{world.loop.backend} seed {SEED}: {time.monotonic() - started:.1f} s", dict(sorted(world.counts.items())))
    for finding in world.findings[:10]:
        print(f"FINDING: {finding}", file=sys.stderr)
    if world.findings:
        print(f"{len(world.findings)} findings; replay with RGUNICORN_SEED={SEED}", file=sys.stderr)
        sys.exit(1)
    world.hub.destroy(destroy_loop=True)


if __name__ == "__main__":
    # Before a crash can come.
    print(f"RGUNICORN_SEED={SEED}", file=sys.stderr, flush=True)
    faulthandler.enable()
    main()
