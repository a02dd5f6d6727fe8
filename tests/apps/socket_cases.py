"""What gevent's sockets do, case by case, as JSON: the same on every loop, and with rgunicorn's methods or without.

Each case is a function that returns what it has seen; waits are for events, and time-outs are there to be raised.
"""

import json
import select

import gevent
from gevent import monkey

monkey.patch_all()

import socket  # noqa: E402

BIG = bytes(range(256)) * 40_000  # more than socket buffers take


def pair():
    one, other = socket.socketpair()
    return one, other


def raised(call, *args):
    """The exception of a call, in words; its result if there is none."""
    try:
        return repr(call(*args))
    except BaseException as error:
        return [type(error).__name__, str(error), getattr(error, "errno", None)]


def drain(sock, count):
    found = bytearray()
    while len(found) < count:
        piece = sock.recv(65536)
        if not piece:
            break
        found += piece
    return bytes(found)


def case_sizes():
    one, other = pair()
    other.sendall(b"0123456789")
    found = [one.recv(3), one.recv(0), one.recv(100)]
    found += [raised(one.recv, -1), raised(one.recv, "1"), raised(one.recv), raised(one.recv, 1, 0, 0)]
    other.sendall(b"abc")
    found += [one.recv(2, socket.MSG_PEEK), one.recv(2, 0), one.recv(True)]
    other.close()
    return found + [one.recv(10), one.recv(70_000)]


def case_into():
    one, other = pair()
    buffer = bytearray(8)
    other.sendall(b"0123456789abcdef")
    found = [one.recv_into(buffer), bytes(buffer), one.recv_into(buffer, 3), bytes(buffer)]
    found += [one.recv_into(memoryview(buffer)[2:4]), bytes(buffer), one.recv_into(buffer, 0), bytes(buffer)]
    found += [raised(one.recv_into, b"read only"), raised(one.recv_into, buffer, -1), raised(one.recv_into, buffer, 9)]
    found += [raised(one.recv_into, None), raised(one.recv_into), raised(one.recv_into, bytearray())]
    reader = gevent.spawn(one.recv_into, buffer)
    gevent.sleep(0)
    found.append(raised(buffer.append, 1))
    other.sendall(b"xyz")
    reader.join()
    return [*found, reader.value, bytes(buffer[:3])]


def case_waits():
    one, other = pair()
    readers = [gevent.spawn(one.recv, 10)]
    gevent.sleep(0)
    second = raised(one.recv, 10)[:1]
    other.sendall(b"late")
    gevent.joinall(readers)
    other.sendall(b"again")
    return [readers[0].value, second, one.recv(10)]


def case_timeouts():
    one, other = pair()
    found = []
    for timeout in (0.01, 0, 0.0):
        one.settimeout(timeout)
        found += [raised(one.recv, 10), raised(one.recv_into, bytearray(4))]
    one.settimeout(5)
    gevent.spawn(other.sendall, b"in time")
    found.append(one.recv(100))
    reader = gevent.spawn(raised, one.recv, 10)
    gevent.sleep(0)
    found.append(raised(one.recv, 10)[0])
    reader.kill()
    closed = gevent.spawn(raised, one.dup().recv, 10)
    gevent.sleep(0)
    other.sendall(b"for both")
    found += [closed.get(), raised(one.settimeout, -1), raised(one.settimeout, float("inf"))]
    one.settimeout(1e9)
    gevent.spawn(other.sendall, b"long")
    found.append(one.recv(100))
    one.settimeout(None)
    with gevent.Timeout(0.01, False):
        one.recv(10)
        found.append("never")
    try:
        with gevent.Timeout(0.01):
            one.recv(10)
    except gevent.Timeout as timeout:
        found.append(timeout.seconds)
    other.sendall(b"kept")
    return [*found, one.recv(10)]


def case_kill():
    one, other = pair()
    reader = gevent.spawn(one.recv, 10)
    gevent.sleep(0)
    reader.kill()
    other.sendall(b"not lost")
    thrower = gevent.spawn(one.recv, 3)
    gevent.sleep(0)
    return [repr(reader.value), thrower.get(), one.recv(10)]


def case_close():
    found = []
    for act in ("close", "detach", "shutdown"):
        one, other = pair()
        reader = gevent.spawn(raised, one.recv, 10)
        gevent.sleep(0)
        fd = None
        if act == "shutdown":
            one.shutdown(socket.SHUT_RDWR)
        else:
            fd = getattr(one, act)()
        reader.join()
        found += [reader.value, raised(one.recv, 1), raised(one.send, b"x"), raised(one.sendall, b"x")]
        found.append(raised(one.recv_into, bytearray(1)))
        if isinstance(fd, int):
            socket.socket(fileno=fd).close()
        other.close()
    return found


def case_sends():
    one, other = pair()
    found = [one.send(b"12"), one.send(b""), one.sendall(b""), one.sendall(b"345"), one.send(memoryview(b"6"))]
    found += [one.sendall(bytearray(b"78")), one.send(b"9", 0), drain(other, 9)]
    found += [raised(one.send, "text"), raised(one.sendall, None), raised(one.send), raised(one.sendall)]
    for method in (one.send, one.sendall):
        one.settimeout(0)
        while (sent := raised(method, b"x" * 65536)) and not isinstance(sent, list):
            pass
        found.append(sent)
        one.settimeout(0.01)
        found.append(raised(one.sendall, b"y" * 1000))
        gevent.spawn(raised, drain, other, 10**9)
        gevent.sleep(0.05)
    other.close()
    one.settimeout(None)
    return [*found, raised(one.send, b"x"), raised(one.sendall, b"x")]


def case_large():
    one, other = pair()
    found = []
    for sent in (BIG, bytearray(BIG), memoryview(BIG)):
        reader = gevent.spawn(drain, other, len(BIG))
        found += [one.sendall(sent), reader.get() == BIG]
    readers = [gevent.spawn(drain, sock, len(BIG)) for sock in (one, other)]
    writers = [gevent.spawn(sock.sendall, BIG) for sock in (one, other)]
    gevent.joinall(readers + writers)
    return found + [reader.value == BIG for reader in readers]


def case_files():
    one, other = pair()
    reader, writer = one.makefile("rb"), other.makefile("wb")
    lines = gevent.spawn(lambda: [reader.readline() for _ in range(3)])
    for line in (b"one\n", b"two\n", b"x" * 20_000 + b"\n"):
        writer.write(line)
        writer.flush()
        gevent.sleep(0)
    found = [[len(line) for line in lines.get()]]
    one.close()
    writer.write(b"after\n")
    writer.flush()
    found.append(reader.readline())
    reader.close()
    return [*found, raised(one.recv, 1)]


def case_resets():
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    served, _ = listener.accept()
    served.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    reader = gevent.spawn(raised, client.recv, 10)
    gevent.sleep(0)
    served.close()
    found = [reader.get(), client.recv(10)]
    return [*found, raised(client.send, b"x"), raised(socket.socket().recv, 1), raised(socket.socket().send, b"x")]


def case_datagrams():
    one, other = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    one.bind(("127.0.0.1", 0))
    other.bind(("127.0.0.1", 0))
    one.connect(other.getsockname())
    reader = gevent.spawn(other.recvfrom, 100)
    gevent.sleep(0)
    one.send(b"datagram")
    data, address = reader.get()
    one.send(b"longer than asked for")
    one.send(b"")
    one.sendall(b"all")
    return [data, address == one.getsockname(), other.recv(6), other.recv(10), other.recv(10)]


def case_classes():
    class Shouting(socket.socket):
        def recv(self, *args):
            return super().recv(*args).upper()

        def send(self, data, *args):
            return super().send(bytes(data).upper(), *args)

    one, other = pair()
    loud = Shouting(fileno=one.detach())
    writer = gevent.spawn(loud.sendall, b"sent")
    found = [other.recv(10), writer.get()]
    reader = gevent.spawn(loud.recv, 10)
    gevent.sleep(0)
    other.sendall(b"received")
    twin = other.dup()
    found += [reader.get(), twin.send(b"twin"), loud.recv(10)]
    return [*found, type(loud.dup()).__name__]


def case_selects():
    one, other = pair()
    waiting = gevent.spawn(select.select, [one], [], [], 5)
    gevent.sleep(0)
    other.sendall(b"both")
    found = [len(ready) for ready in waiting.get()]
    return [*found, one.recv(10)]


def case_threads():
    """A hub of its own in another thread, and a socket of this one's hub there."""
    found, (one, other) = [], pair()

    def there():
        mine, theirs = pair()
        gevent.spawn_later(0.01, theirs.sendall, b"there")
        found.append(mine.recv(10))
        found.append(one.recv(10))

    other.sendall(b"here")
    gevent.get_hub().threadpool.spawn(there).get()
    return found


def plain(value):
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def main():
    cases = {name: call for name, call in globals().items() if name.startswith("case_")}
    found = {}
    for name, call in cases.items():
        with gevent.Timeout(20, RuntimeError(name)):
            found[name] = plain(call())
    methods = [type(getattr(socket.socket, name)).__name__ for name in ("recv", "recv_into", "send", "sendall")]
    print(json.dumps({"loop": type(gevent.get_hub().loop).__module__, "methods": methods, "found": found}))


if __name__ == "__main__":
    main()
