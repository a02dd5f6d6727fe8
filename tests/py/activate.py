"""What a service manager does: opens sockets, names them in the environment and becomes the server.

`python activate.py [--pid PID] ADDRESS... -- COMMAND...`; an address is HOST:PORT or a path. Without --pid the sockets
are for the command itself. The first descriptor is 3, as sd_listen_fds(3) has it.
"""

import os
import socket
import sys

FIRST_FD = 3


def listener(address: str) -> socket.socket:
    """A socket that listens."""
    host, _, port = address.rpartition(":")
    family, name = (socket.AF_INET, (host, int(port))) if host else (socket.AF_UNIX, address)
    sock = socket.socket(family)
    sock.bind(name)
    sock.listen(64)
    return sock


def main() -> None:
    arguments = sys.argv[1:]
    pid = os.getpid()
    if arguments[0] == "--pid":
        pid = int(arguments[1])
        del arguments[:2]
    at = arguments.index("--")
    sockets = [listener(address) for address in arguments[:at]]
    # None of them may lie where another one is to be.
    spare = [os.dup(sock.fileno()) for sock in sockets for _ in range(2)]
    high = [os.dup(sock.fileno()) for sock in sockets]
    for offset, fd in enumerate(high):
        os.dup2(fd, FIRST_FD + offset)
    beyond = FIRST_FD + len(sockets)
    os.closerange(beyond, max([*spare, *high]) + 1)
    os.environ |= {"LISTEN_PID": str(pid), "LISTEN_FDS": str(len(sockets))}
    os.execvp(arguments[at + 1], arguments[at + 1 :])


if __name__ == "__main__":
    main()
