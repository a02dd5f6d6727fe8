"""Events that one turn of a loop has found, and callbacks that change them before their turn: prints, as JSON, who was
called.

`loop_pairs.py GROUP` runs on any loop of gevent's (`GEVENT_LOOP`). In each case two things have happened by the time
the loop looks; the callback for the first one starts, stops or asks for the other.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time

import gevent
import gevent.os

loop = gevent.get_hub().loop
# Made by hand, so that no watcher is one of gevent's.
QUIET_S = 0.15
outcomes = {}


class Case:
    """The calls of one case, in their order."""

    def __init__(self, name):
        self.calls = outcomes[name] = []
        self.watchers = []
        self.descriptors = set()

    def keep(self, watcher):
        """Make a watcher end with the case."""
        self.watchers.append(watcher)
        return watcher

    def note(self, name, then=None):
        """A callback that notes its name, and does more at its first call."""
        state = [then]

        def called(*args):
            self.calls.append(" ".join([name, *map(str, args)]))
            first, state[0] = state[0], None
            if first:
                first()

        return called

    def turn(self, seconds=QUIET_S):
        """Let the loop turn."""
        gevent.sleep(seconds)
        for watcher in self.watchers:
            watcher.close()
        for descriptor in self.descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def again(watcher, callback):
    """Stop and start."""
    watcher.stop()
    watcher.start(callback)


# Children.


def ended(*statuses):
    """Children that have ended, and of which the loop does not know yet."""
    pids = []
    for status in statuses:
        pid = gevent.os._raw_fork()
        if pid == 0:
            os._exit(status)
        pids.append(pid)
    return pids


def wait_ended(pids):
    for pid in pids:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def waited(name, order):
    """Forked and watched as `multiprocessing` does under gevent, then waited for one after the other."""
    pids = []
    for status in range(4):
        pid = gevent.os.fork_and_watch()
        if pid == 0:
            os._exit(status)
        pids.append(pid)
    wait_ended(pids)
    found = outcomes[name] = []
    for at in order:
        with gevent.Timeout(2, False):
            found.append(os.waitstatus_to_exitcode(gevent.os.waitpid(pids[at], 0)[1]))


def any_child(name):
    # Those of the cases before that gevent remembers.
    gevent.os._watched_children.clear()
    pids = ended(1, 2, 3)
    wait_ended(pids)
    found = outcomes[name] = []
    for _ in pids:
        with gevent.Timeout(2, False):
            pid, status = gevent.os.waitpid(-1, 0)
            found.append(f"{pids.index(pid)} {os.waitstatus_to_exitcode(status)}")
    found.sort()


def two_children(name, act):
    """Two have ended. `act` gets the case, the second's watcher and both numbers."""
    case = Case(name)
    pids = ended(1, 2)
    first, second = (case.keep(loop.child(pid)) for pid in pids)
    second_called = case.note("second")
    first.start(case.note("first", lambda: act(case, second, second_called, pids)))
    second.start(second_called)
    wait_ended(pids)
    case.turn()


def watch_late(name):
    """The first's callback is the first to watch the second."""
    case = Case(name)
    pids = ended(1, 2)
    second = case.keep(loop.child(pids[1]))
    case.keep(loop.child(pids[0])).start(case.note("first", lambda: second.start(case.note("second"))))
    wait_ended(pids)
    case.turn()


def another(case, pid):
    case.keep(loop.child(pid)).start(case.note("another"))


def children():
    waited("waited for in order", range(4))
    waited("waited for in reverse", reversed(range(4)))
    any_child("any child, three times")
    two_children("child stops child", lambda _case, second, _called, _pids: second.stop())
    two_children("child starts child anew", lambda _case, second, called, _pids: again(second, called))
    two_children("child is watched twice", lambda case, _second, _called, pids: another(case, pids[1]))
    two_children("child that was told of", lambda case, _second, _called, pids: another(case, pids[0]))
    watch_late("child is watched late")
    case = Case("two watchers of a child")
    [pid] = pids = ended(3)
    second = case.keep(loop.child(pid))
    case.keep(loop.child(pid)).start(case.note("first", second.stop))
    second.start(case.note("second"))
    wait_ended(pids)
    case.turn()
    case = Case("any child beside a named one")
    pids = ended(4, 5)
    both = case.keep(loop.child(0))
    both.start(lambda: case.calls.append(f"any {pids.index(both.rpid)} {both.rstatus >> 8}"))
    case.keep(loop.child(pids[0])).start(case.note("named"))
    wait_ended(pids)
    case.turn()
    case = Case("a child and another watcher of SIGCHLD")
    other = loop.signal(signal.SIGCHLD)
    other.start(case.note("signal"))
    other.stop()
    other.close()
    pids = ended(6)
    case.keep(loop.child(pids[0])).start(case.note("child"))
    wait_ended(pids)
    case.turn()


# Signals.


def raised(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


def two_signals(name, act):
    case = Case(name)
    first, second = (case.keep(loop.signal(number)) for number in (signal.SIGUSR1, signal.SIGUSR2))
    second_called = case.note("second")
    first.start(case.note("first", lambda: act(second, second_called)))
    second.start(second_called)
    raised(signal.SIGUSR1, signal.SIGUSR2)
    case.turn()


def raise_between(second, called):
    raised(signal.SIGUSR2)
    again(second, called)


def signals():
    two_signals("signal stops signal", lambda second, _called: second.stop())
    two_signals("signal starts signal anew", again)
    two_signals("signal comes before a new start", raise_between)
    case = Case("two watchers of a signal")
    second = case.keep(loop.signal(signal.SIGUSR1))
    case.keep(loop.signal(signal.SIGUSR1)).start(case.note("first", second.stop))
    second.start(case.note("second"))
    raised(signal.SIGUSR1)
    case.turn()
    case = Case("a signal of a watcher that has gone")
    gone = loop.signal(signal.SIGUSR1)
    gone.start(case.note("gone"))
    raised(signal.SIGUSR1)
    gone.stop()
    gevent.sleep(0.01)
    case.keep(loop.signal(signal.SIGUSR1)).start(case.note("later"))
    case.turn()
    case = Case("a signal whose watcher starts again before the turn")
    watcher = case.keep(loop.signal(signal.SIGUSR1))
    watcher.start(case.note("before"))
    raised(signal.SIGUSR1)
    again(watcher, case.note("after"))
    case.turn()


# Events of other threads.


def asyncs():
    case = Case("async sends itself")
    watcher = case.keep(loop.async_())
    count = []

    def resend():
        count.append(1)
        if len(count) < 100_000 and not case.calls:
            watcher.send()

    watcher.start(resend)
    watcher.send()
    case.keep(loop.timer(0.01)).start(case.note("timer"))
    case.turn()
    outcomes["async sends itself, stopped by a timer"] = len(count) < 100_000
    case = Case("async sends another")
    second = case.keep(loop.async_())
    second.start(case.note("second"))
    first = case.keep(loop.async_())
    first.start(case.note("first", lambda: (second.send(), second.send())))
    first.send()
    outcomes["async pending when sent"] = first.pending
    case.turn()
    for name, act in {
        "async stops another": lambda: second.stop(),
        "async starts another anew": lambda: again(second, called),
    }.items():
        case = Case(name)
        second = case.keep(loop.async_())
        called = case.note("second")
        first = case.keep(loop.async_())
        first.start(case.note("first", act))
        second.start(called)
        first.send()
        second.send()
        case.turn()
    case = Case("async sent before its start")
    watcher = case.keep(loop.async_())
    watcher.send()
    watcher.start(case.note("called"))
    case.turn()
    case = Case("async sent, started anew")
    watcher = case.keep(loop.async_())
    watcher.start(case.note("before"))
    watcher.send()
    again(watcher, case.note("after"))
    case.turn()


# Timers.


def two_timers(name, act, repeat=0.0):
    case = Case(name)
    first, second = case.keep(loop.timer(0.001)), case.keep(loop.timer(0.002, repeat))
    called = case.note("second")
    first.start(case.note("first", lambda: act(second, called)))
    second.start(called)
    # Both are due by now.
    time.sleep(0.01)
    case.turn()


def timers():
    two_timers("timer stops timer", lambda second, _called: second.stop())
    two_timers("timer starts timer anew", again)
    two_timers("timer starts timer", lambda second, called: second.start(called))
    two_timers("timer has timer again", lambda second, called: second.again(called))
    two_timers("timer has repeated timer again", lambda second, called: second.again(called), repeat=0.1)
    two_timers("timer stops repeated timer", lambda second, _called: second.stop(), repeat=0.05)
    for repeat in (0.0, 0.3):
        stopped_halfway(repeat)
        started_in_its_callback(repeat)


def stopped_halfway(repeat):
    """A timer that is started again against one that is due between what was left and the whole time."""
    case = Case(f"timer of repetition {repeat} goes on with what was left")
    halfway = case.keep(loop.timer(0.2, repeat))
    loop.update_now()
    halfway.start(case.note("never"))
    gevent.sleep(0.1)
    halfway.stop()
    loop.update_now()
    halfway.start(case.note("the rest", halfway.stop))
    case.keep(loop.timer(0.15)).start(case.note("between"))
    case.turn(0.25)


def started_in_its_callback(repeat):
    """A timer whose time is over, started again, against one that is due soon."""
    case = Case(f"timer of repetition {repeat} is started when its time is over")
    over = case.keep(loop.timer(0.1, repeat))

    def anew():
        again(over, case.note("again", over.stop))
        case.keep(loop.timer(0.05)).start(case.note("soon"))

    over.start(case.note("over", anew))
    case.turn(0.5)


# Descriptors.


def ready_pipes(count):
    """Pipes with a byte to be read each: what reads, what writes."""
    pipes = [os.pipe() for _ in range(count)]
    for _reader, writer in pipes:
        os.write(writer, b"x")
    return pipes


def two_pipes(name, act, events=1):
    """Both can be read. Which of them is first is the loop's choice, so each has the other as its second."""
    case = Case(name)
    pipes = ready_pipes(2)
    watchers = [case.keep(loop.io(reader, events)) for reader, _writer in pipes]
    acted = []

    def called(at, found):
        case.calls.append(f"{'other' if acted else 'first'} {found}")
        if acted:
            watchers[at].stop()
            return
        acted.append(at)
        watchers[at].stop()
        act(case, watchers[1 - at], pipes[1 - at][0], lambda found: called(1 - at, found))

    for at, watcher in enumerate(watchers):
        watcher.start(lambda found, at=at: called(at, found), pass_events=True)
    case.turn()
    for descriptor in (end for pipe in pipes for end in pipe):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def reuse(ready):
    """Closes what the other watches, and watches another file under its number."""

    def act(case, other, descriptor, _called):
        other.stop()
        loop.closing_fd(descriptor)
        os.close(descriptor)
        reader, writer = os.pipe()
        if ready:
            os.write(writer, b"x")
        # The pipe has taken the number already, or gets it now.
        if descriptor not in (reader, writer):
            os.dup2(reader, descriptor)
        watcher = case.keep(loop.io(descriptor, 1))
        watcher.start(case.note("new", watcher.stop))
        case.descriptors |= {reader, writer}

    return act


def descriptors():
    two_pipes("io stops io", lambda _case, other, _fd, _called: other.stop())
    two_pipes("io starts io", lambda _case, other, _fd, called: other.start(called, pass_events=True))
    two_pipes("io starts io anew", lambda _case, other, _fd, called: restart_io(other, called))
    two_pipes("io takes what io waits for", lambda _case, _other, fd, _called: os.read(fd, 1))
    two_pipes("io lets a descriptor go", lambda _case, _other, fd, _called: loop.closing_fd(fd) and None)
    two_pipes("io reuses a number", reuse(ready=False))
    two_pipes("io reuses a number that is ready", reuse(ready=True))
    case = Case("closing_fd")
    reader, writer = os.pipe()
    for descriptor, events, name in ((reader, 1, "reader"), (writer, 2, "writer"), (reader, 1, "second")):
        watcher = case.keep(loop.io(descriptor, events))
        watcher.start(lambda found, name=name, watcher=watcher: (case.note(name)(found), watcher.stop()),
                      pass_events=True)  # fmt: skip
    outcomes["closing_fd told"] = [loop.closing_fd(reader), loop.closing_fd(writer), loop.closing_fd(reader + 1000)]
    case.turn()
    case.calls.sort()
    os.close(reader)
    os.close(writer)


def restart_io(watcher, called):
    watcher.stop()
    watcher.start(called, pass_events=True)


# Files.


def two_files(name, act):
    with tempfile.TemporaryDirectory() as directory:
        case = Case(name)
        paths = [os.path.join(directory, name) for name in ("one", "two")]
        for path in paths:
            with open(path, "w"):
                pass
        watchers = [case.keep(loop.stat(path, 0.11)) for path in paths]
        acted = []

        def called(at):
            case.calls.append("other" if acted else "first")
            if not acted:
                acted.append(at)
                act(watchers[1 - at], lambda: called(1 - at))

        for at, watcher in enumerate(watchers):
            watcher.start(called, at)
        for path in paths:
            with open(path, "w") as file:
                file.write("changed")
        case.turn(0.5)


def files():
    two_files("stat stops stat", lambda other, _called: other.stop())
    two_files("stat starts stat anew", again)
    with tempfile.TemporaryDirectory() as directory:
        case = Case("stat is started while it is started")
        path = os.path.join(directory, "file")
        watcher = case.keep(loop.stat(path, 0.11))
        watcher.start(case.note("before"))
        with open(path, "w") as file:
            file.write("changed")
        watcher.start(case.note("after", watcher.stop))
        case.turn(0.5)


# Turns.


def two_of(kind, name, act):
    """Two watchers of every turn. Which is first is the loop's choice, so each has the other as its second."""
    case = Case(f"{kind} {name}")
    watchers = [case.keep(getattr(loop, kind)()) for _ in range(2)]
    acted = []

    def called(at):
        case.calls.append("other" if acted else "first")
        watchers[at].stop()
        if not acted:
            acted.append(at)
            act(watchers[1 - at], lambda: called(1 - at))

    for at, watcher in enumerate(watchers):
        watcher.start(called, at)
    case.turn(0.05)


def turns():
    for kind in ("prepare", "check", "idle"):
        two_of(kind, "stops another", lambda other, _called: other.stop())
        two_of(kind, "starts another anew", again)
    case = Case("a run within a callback")
    second = case.keep(loop.timer(0.002))
    case.keep(loop.timer(0.001)).start(case.note("first", lambda: (
        loop.run(nowait=True), case.calls.append("back"))))  # fmt: skip
    second.start(case.note("second"))
    time.sleep(0.01)
    case.turn()


GROUPS = {"children": children, "signals": signals, "asyncs": asyncs, "timers": timers, "descriptors": descriptors,
          "files": files, "turns": turns}  # fmt: skip

GROUPS[sys.argv[1]]()
print(json.dumps(outcomes))
