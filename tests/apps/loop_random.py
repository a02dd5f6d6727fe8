"""A loop of gevent's against a model: watchers of all kinds are made, started, stopped, closed and counted or not at
random, outside of callbacks and within them, while descriptors become ready, close and come back as others.

`loop_random.py LOOP SECONDS [SEED]` runs on `LOOP`, a class by its dotted name. A fault ends the run and prints the seed
and what was done last.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import itertools
import os
import random
import select
import signal
import socket
import sys
import tempfile
import time
from collections import deque

READ, WRITE = 1, 2
PAIRS = 6
"""Socket pairs whose one end is watched."""
WATCHERS_MAX = 40
HISTORY = 60
"""Steps that are told with a fault."""
LATE_TURNS_MAX = 25
"""Turns within which an event that has happened is delivered. A ring may post it in the one after the next."""
INFINITE_S = 1_000_000
TURN_PAUSE_S = 0.0005
HANG_S = 30
SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
KINDS = ("io", "io", "io", "timer", "timer", "async", "idle", "prepare", "check", "signal", "stat", "fork", "child")


class Fault(Exception):
    """What the loop did and must not, or the other way round."""


class Thrown(Exception):
    """An exception of a callback's."""


class End:
    """One watched descriptor, with its far end. Its number stays when another file takes it over."""

    def __init__(self):
        self.near, self.far = socket.socketpair()
        self.fd = self.near.fileno()
        self.changed = 0
        self._calm()

    def _calm(self):
        for end in (self.near, self.far):
            end.setblocking(False)

    def ready(self):
        poll = select.poll()
        poll.register(self.fd, select.POLLIN | select.POLLOUT)
        mask = dict(poll.poll(0)).get(self.fd, 0)
        broken = mask & (select.POLLERR | select.POLLHUP)
        return (READ if mask & select.POLLIN or broken else 0) | (WRITE if mask & select.POLLOUT or broken else 0)

    def replace(self):
        """Another pair of the same number."""
        near, far = socket.socketpair()
        self.far.close()
        os.dup2(near.fileno(), self.fd)
        near.close()
        self.far = far
        self._calm()

    def fill(self):
        try:
            while True:
                self.near.send(bytes(65536))
        except OSError:
            pass

    def drain(self, end):
        try:
            while end.recv(65536):
                pass
        except OSError:
            pass

    def close(self):
        self.near.close()
        self.far.close()


class Watched:
    """A watcher and what the model knows of it."""

    def __init__(self, kind, watcher, **facts):
        self.kind, self.watcher = kind, watcher
        self.active = self.closed = False
        self.ref = True
        self.changed = 0
        self.calls = 0
        self.sent = 0
        """Events that may come: one that is sent while another waits for its callback is one more."""
        self.due = False
        """An event is to come, although nothing that can be asked shows it."""
        self.since = None
        """The turn from which on an event is to come."""
        self.__dict__.update(facts)


class World:
    """The loop, its model, and the dice."""

    def __init__(self, loop, seed, strict):
        self.loop, self.random = loop, random.Random(seed)
        self.ends = [End() for _ in range(PAIRS)]
        self.watched = []
        self.queue, self.unqueued = deque(), deque()
        self.history = deque(maxlen=HISTORY)
        self.clock = itertools.count(1)
        """Numbers changes, so that what has changed during a turn can be told."""
        self.turn = 0
        self.thrown = self.caught = 0
        self.depth = 0
        self.fault = None
        self.file = tempfile.NamedTemporaryFile()
        self.counted = loop.activecnt
        self.strict = strict
        self.children = []
        self.killed = dict.fromkeys(SIGNALS, -LATE_TURNS_MAX - 1)
        loop.update_now()
        self.before = self.began = time.monotonic()
        """The loop's clock may stand where its last wait left it, or the one before, until it has waited again."""
        self.over = False
        loop.error_handler = self

    # What the loop tells.

    def handle_error(self, context, kind, value, traceback):
        """An exception has left a callback."""
        if kind is not Thrown:
            self.fault = self.fault or value
        self.caught += 1

    def fired(self, item, *args):
        """A watcher's callback."""
        self.note("fired", item)
        if self.fault:
            return
        if not item.active:
            raise Fault(f"{self.name(item)} was called though it is not active")
        if item.kind == "io":
            (events,) = args
            item.seen |= item.end.ready()
            if events & ~(item.events & item.seen):
                raise Fault(f"{self.name(item)} got {events} of {item.events}, and {item.seen} had come")
        if item.kind == "timer":
            if time.monotonic() < item.earliest:
                raise Fault(f"{self.name(item)} came early: {vars(item)}, {time.monotonic()}")
            if item.again:
                item.again = False
                item.earliest, item.deadline = -INFINITE_S, time.monotonic()
            elif not item.repeat:
                # It has had its time: started again, it comes at once.
                item.active, item.left = False, (-INFINITE_S, 0)
            item.earliest += item.repeat
            item.deadline = time.monotonic() + item.repeat
        if item.kind == "child":
            pid = item.watcher.rpid
            if pid != item.pid:
                raise Fault(f"child {pid} instead of {item.pid}")
        if item.kind == "signal" and self.strict and self.turn > self.killed[item.number] + LATE_TURNS_MAX:
            raise Fault(f"{self.name(item)} was called for nothing")
        wanted = item.sent
        item.sent = max(0, item.sent - 1)
        if item.kind in ("async", "stat") and not wanted:
            raise Fault(f"{self.name(item)} was called for nothing")
        item.due = False
        item.calls += 1
        item.changed = next(self.clock)
        item.since = None
        try:
            self.act_within()
        except Thrown:
            if item.kind == "io":
                # A callback that fails would be called again at once.
                self.stopped(item)
            raise

    def called(self, number):
        """A callback of the queue."""
        self.note("called", number)
        if self.fault:
            return
        if not self.queue or self.queue[0][0] != number:
            raise Fault(f"callback {number} was called, {[each[0] for each in self.queue][:5]} come before it")
        self.queue.popleft()
        self.act_within()

    def act_within(self):
        if self.over:
            return
        self.depth += 1
        try:
            for _ in range(self.random.choice((0, 0, 0, 1, 1, 2, 3))):
                self.act()
            if self.random.random() < 0.05:
                self.thrown += 1
                raise Thrown
        finally:
            self.depth -= 1

    # What is done.

    def act(self):
        choice = self.random.random
        living = [item for item in self.watched if not item.closed]
        if not living or (choice() < 0.1 and len(living) < WATCHERS_MAX):
            return self.make()
        if choice() < 0.3:
            return self.random.choice((self.end_step, self.end_step, self.queue_step, self.queue_stop))()
        item = self.random.choice(living)
        steps = (
            self.start,
            self.start,
            self.start,
            self.stop,
            self.count,
            self.close,
            self.excite,
            self.excite,
            self.again,
        )
        self.random.choice(steps)(item)
        return None

    def make(self):
        kind = self.random.choice(KINDS)
        loop, facts = self.loop, {}
        if kind == "io":
            end, events = self.random.choice(self.ends), self.random.choice((READ, READ, WRITE, READ | WRITE))
            watcher, facts = loop.io(end.fd, events), {"end": end, "events": events, "seen": 0}
        elif kind == "timer":
            after, repeat = self.random.choice((0, 0, 0.001, 0.003, 1000)), self.random.choice((0, 0, 0, 0.002))
            watcher, facts = loop.timer(after, repeat), {"left": (after, after), "repeat": repeat, "again": False}
        elif kind == "signal":
            number = self.random.choice(SIGNALS)
            watcher, facts = loop.signal(number), {"number": number}
        elif kind == "stat":
            watcher = loop.stat(self.file.name, 0.11)
        elif kind == "child":
            watcher, facts = self.child()
        else:
            watcher = getattr(loop, "async_" if kind == "async" else kind)()
        if self.random.random() < 0.3:
            watcher.priority = self.random.randint(loop.MINPRI, loop.MAXPRI)
        item = Watched(kind, watcher, **facts)
        self.watched.append(item)
        self.note("made", item)
        if self.random.random() < 0.7 or kind == "child":
            self.start(item)
            item.due = kind == "child"

    def child(self):
        # libev does so with the first watcher, which is too late for a child that ends at once.
        self.loop.install_sigchld()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        self.children.append(pid)
        return self.loop.child(pid), {"pid": pid}

    def start(self, item):
        if item.kind == "child" and item.changed:
            # What becomes of a status that is watched for later is each loop's own affair.
            return
        self.note("start", item)
        if item.kind == "timer" and item.active and not item.watcher.active:
            # Its time is over, and its callback is still to come, whatever the new start brings.
            item.again = True
        elif item.kind == "timer" and not item.active:
            item.again = False
            item.earliest, item.deadline = self.before + item.left[0], time.monotonic() + item.left[1]
        if item.kind == "io":
            item.seen = (item.seen if item.active else 0) | item.end.ready()
            item.watcher.start(lambda events: self.fired(item, events), pass_events=True)
        else:
            item.watcher.start(self.fired, item)
        item.active = True
        item.changed = next(self.clock)

    def again(self, item):
        """A timer's other start."""
        if item.kind != "timer":
            return
        self.note("again", item)
        item.watcher.again(self.fired, item)
        if item.repeat:
            item.active, item.again, item.changed = True, False, next(self.clock)
            item.earliest, item.deadline = self.before + item.repeat, time.monotonic() + item.repeat
        else:
            self.stopped(item)

    def stop(self, item):
        self.note("stop", item)
        item.watcher.stop()
        self.stopped(item)

    def stopped(self, item):
        if item.kind == "timer" and item.active:
            # Started again, it goes on with the time that is left.
            item.left = item.earliest - time.monotonic(), item.deadline - self.before
        item.active, item.since, item.changed = False, None, next(self.clock)
        item.due, item.sent = False, 0

    def close(self, item):
        if self.random.random() < 0.5:
            return
        self.note("close", item)
        item.watcher.close()
        self.stopped(item)
        item.closed = True
        if self.random.random() < 0.2:
            item.watcher.close()

    def count(self, item):
        item.ref = not item.ref
        self.note("ref" if item.ref else "unref", item)
        item.watcher.ref = item.ref

    def excite(self, item):
        """Make its event happen, if that is in our hands."""
        if item.kind == "async":
            self.note("send", item)
            item.watcher.send()
            item.due = item.due or item.active
            item.sent = min(2, item.sent + item.active)
        elif item.kind == "signal" and any(
            other.active and other.number == item.number for other in self.watched if other.kind == "signal"
        ):
            self.note("kill", item)
            self.killed[item.number] = self.turn
            os.kill(os.getpid(), item.number)
            for other in self.watched:
                if other.kind == "signal" and other.active and other.number == item.number:
                    other.due = True

    def end_step(self):
        end = self.random.choice(self.ends)
        step = self.random.choice(("write", "write", "read", "fill", "drain", "finish", "replace"))
        if step in ("finish", "replace") and self.random.random() < 0.7:
            return
        self.history.append((self.turn, step, end.fd))
        end.changed = next(self.clock)
        if step == "write":
            try:
                end.far.send(b"x")
            except OSError:
                pass
        elif step == "read":
            end.drain(end.near)
        elif step == "fill":
            end.fill()
        elif step == "drain":
            end.drain(end.far)
        elif step == "finish":
            try:
                end.far.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        else:
            self.loop.closing_fd(end.fd)
            for item in self.watched:
                if item.kind == "io" and item.end is end:
                    item.watcher.close()
                    self.stopped(item)
                    item.closed = True
            end.replace()
        for item in self.watched:
            if item.kind == "io" and item.end is end:
                item.seen |= end.ready()

    def queue_step(self):
        number = next(self.clock)
        self.note("queue", number)
        self.queue.append((number, self.loop.run_callback(self.called, number), self.turn))

    def queue_stop(self):
        if self.queue:
            at = self.random.randrange(len(self.queue))
            number, callback, _ = self.queue[at]
            self.note("unqueue", number)
            callback.stop()
            self.unqueued.append(self.turn)
            del self.queue[at]

    # What has to hold.

    def play(self):
        """One turn, between some steps."""
        self.turn += 1
        for _ in range(self.random.randint(0, 3)):
            self.act()
        began = next(self.clock)
        self.before, self.began = self.began, time.monotonic()
        waits = {item: item.calls for item in self.watched if self.is_awaited(item)}
        self.loop.run(nowait=True)
        if self.fault:
            raise self.fault
        if self.thrown != self.caught:
            raise Fault(f"{self.thrown} exceptions were thrown and {self.caught} told of")
        # Each turn has time for some of them only.
        if self.queue and self.queue[0][2] < self.turn - LATE_TURNS_MAX:
            raise Fault(f"callback {self.queue[0][0]} was not called")
        for item in self.watched:
            self.check(item, waits, began)
        counted = sum(item.active and item.ref for item in self.watched)
        counted += len(self.queue)
        # Callbacks that were stopped count until their turn comes.
        while self.unqueued and self.unqueued[0] < self.turn - LATE_TURNS_MAX:
            self.unqueued.popleft()
        if self.strict and not 0 <= self.loop.activecnt - self.counted - counted <= len(self.unqueued):
            raise Fault(f"{self.loop.activecnt - self.counted} are counted and not {counted}")
        self.watched = [item for item in self.watched if not item.closed]
        if any(item.since for item in self.watched):
            time.sleep(TURN_PAUSE_S)

    def is_awaited(self, item):
        if not item.active:
            return False
        if item.kind == "io":
            return bool(item.end.ready() & item.events)
        if item.kind == "timer":
            return item.deadline < time.monotonic() - 0.002
        if item.kind == "child":
            return item.due and has_ended(item.pid)
        return item.kind in ("prepare", "check") or item.due

    def check(self, item, waits, began):
        if not item.closed and bool(item.watcher.active) != item.active:
            raise Fault(f"{self.name(item)}: active is {item.watcher.active}")
        untouched = item.changed < began and (item.kind != "io" or item.end.changed < began)
        if item not in waits or not untouched or not item.active:
            if item.calls != waits.get(item, item.calls) or not untouched:
                item.since = None
            return
        item.since = item.since or self.turn
        late = self.turn - item.since
        if late >= (LATE_TURNS_MAX if item.kind not in ("prepare", "check") else 0):
            raise Fault(f"{self.name(item)} was not called for {late + 1} turns")

    def end(self):
        """What counts no longer keeps the loop from ending, and after all is closed nothing is left."""
        for item in self.watched:
            item.ref = item.watcher.ref = False
        self.note("run", "to the end")
        self.over = True
        if self.strict:
            self.loop.run()
        else:
            for _ in range(LATE_TURNS_MAX):
                self.loop.run(nowait=True)
        if self.queue:
            raise Fault(f"{len(self.queue)} callbacks were not called")
        for item in self.watched:
            item.watcher.close()
        if self.strict and self.loop.activecnt != self.counted:
            raise Fault(f"{self.loop.activecnt} are counted, {self.counted} were at first")
        for end in self.ends:
            end.close()
        for pid in self.children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    # For those who read it.

    def name(self, item):
        return f"{item.kind} {self.watched.index(item)}" if isinstance(item, Watched) else str(item)

    def note(self, what, item):
        facts = (item.kind, id(item) % 100_000) if isinstance(item, Watched) else (item,)
        self.history.append((self.turn, "  " * self.depth + what, *facts))


def has_ended(pid):
    """Whether the loop can know that a child has ended, and does perhaps."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def main():
    name, seconds = sys.argv[1], float(sys.argv[2])
    first = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().getrandbits(32)
    module, _, attribute = name.rpartition(".")
    loop = getattr(importlib.import_module(module), attribute)(default=True)
    # Over such lives, libev's count goes astray, and a signal can outlive those who wait for it.
    strict = module.startswith("rgunicorn")
    deadline = time.monotonic() + seconds
    seed, turns = first, 0
    while seed == first or time.monotonic() < deadline:
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        world = World(loop, seed, strict)
        try:
            for _ in range(300):
                world.play()
            world.end()
        except BaseException:
            print("\n".join(map(str, world.history)), f"seed {seed}", sep="\n", flush=True)
            raise
        turns += world.turn
        seed += 1
    print(f"{name}: seeds {first} to {seed - 1}, {turns} turns")


if __name__ == "__main__":
    main()
