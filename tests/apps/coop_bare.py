"""An application that knows nothing of gevent: whether it runs in greenlets is the server's and its user's affair."""

import json
import os
import subprocess
import sys
import threading
import time

from routes import Routes, parameter

app = Routes()
PATIENCE_S = 15.0
PATCHED = "os queue select selectors signal socket ssl subprocess _thread threading time".split()
# Made at import, as applications do: of the patched kind only if patching came first.
barriers = {count: threading.Barrier(count) for count in (1, 4)}
import_lock = threading.Lock()


def is_patched(name):
    """Whether gevent has patched a module, asked without importing gevent."""
    monkey = sys.modules.get("gevent.monkey")
    return bool(monkey and monkey.is_module_patched(name))


at_import = {name: is_patched(name) for name in PATCHED}


@app.text("/patched")
def patched(environ):
    """What is patched now, and what was when this module was imported."""
    return json.dumps({"import": at_import, "now": {name: is_patched(name) for name in PATCHED}})


@app.text("/meet")
def meet(environ):
    """?n=: answers when n requests are in here at once."""
    barriers[int(parameter(environ, "n"))].wait(PATIENCE_S)
    with import_lock:
        time.sleep(0.001)
    return "met"


@app.text("/loop")
def loop(environ):
    """The module of the running gevent loop."""
    import gevent

    return type(gevent.get_hub().loop).__module__


@app.text("/child")
def child(environ):
    """What a Python program that the application starts says of its gevent and its environment."""
    code = "import os, gevent; gevent.sleep(0); print(type(gevent.get_hub().loop).__module__, os.getenv('GEVENT_LOOP'))"
    return subprocess.check_output([sys.executable, "-c", code], env=dict(os.environ))


@app.text("/multithread")
def multithread(environ):
    return str(environ["wsgi.multithread"])
