"""What an application can do to its worker by mistake, and workers that do not start."""

import ctypes
import os
import signal
import stat
import struct
import threading
import time

from routes import Routes, parameter

# Made by a test beside the server: from then on new workers end while they import this.
if os.path.exists("crashes"):
    os._exit(7)
if os.path.exists("broken"):
    raise RuntimeError("broken for now")

app = Routes()

FIRST = 3


def descriptors():
    """Number and link of everything that this process has open beyond the standard streams."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) >= FIRST:
            try:
                yield int(name), os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                continue


def close_where(wanted):
    closed = [fd for fd, link in list(descriptors()) if wanted(fd, link)]
    for fd in closed:
        os.close(fd)
    return str(len(closed))


@app.text("/closerange")
def closerange(environ):
    """As a program does that wants to be a daemon."""
    os.closerange(FIRST, 65536)
    return "closed"


@app.text("/close-driver")
def close_driver(environ):
    return close_where(lambda fd, link: link in ("anon_inode:[io_uring]", "anon_inode:[eventpoll]"))


@app.text("/close-listeners")
def close_listeners(environ):
    """Told from clients' sockets by what the kernel says of them."""
    import socket

    def listens(fd, link):
        if not link.startswith("socket:"):
            return False
        with socket.socket(fileno=os.dup(fd)) as sock:
            return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    return close_where(listens)


@app.text("/close-pipes")
def close_pipes(environ):
    """The one that signal handlers write to, both ends."""
    signal.set_wakeup_fd(-1)
    return close_where(lambda fd, link: stat.S_ISFIFO(os.fstat(fd).st_mode))


@app.text("/forbid-waits")
def forbid_waits(environ):
    """What a sandbox does that is tightened later: no wait of either driver is allowed any more."""
    libc = ctypes.CDLL(None, use_errno=True)
    denied = (426, 232, 281, 441)  # io_uring_enter, epoll_wait, epoll_pwait, epoll_pwait2
    load, jump, give = 0x20, 0x15, 0x06
    program = [struct.pack("HBBI", load, 0, 0, 0)]
    for index, number in enumerate(denied):
        program.append(struct.pack("HBBI", jump, len(denied) - index, 0, number))
    program.append(struct.pack("HBBI", give, 0, 0, 0x7FFF0000))
    program.append(struct.pack("HBBI", give, 0, 0, 0x00050000 | 1))
    code = ctypes.create_string_buffer(b"".join(program))
    head = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    # For all threads of the process.
    assert libc.syscall(317, 1, 1, ctypes.create_string_buffer(head)) == 0, ctypes.get_errno()
    return "forbidden"


@app.text("/fork")
def fork(environ):
    """A child that lives for long, and knows nothing of the server."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    return str(pid)


@app.text("/descriptors-of-a-child")
def descriptors_of_a_child(environ):
    """How many sockets a forked child has."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        count = sum(stat.S_ISSOCK(os.fstat(fd).st_mode) for fd, _ in list(descriptors()))
        os.write(writer, str(count).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with open(reader) as pipe:
        return pipe.read()


@app.text("/upload")
def upload(environ):
    return str(len(environ["wsgi.input"].read()))


@app.text("/sleep")
def sleep(environ):
    time.sleep(float(parameter(environ, "s", "0.1")))
    return "slept"


@app.text("/talk")
def talk(environ):
    environ["wsgi.errors"].write("said by the application\n" * 50)
    return str(threading.active_count())
