"""Exchanges over gevent's sockets whose greenlets are killed and timed out in the middle: no byte is lost or doubled.

    GEVENT_LOOP=rgunicorn.gevent.Loop python socket_stress.py EXCHANGES SEED

The bytes of each direction of a pair are those of a counter, so that each one tells its place. Readers are killed,
thrown at and timed out while they wait; what they have read by then counts. Prints what has happened.
"""

import json
import random
import sys

import gevent
from gevent import monkey

monkey.patch_all()

import socket  # noqa: E402

PAIRS = 16
PATTERN = bytes(range(251)) * 20  # longer than any read; 251 is prime: a shift shows
SIZE_MAX = 500


class Way:
    """One direction: how many bytes were sent, and read."""

    def __init__(self):
        self.sent = self.read = 0

    def next(self, size):
        at = self.sent % 251
        self.sent += size
        return PATTERN[at : at + size]

    def take(self, data):
        at = self.read % 251
        assert data == PATTERN[at : at + len(data)], ("wrong bytes", self.read, len(data))
        self.read += len(data)


def read_some(sock, way, chance, into):
    """Read once, in one of the ways."""
    if chance.random() < 0.5:
        way.take(sock.recv(chance.choice([10, 200, 4096])))
    else:
        count = sock.recv_into(into, chance.choice([0, 10, 200]))
        way.take(bytes(into[:count]))


def disturbed(sock, way, chance, counts):
    """Read with something that ends the wait, or does not."""
    into = bytearray(300)
    how = chance.random()
    if how < 0.7:
        return read_some(sock, way, chance, into)
    if how < 0.8:
        counts["timeouts"] += 1
        with gevent.Timeout(chance.choice([0.00001, 0.0005]), False):
            read_some(sock, way, chance, into)
    elif how < 0.9:
        counts["socket timeouts"] += 1
        sock.settimeout(chance.choice([0.0, 0.00001, 0.0005]))
        try:
            read_some(sock, way, chance, into)
        except (TimeoutError, BlockingIOError):
            pass
        finally:
            sock.settimeout(None)
    else:
        counts["kills"] += 1
        reader = gevent.spawn(read_some, sock, way, chance, into)
        gevent.sleep(0)
        reader.kill()
    return None


def end(sock, outgoing, incoming, exchanges, chance, counts):
    """One end of a pair: sends, and reads all that the other has sent."""
    for _ in range(exchanges):
        data = outgoing.next(chance.randrange(1, SIZE_MAX))
        if chance.random() < 0.5:
            sock.sendall(data)
        else:
            sent = 0
            while sent < len(data):
                sent += sock.send(data[sent:])
        while incoming.read < incoming.sent:
            disturbed(sock, incoming, chance, counts)
        counts["exchanges"] += 1
    sock.shutdown(socket.SHUT_WR)
    while data := sock.recv(4096):
        incoming.take(data)
    assert incoming.read == incoming.sent, ("lost", incoming.read, incoming.sent)


def main():
    exchanges, seed = int(sys.argv[1]), int(sys.argv[2])
    counts = {"exchanges": 0, "timeouts": 0, "socket timeouts": 0, "kills": 0}
    ends, ways = [], []
    for number in range(PAIRS):
        one, other = socket.socketpair()
        there, back = Way(), Way()
        ways += [there, back]
        each = exchanges // PAIRS // 2
        chance = random.Random(seed * 1000 + number)
        ends.append(gevent.spawn(end, one, there, back, each, chance, counts))
        ends.append(gevent.spawn(end, other, back, there, each, chance, counts))
    gevent.joinall(ends, raise_error=True)
    counts["bytes"] = sum(way.read for way in ways)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
