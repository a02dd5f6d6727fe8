"""What a gevent loop says to nonsense: prints, as JSON, what became of each case, by name.

`bad_input.py GROUP...` runs on any loop of gevent's (`GEVENT_LOOP`), all groups but the last ones, which gevent's own
loop does not survive. An outcome is the class of what was raised, or what came back, as text.
"""

import contextlib
import gc
import json
import os
import sys
import tempfile
import threading

import gevent

NAN, INF = float("nan"), float("inf")
hub = gevent.get_hub()
loop = hub.loop
outcomes = {}
handled = []
hub.handle_error = lambda context, kind, value, tb: handled.append(kind.__name__)


def noop(*_args):
    """A callback."""


def case(name, call, *args, **kwargs):
    """Notes what becomes of a call."""
    try:
        value = call(*args, **kwargs)
    except BaseException as error:
        outcomes[name] = type(error).__name__
        return None
    outcomes[name] = repr(value) if isinstance(value, (bool, int, float, str, type(None))) else "made"
    if hasattr(value, "close"):
        with contextlib.suppress(ValueError):  # libev's watcher of a destroyed loop.
            value.close()


def started(name, watcher, *args):
    """Notes what becomes of a start, and what the watcher is like then."""
    case(name, watcher.start, *(args or (noop,)))
    outcomes[name] += " active" if watcher.active else ""
    watcher.close()


def called(name, watcher, patience=1.0):
    """Notes whether the watcher calls back."""
    calls = []
    watcher.start(calls.append, 1)
    with gevent.Timeout(patience, False):
        while not calls:
            gevent.sleep(0.001)
    outcomes[name] = "called" if calls else "not called"
    watcher.close()


def closed_fd():
    reader, writer = os.pipe()
    os.close(writer)
    os.close(reader)
    return reader


def setting(watcher, name, value):
    setattr(watcher, name, value)
    return getattr(watcher, name)


def descriptors():
    for name, fd in {
        "negative": -1, "very negative": -(2**31), "closed": closed_fd(), "above the limit": 2**30,
        "not 32 bits": 2**31, "text": "x", "None": None, "a float": 1.5,
    }.items():  # fmt: skip
        case(f"io {name}", loop.io, fd, 1)
    for events in (0, 4, 64, 2**31, -1, "x"):
        case(f"io events {events}", loop.io, 0, events)
    with tempfile.TemporaryFile() as file:
        called("io of a file", loop.io(file.fileno(), 1))
        called("io of a file, for writing", loop.io(file.fileno(), 2))
    directory = os.open("/", os.O_RDONLY)
    called("io of a directory", loop.io(directory, 1))
    os.close(directory)
    null = os.open("/dev/null", os.O_RDWR)
    called("io of /dev/null", loop.io(null, 3))
    os.close(null)
    reader, writer = os.pipe()
    watcher = loop.io(reader, 1)
    case("io set fd negative", setting, watcher, "fd", -5)
    case("io set events", setting, watcher, "events", 2)
    case("io set events text", setting, watcher, "events", "x")
    watcher = loop.io(reader, 1)
    watcher.start(noop)
    case("io set fd while active", setting, watcher, "fd", writer)
    case("io set events while active", setting, watcher, "events", 2)
    case("io priority while active", setting, watcher, "priority", 1)
    watcher.close()
    case("io start None", loop.io(reader, 1).start, None)
    case("io start 5", loop.io(reader, 1).start, 5)
    case("io start without anything", loop.io(reader, 1).start)
    os.close(reader)
    os.close(writer)


def times():
    for name, value in {"negative": -1.0, "inf": INF, "minus inf": -INF, "huge": 1e300}.items():
        started(f"timer after {name}", loop.timer(value))
        if value > 0:
            started(f"timer repeat {name}", loop.timer(0, value))
        else:
            case(f"timer repeat {name}", loop.timer, 0, value)
    for name, value in {"text": "x", "None": None}.items():
        case(f"timer after {name}", loop.timer, value)
        case(f"timer repeat {name}", loop.timer, 0, value)
    called("a negative timer fires", loop.timer(-1))
    called("timer inf fires", loop.timer(INF), 0.02)
    started("timer start None", loop.timer(0), None)
    timer = loop.timer(0)
    case("timer again without repeat", timer.again, noop)
    outcomes["timer again without repeat"] += " active" if timer.active else ""
    timer.close()
    case("timer again None", loop.timer(0, 1).again, None)
    case("sleep negative", gevent.sleep, -1)


def signals():
    for number in (0, -1, 65, 1000, 2**31, "x", None):
        case(f"signal {number}", loop.signal, number)
    for number in (9, 19):
        watcher = loop.signal(number)
        case(f"signal {number} stop", watcher.stop)


def children():
    case("child -1", loop.child, -1)
    case("child text", loop.child, "x")
    case("child without a pid", loop.child)
    other = type(loop)(default=False)
    case("child of another loop", other.child, 1)
    case("install_sigchld of another loop", other.install_sigchld)
    other.destroy()


def files():
    for name, path in {"None": None, "number": 5, "bytes": b"/", "nul": "\0"}.items():
        case(f"stat {name}", loop.stat, path)
    for name, interval in {"negative": -1.0, "nan": NAN, "text": "x"}.items():
        case(f"stat interval {name}", loop.stat, "/", interval)
    started("stat of nothing", loop.stat("/no/such/file"))


def attributes():
    for priority in (3, -3, 1000, "x"):
        case(f"priority {priority}", loop.timer, 0, priority=priority)
    timer = loop.timer(0)
    case("args a list", setting, timer, "args", [1])
    case("callback 5", setting, timer, "callback", 5)
    case("callback None", setting, timer, "callback", None)
    case("args None", setting, timer, "args", None)
    case("ref text", setting, timer, "ref", "")
    case("feed", lambda: hasattr(timer, "feed"))
    case("set loop", setting, timer, "loop", 5)
    case("set active", setting, timer, "active", True)
    case("set pending", setting, timer, "pending", True)


def closed():
    """A closed watcher may be started again."""
    reader, writer = os.pipe()
    for watcher in (
        loop.io(reader, 1), loop.timer(5), loop.signal(28), loop.idle(), loop.prepare(), loop.check(), loop.fork(),
        loop.async_(), loop.stat("/"), loop.child(os.getpid()),
    ):  # fmt: skip
        name = type(watcher).__name__
        watcher.start(noop)
        watcher.close()
        case(f"closed {name} close", watcher.close)
        case(f"closed {name} stop", watcher.stop)
        case(f"closed {name} active", lambda watcher=watcher: watcher.active)
        case(f"closed {name} callback", lambda watcher=watcher: watcher.callback)
        case(f"closed {name} args", lambda watcher=watcher: watcher.args)
        case(f"closed {name} ref", setting, watcher, "ref", False)
        if hasattr(watcher, "send"):
            case(f"closed {name} send", watcher.send)
        started(f"closed {name} start", watcher)
    os.close(reader)
    os.close(writer)


def errors():
    """An exception in a callback goes to the hub, and stops nothing else."""
    reader, writer = os.pipe()
    os.write(writer, b"x")
    after = []

    def fail(*_args):
        raise LookupError

    watchers = [
        loop.io(reader, 1), loop.io(writer, 2), loop.timer(0), loop.idle(), loop.prepare(), loop.check(), loop.async_(),
    ]  # fmt: skip
    for watcher in watchers:
        handled.clear()
        name = type(watcher).__name__
        watcher.start(fail)
        if hasattr(watcher, "send"):
            watcher.send()
        gevent.sleep(0.002)
        outcomes[f"failing {name}"] = f"{sorted(set(handled))} {'active' if watcher.active else 'stopped'}"
        watcher.close()
    handled.clear()
    for function in (5, None, fail, after.append):
        case(f"run_callback {getattr(function, '__name__', function)}", loop.run_callback, function, 1)
    gevent.sleep(0.002)
    outcomes["failing callbacks"] = f"{handled} {after}"
    case("run_callback without a function", loop.run_callback)
    case("run_callback with keywords", loop.run_callback, noop, x=1)
    os.close(reader)
    os.close(writer)


def destroyed():
    """Everything about a loop that is over."""
    reader, writer = os.pipe()
    other = type(loop)(default=False)
    watchers = [
        other.io(reader, 1), other.timer(5), other.idle(), other.prepare(), other.check(), other.fork(), other.async_(),
        other.stat("/"),
    ]  # fmt: skip
    running = [other.timer(5), other.io(writer, 2)]
    for watcher in running:
        watcher.start(noop)
    callback = other.run_callback(noop)
    other.destroy()
    case("destroyed twice", other.destroy)
    for name, args in {
        "run": (), "io": (reader, 1), "timer": (0,), "signal": (28,), "idle": (), "prepare": (), "check": (),
        "fork": (), "async_": (), "stat": ("/",), "run_callback": (noop,), "run_callback_threadsafe": (noop,),
        "now": (), "update_now": (), "update": (), "ref": (), "unref": (), "break_": (), "reinit": (), "verify": (),
        "closing_fd": (reader,), "fileno": (), "install_sigchld": (),
        "handle_error": (None, KeyError, KeyError(), None),
    }.items():  # fmt: skip
        case(f"destroyed loop {name}", getattr(other, name), *args)
    plain = (
        "default",
        "backend",
        "backend_int",
        "iteration",
        "depth",
        "pendingcnt",
        "activecnt",
        "error_handler",
        "ptr",
    )
    for name in plain:
        case(f"destroyed loop {name}", lambda name=name: getattr(other, name))
    case("destroyed loop repr", lambda: "destroyed" in repr(other))
    for watcher in watchers:
        name = type(watcher).__name__
        case(f"{name} of a destroyed loop, start", watcher.start, noop)
        case(f"{name} of a destroyed loop, stop", watcher.stop)
        case(f"{name} of a destroyed loop, close", watcher.close)
        case(f"{name} of a destroyed loop, repr", lambda watcher=watcher: bool(repr(watcher)))
        case(f"{name} of a destroyed loop, active", lambda watcher=watcher: watcher.active)
        case(f"{name} of a destroyed loop, ref", setting, watcher, "ref", False)
        if hasattr(watcher, "send"):
            case(f"{name} of a destroyed loop, send", watcher.send)
    for watcher in running:
        name = type(watcher).__name__
        case(f"running {name} of a destroyed loop, stop", watcher.stop)
        case(f"running {name} of a destroyed loop, active", lambda watcher=watcher: watcher.active)
    case("callback of a destroyed loop", callback.stop)
    other = watchers = running = watcher = callback = None
    gc.collect()
    os.close(reader)
    os.close(writer)


# What gevent's own loop does not survive, or does not promise.


def numbers():
    for name, arguments in {"after": (NAN,), "repeat": (0, NAN)}.items():
        case(f"timer {name} nan", loop.timer, *arguments)
    case("sleep nan", gevent.sleep, NAN)
    case("Timeout nan", lambda: gevent.Timeout.start_new(NAN))
    watcher = loop.io(0, 1)
    for name, fd in {"above the limit": 2**31 - 1, "closed": closed_fd()}.items():
        case(f"io set fd {name}", setting, watcher, "fd", fd)
        started(f"io start after fd {name}", watcher)
    for number in (9, 19):
        watcher = loop.signal(number)
        started(f"signal {number} start", watcher)
    started("child -1 start", loop.child(-1))


def threads():
    """A loop that belongs to another thread."""
    timer, reader = loop.timer(0), loop.io(0, 1)

    def there():
        for watcher in (timer, reader):
            name = type(watcher).__name__
            started(f"{name} start elsewhere", watcher)
            case(f"{name} stop elsewhere", watcher.stop)
        case("run elsewhere", loop.run, nowait=True)
        case("child elsewhere", gevent.get_hub().loop.child, 1)
        gevent.get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=there)
    thread.start()
    thread.join()
    calls = []
    timer.start(calls.append, 1)
    thread = threading.Thread(target=loop.run_callback_threadsafe, args=(calls.append, 2))
    thread.start()
    gevent.sleep(0.01)
    outcomes["callbacks of both threads"] = repr(sorted(calls))


def ends():
    """Loops and hubs that end in the middle of something."""
    other = type(loop)(default=False)
    timer = other.timer(0)

    def run_again():
        inner = other.timer(0)
        inner.start(other.destroy)
        other.run(nowait=True)

    # Something to go on for, if the loop did not know that it is over.
    other.ref()
    timer.start(run_again)
    case("destroyed by a run within a run", other.run)
    case("destroyed by a run within a run, default", lambda: other.ptr)
    # An event that waits behind the one that ends the hub (whose own handler has to know of that).
    del hub.handle_error
    reader, writer = os.pipe()
    os.write(writer, b"x")
    calls = []
    watcher = loop.io(reader, 1, priority=-2)
    watcher.start(calls.append, 1)
    while not watcher.pending:
        gevent.sleep(0.0001)
    calls.clear()
    gevent.get_hub().destroy()
    gevent.sleep(0.005)
    case("events after the end of a hub", lambda: bool(calls))
    watcher.close()
    # Loops that are forgotten leave nothing behind that a signal could meet.
    files = set(os.listdir("/proc/self/fd"))
    with_watcher, without = type(loop)(default=True), type(loop)(default=True)
    with_watcher.signal(28).start(noop)
    without.install_sigchld()
    del with_watcher, without
    gc.collect()
    outcomes["descriptors of forgotten loops"] = repr(len(set(os.listdir("/proc/self/fd")) - files))
    started("a forgotten loop's signal", loop.signal(28))
    case("a forgotten loop's children", loop.install_sigchld)


GROUPS = (descriptors, times, signals, children, files, attributes, closed, errors, destroyed)
OWN_GROUPS = (numbers, threads, ends)


def main():
    groups = {group.__name__: group for group in GROUPS + OWN_GROUPS}
    for name in sys.argv[1:]:
        groups[name]()
    # It works as ever.
    called("a timer in the end", gevent.get_hub().loop.timer(0.001))
    json.dump(outcomes, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
