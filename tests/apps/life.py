"""An application for tests of processes: who answers, slow answers, workers that hang or die."""

import atexit
import faulthandler
import os
import signal
import sys
import time

from routes import Routes, parameter, plain

app = Routes()
# Which version of the application this is: a reload must bring the new text.
MARK = "version"


def read_mark():
    """The text of a file beside the server, as it was when the application was imported."""
    try:
        with open(MARK) as file:
            return file.read()
    except FileNotFoundError:
        return "none"


version = read_mark()


@atexit.register
def leave_a_trace():
    """Tells the test that atexit handlers of this process ran."""
    with open(f"atexit.{os.getpid()}", "w") as file:
        file.write("ran")


@app.text("/version")
def show_version(environ):
    return version


@app.text("/sleep")
def sleep(environ):
    """?s=SECONDS, then the pid."""
    time.sleep(float(parameter(environ, "s", "1")))
    return str(os.getpid())


@app.text("/started")
def started(environ):
    """As `/sleep`, after it has made the file `started` so that the test knows that it runs."""
    with open("started", "w"):
        pass
    return sleep(environ)


@app.text("/deaf")
def deaf(environ):
    """Hangs and ignores the abort signal: only SIGKILL helps."""
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    time.sleep(60)


@app.text("/die")
def die(environ):
    os._exit(7)


@app.text("/kill-self")
def kill_self(environ):
    os.kill(os.getpid(), signal.SIGKILL)


@app.text("/modules")
def modules(environ):
    """Whether a module is loaded, where the process is and what it is called: ?name=MODULE."""
    return "\n".join([str(parameter(environ, "name") in sys.modules), os.getcwd(), str(faulthandler.is_enabled())])


@app.text("/large")
def large(environ):
    return b"x" * 5_000_000


def create(word="default", *, suffix=""):
    """An application factory."""

    def made(environ, start_response):
        return plain(start_response, word + suffix)

    return made


not_callable = 42


@app.text("/argv")
def argv(environ):
    """The path of imports, one entry a line."""
    return "\n".join(sys.path)


@app.text("/env")
def env(environ):
    return os.environ.get(parameter(environ, "name"), "unset")
