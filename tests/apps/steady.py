"""An application for tests under load: each answer can be verified, and tells which process gave it."""

import hashlib
import os
import signal
import time

from routes import Routes, parameter, plain

app = Routes()
BLOCK_BYTES = 8192
# Between two blocks of a streamed answer.
PRODUCE_S = 0.002


def block(token, number):
    """One block of a streamed answer: no two are equal, of all answers that a test asks for."""
    text = f"{token}:{number};".encode()
    return (text * (BLOCK_BYTES // len(text) + 1))[:BLOCK_BYTES]


def tell(start_response, body):
    """Answer with the process id in a field of its own."""
    return plain(start_response, body, headers=[("X-Pid", str(os.getpid()))])


@app.route("/echo")
def echo(environ, start_response):
    """?token=TOKEN&s=SECONDS: the token, after a while."""
    time.sleep(float(parameter(environ, "s", "0")))
    return tell(start_response, parameter(environ, "token"))


@app.route("/begun")
def begun(environ, start_response):
    """As `/echo`, after it has made the file `begun-TOKEN` so that the test knows that it runs. Nothing else of its
    thread runs meanwhile, also where gevent has patched `time.sleep`."""
    with open("begun-" + parameter(environ, "token"), "w"):
        pass
    signal.sigtimedwait([], float(parameter(environ, "s", "0")))
    return tell(start_response, parameter(environ, "token"))


@app.route("/until")
def until(environ, start_response):
    """As `/begun`, until the file `over-TOKEN` is there."""
    token = parameter(environ, "token")
    with open("begun-" + token, "w"):
        pass
    while not os.path.exists("over-" + token):
        signal.sigtimedwait([], 0.01)
    return tell(start_response, token)


@app.route("/fork")
def fork(environ, start_response):
    """The threads of a forked child, and those that its parent has at that moment."""
    child = os.fork()
    if child == 0:
        os._exit(len(os.listdir("/proc/self/task")))
    threads = len(os.listdir("/proc/self/task"))
    _, status = os.waitpid(child, 0)
    return tell(start_response, f"{os.waitstatus_to_exitcode(status)} {threads}")


@app.route("/digest")
def digest(environ, start_response):
    """The digest of an upload, read block by block."""
    found = hashlib.sha256()
    while piece := environ["wsgi.input"].read(65536):
        found.update(piece)
    return tell(start_response, found.hexdigest())


@app.route("/stream")
def stream(environ, start_response):
    """?token=TOKEN&n=N: N blocks, made one by one and slowly."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Pid", str(os.getpid()))])
    token = parameter(environ, "token")
    for number in range(int(parameter(environ, "n"))):
        time.sleep(PRODUCE_S)
        yield block(token, number)


@app.route("/crash")
def crash(environ, start_response):
    """The worker is gone at once, whatever it has in progress."""
    os._exit(9)
