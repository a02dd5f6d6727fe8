"""A monitoring agent in small: it comes into a program by PYTHONPATH, wraps its application and counts what it does.

It does what such agents were seen to do, each by its own means:

- An import hook wraps what a method of `gunicorn.app` returns when that module is imported (`AGENT_DOOR`).
- A thread that is started in the master, and again in each fork, collects records; it writes them at exit.
- A transaction ends when the server closes what the application has returned. `wsgi.input` is wrapped, too.
- With `AGENT_UNLOADS`, modules that Python has loaded for the agent are forgotten again, `threading` among them, so
  that gevent finds none that it would have to patch.
- With `AGENT_IMPORTS`, a module is imported before the program begins.

The records are lines of JSON in `agent-PID.txt`; at the end of each transaction `ended-PID.txt` grows by a byte.
"""

import atexit
import importlib
import importlib.abc
import importlib.util
import json
import os
import queue
import sys
import threading

DOOR = os.environ.get("AGENT_DOOR", "gunicorn.app.base:Application.wsgi")


class Sender:
    """Collects records in a thread of each process, and writes them at its end."""

    def __init__(self):
        self.begin()
        os.register_at_fork(after_in_child=self.begin)
        atexit.register(self.end)

    def begin(self):
        self.waiting = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.run, name="agent", daemon=True)
        self.thread.start()

    def run(self):
        waiting, records = self.waiting, []
        while (record := waiting.get()) is not None:
            records.append(json.dumps(record) + "\n")
        with open(f"agent-{os.getpid()}.txt", "w") as file:
            file.writelines(records)

    def send(self, record):
        self.waiting.put(record)
        with open(f"ended-{os.getpid()}.txt", "a") as file:
            file.write(".")

    def end(self):
        self.waiting.put(None)
        self.thread.join()


class Input:
    """The body of a request, counted."""

    def __init__(self, wrapped, transaction):
        self.wrapped, self.transaction = wrapped, transaction

    def counted(self, data):
        self.transaction["read"] += len(data)
        return data

    def read(self, *args):
        return self.counted(self.wrapped.read(*args))

    def readline(self, *args):
        return self.counted(self.wrapped.readline(*args))

    def __iter__(self):
        return map(self.counted, self.wrapped)


class Output:
    """What the application has returned; the transaction ends with it."""

    def __init__(self, wrapped, transaction):
        self.wrapped, self.transaction = wrapped, transaction

    def __iter__(self):
        try:
            for data in self.wrapped:
                self.transaction["sent"] += len(data)
                yield data
        except Exception as error:
            self.transaction["error"] = type(error).__name__
            raise

    def close(self):
        try:
            getattr(self.wrapped, "close", lambda: None)()
        finally:
            sender.send(self.transaction)


def wrapped(application):
    """The application, watched."""

    def watched(environ, start_response):
        transaction = {"path": environ["PATH_INFO"], "status": None, "error": None, "read": 0, "sent": 0}
        transaction["dispatcher"] = dispatcher()

        def start(status, headers, *args):
            transaction["status"] = int(status[:3])
            return start_response(status, headers, *args)

        environ["wsgi.input"] = Input(environ["wsgi.input"], transaction)
        try:
            output = application(environ, start)
        except Exception as error:
            transaction["error"] = type(error).__name__
            sender.send(transaction)
            raise
        return Output(output, transaction)

    return watched


def dispatcher():
    """The server, as an agent tells it by the modules that are loaded."""
    if "gunicorn" not in sys.modules:
        return None
    return "gunicorn (gevent)" if "gunicorn.workers.ggevent" in sys.modules else "gunicorn"


def wrap(module, path):
    """Wrap what a method of a class returns."""
    kind, _, method = path.partition(".")
    original = getattr(getattr(module, kind), method)
    setattr(getattr(module, kind), method, lambda *args, **kwargs: wrapped(original(*args, **kwargs)))


class Loader(importlib.abc.Loader):
    """The module's own loader, and then the hook."""

    def __init__(self, loader, path):
        self.loader, self.path = loader, path

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        wrap(module, self.path)


class Finder(importlib.abc.MetaPathFinder):
    """Waits for one module, and lets the other finders find it."""

    def __init__(self, door):
        self.name, _, self.path = door.partition(":")

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None:
            spec.loader = Loader(spec.loader, self.path)
        return spec


sys.meta_path.insert(0, Finder(DOOR))
sender = Sender()
for name in os.environ.get("AGENT_IMPORTS", "").split():
    importlib.import_module(name)
for name in os.environ.get("AGENT_UNLOADS", "").split():
    for known in [known for known in sys.modules if known == name or known.startswith(f"{name}.")]:
        del sys.modules[known]
