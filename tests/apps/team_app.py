"""The application of the configuration files in tests/confs, with what teams keep in such modules."""

import gc
import json
import os
import time

from routes import Routes, parameter, plain

app = Routes()
IMPORTED_IN = os.getpid()


class Engine:
    """Stands for a pool of database connections: which process opened them, and how often they were dropped."""

    def __init__(self):
        self.opened_in = os.getpid()
        self.disposals = 0

    def dispose(self, close=True):
        self.opened_in = None
        self.disposals += 1


engine = Engine()


@app.text("/")
def index(environ):
    return "hello"


@app.text("/health")
def health(environ):
    return "healthy"


@app.text("/engine")
def show_engine(environ):
    """Where the module was imported and where its connections were opened."""
    return json.dumps([IMPORTED_IN, engine.opened_in, engine.disposals])


@app.text("/environ")
def show_environ(environ):
    """The environ, as far as it is text."""
    return json.dumps({key: value for key, value in environ.items() if isinstance(value, str)})


@app.text("/env")
def env(environ):
    return os.environ.get(parameter(environ, "name"), "unset")


@app.text("/print")
def say(environ):
    print(parameter(environ, "text"), flush=True)
    return "printed"


@app.text("/gc")
def show_gc(environ):
    return json.dumps([gc.get_freeze_count() > 0, gc.get_threshold()])


@app.text("/sleep")
def sleep(environ):
    """?s=SECONDS, after the file `started` was made."""
    with open("started", "w"):
        pass
    time.sleep(float(parameter(environ, "s", "1")))
    return str(os.getpid())


@app.text("/raise")
def fail(environ):
    raise ValueError("raised on purpose")


@app.route("/created")
def created(environ, start_response):
    return plain(start_response, "made", status="201 Created", headers=[("X-Made", "yes")])
