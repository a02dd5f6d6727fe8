"""Makes one GET request over a unix socket: ``get.py SOCKET PID``. Status 0 when the answer is 200.

Waits for the socket as long as the server PID lives, at most `WAIT_S`.
"""

import http.client
import os
import socket
import sys
import time

WAIT_S = 30.0  # importing a large application on a slow machine; a dead server is noticed at once
RETRY_S = 0.05


def connect(path: str, pid: int) -> socket.socket:
    """Connect to `path` once it accepts."""
    deadline = time.monotonic() + WAIT_S
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(path)
        except OSError as error:
            sock.close()
            os.kill(pid, 0)  # raises ProcessLookupError when the server has gone
            if time.monotonic() > deadline:
                raise TimeoutError(f"no server on {path} after {WAIT_S:.0f} s") from error
            time.sleep(RETRY_S)
        else:
            return sock


def main() -> int:
    """Make the request and print what came back."""
    path, pid = sys.argv[1], int(sys.argv[2])
    client = http.client.HTTPConnection("localhost")
    client.sock = connect(path, pid)
    client.sock.settimeout(WAIT_S)
    client.request("GET", "/")
    answer = client.getresponse()
    body = answer.read()
    print(f"{answer.status} {answer.reason}: {body[:60]!r}", file=sys.stderr)
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
