"""What gevent and the patched standard library offer, used inside requests."""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import queue  # noqa: E402
import socket  # noqa: E402
import subprocess  # noqa: E402
import threading  # noqa: E402

import gevent  # noqa: E402
import gevent.lock  # noqa: E402
import gevent.pool  # noqa: E402
import gevent.queue  # noqa: E402
import gevent.select  # noqa: E402
from coop import PATIENCE_S, app, meetings  # noqa: E402
from gevent.event import AsyncResult, Event  # noqa: E402
from routes import parameter  # noqa: E402

native_sleep = monkey.get_original("time", "sleep")
pipes = {"gevent": gevent.queue.Queue(), "patched": queue.Queue()}
results = {}
shared_lock = threading.Lock()


@app.text("/pool")
def pool(environ):
    """?size=: maps over a pool; the most greenlets that it ran at once, and the sum."""
    running = most = 0

    def square(number):
        nonlocal running, most
        running += 1
        most = max(most, running)
        gevent.sleep(0.001)
        running -= 1
        return number * number

    total = sum(gevent.pool.Pool(int(parameter(environ, "size"))).imap_unordered(square, range(20)))
    return f"{most} {total}"


@app.text("/put")
def put(environ):
    """?kind=&item=: into a queue of the process."""
    pipes[parameter(environ, "kind")].put(parameter(environ, "item"))
    return "ok"


@app.text("/take")
def take(environ):
    """?kind=: what `/put` brings, waiting for it."""
    return pipes[parameter(environ, "kind")].get(timeout=PATIENCE_S)


@app.text("/result")
def result(environ):
    """?name=: waits for `/set-result`."""
    with gevent.Timeout(PATIENCE_S):
        return results.setdefault(parameter(environ, "name"), AsyncResult()).get()


@app.text("/set-result")
def set_result(environ):
    results.setdefault(parameter(environ, "name"), AsyncResult()).set(parameter(environ, "value"))
    return "ok"


@app.text("/timeout")
def timeout(environ):
    """?s=: waits that would be for ever, ended by a silent Timeout, by one that raises, and by a socket's own."""
    seconds, ends = float(parameter(environ, "s")), []
    with gevent.Timeout(seconds, False):
        Event().wait()
        ends.append("never")
    try:
        gevent.with_timeout(seconds, gevent.sleep, PATIENCE_S)
    except gevent.Timeout:
        ends.append("raised")
    try:
        left, right = socket.socketpair()
        with left, right:
            left.settimeout(seconds)
            left.recv(1)
    except TimeoutError:
        ends.append("socket")
    return ",".join(ends)


@app.text("/child")
def child(environ):
    """?name=&n=: a child that answers only after n requests have started theirs."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        meetings.join(parameter(environ, "name"), int(parameter(environ, "n")))
        out, _ = process.communicate(b"from the child", timeout=PATIENCE_S)
    return f"{out.decode()} {process.returncode}"


@app.text("/status")
def status(environ):
    """?code=: the exit status of a shell."""
    return str(subprocess.run(["sh", "-c", f"exit {parameter(environ, 'code')}"], check=False).returncode)


@app.text("/fork")
def fork(environ):
    """A forked child, waited for."""
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


native_present = []


@app.text("/threadpool")
def threadpool(environ):
    """?n=: native threads that see each other, one for each of n requests."""
    count = int(parameter(environ, "n"))

    def task():
        native_present.append(threading.get_ident())
        for _ in range(int(PATIENCE_S / 0.01)):
            if len(native_present) >= count:
                return "together"
            native_sleep(0.01)
        return "alone"

    return gevent.get_hub().threadpool.apply(task)


@app.text("/thread")
def thread(environ):
    """Threads of the patched module: their sum under a lock."""
    total = [0]

    def add():
        with shared_lock:
            before = total[0]
            gevent.sleep(0)
            total[0] = before + 1

    threads = [threading.Thread(target=add) for _ in range(10)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return str(total[0])


@app.text("/resolve")
def resolve(environ):
    """The addresses of localhost."""
    return ",".join(sorted({entry[4][0] for entry in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}))


@app.text("/select")
def select(environ):
    """The patched select, on a pipe that is written to while it waits."""
    reader, writer = os.pipe()
    try:
        gevent.spawn_later(0.005, os.write, writer, b"x")
        return str(gevent.select.select([reader], [], [], PATIENCE_S)[0] == [reader])
    finally:
        os.close(reader)
        os.close(writer)
