"""System calls that fail on demand, in any process of a server, from the outside.

A seccomp filter with user notification (seccomp_unotify(2)) stops chosen calls and asks this process about each: it
counts them, and lets them happen or fail. Nothing of the server knows about it, and calls that bypass the C library
(io_uring) are seen as well as its own. The filter is inherited: by workers, and by those that replace them.

As a program it is the wrapper of a server's command line: it puts itself under a filter, hands the descriptor of the
notifications over, and executes the command.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import platform
import select
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# The numbers are those of x86-64.
NUMBERS = {
    "read": 0, "write": 1, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10, "rt_sigaction": 13, "ioctl": 16,
    "pread64": 17, "pwrite64": 18, "madvise": 28, "sendfile": 40, "socket": 41, "sendto": 44, "recvfrom": 45,
    "sendmsg": 46, "shutdown": 48, "bind": 49, "listen": 50, "socketpair": 53, "setsockopt": 54, "getsockopt": 55,
    "clone": 56, "wait4": 61, "kill": 62, "fcntl": 72, "rename": 82, "unlink": 87, "fchmod": 91, "prctl": 157,
    "epoll_wait": 232, "epoll_ctl": 233, "openat": 257, "newfstatat": 262, "accept4": 288, "eventfd2": 290,
    "epoll_create1": 291, "dup3": 292, "pipe2": 293, "seccomp": 317, "memfd_create": 319, "membarrier": 324,
    "statx": 332, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "clone3": 435,
    "epoll_pwait2": 441,
}  # fmt: skip
# From <linux/seccomp.h>, <linux/prctl.h> and <linux/filter.h>.
SET_MODE_FILTER, NEW_LISTENER, WAIT_KILLABLE = 1, 1 << 3, 1 << 5
USER_NOTIF, ALLOW = 0x7FC00000, 0x7FFF0000
NO_NEW_PRIVS = 38
LOAD, JUMP_EQUAL, GIVE = 0x20, 0x15, 0x06
RECEIVE, ANSWER = 0xC0502100, 0xC0182101
NOTICE = struct.Struct("QIIiIQ6Q")
VERDICT = struct.Struct("QqiI")
GO_ON = 1


def available() -> str | None:
    """Why this machine cannot let system calls fail, if it cannot."""
    if platform.machine() != "x86_64":
        return "the numbers of system calls are those of x86-64"
    try:
        actions = Path("/proc/sys/kernel/seccomp/actions_avail").read_text().split()
    except OSError:
        return "a kernel without seccomp"
    return None if "user_notif" in actions else "a kernel without notifications of seccomp"


@dataclass
class Rule:
    """Calls that fail: of which process, with which number, from which one on, for good."""

    call: str
    errno: int
    # Whether the calls of this process (its pid) fail.
    hits: Callable[[int], bool]
    # The first call that fails.
    nth: int = 1
    # Of calls with these arguments only.
    args: Callable[[tuple[int, ...]], bool] = lambda args: True
    seen: int = 0
    failed: Counter[int] = field(default_factory=Counter)

    def verdict(self, pid: int, args: tuple[int, ...]) -> int:
        if not self.hits(pid) or not self.args(args):
            return 0
        self.seen += 1
        if self.seen < self.nth:
            return 0
        self.failed[pid] += 1
        return self.errno


class Denials:
    """Decides about the stopped calls of one server, in a thread of its own."""

    def __init__(self, workdir: Path, calls: list[str]):
        self.calls = calls
        self.rule: Rule | None = None
        self._processes: dict[int, int] = {}
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = str(workdir / "denials.sock")
        self._door.bind(self._path)
        self._door.listen(1)
        self._end, self._ending = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def prefix(self) -> list[str]:
        """What comes before the command line of the server."""
        return [sys.executable, __file__, self._path, ",".join(str(NUMBERS[call]) for call in self.calls)]

    def close(self) -> None:
        """Let all calls that are stopped from now on fail: the processes should be gone."""
        os.close(self._ending)
        self._thread.join()
        os.close(self._end)
        self._door.close()

    def _run(self) -> None:
        if select.select([self._door, self._end], [], [])[0] != [self._door]:
            return
        with self._door.accept()[0] as peer:
            _, (notices,), _, _ = socket.recv_fds(peer, 1, 1)
            peer.send(b"!")
        events = select.poll()
        events.register(notices, select.POLLIN)
        events.register(self._end, select.POLLIN)
        try:
            while ready := dict(events.poll()):
                if self._end in ready or ready[notices] & select.POLLHUP:
                    return
                # It was killed, or a signal came first.
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    self._answer(notices)
        finally:
            os.close(notices)

    def _answer(self, notices: int) -> None:
        notice = bytearray(NOTICE.size)
        fcntl.ioctl(notices, RECEIVE, notice)
        key, thread, _, number, _, _, *args = NOTICE.unpack(notice)
        rule, error = self.rule, 0
        if rule and NUMBERS[rule.call] == number and (pid := self._process(thread)):
            error = rule.verdict(pid, tuple(args))
        fcntl.ioctl(notices, ANSWER, bytearray(VERDICT.pack(key, 0, -error, 0 if error else GO_ON)))

    def _process(self, thread: int) -> int:
        """The process of a thread."""
        if thread not in self._processes:
            status = Path(f"/proc/{thread}/status").read_text()
            self._processes[thread] = int(status.partition("Tgid:")[2].split()[0])
        return self._processes[thread]


def restrict(numbers: list[int]) -> int:
    """Put this thread under the filter; the descriptor of the notifications."""
    program = [struct.pack("HBBI", LOAD, 0, 0, 0)]
    for index, number in enumerate(numbers):
        program.append(struct.pack("HBBI", JUMP_EQUAL, len(numbers) - index, 0, number))
    program += [struct.pack("HBBI", GIVE, 0, 0, ALLOW), struct.pack("HBBI", GIVE, 0, 0, USER_NOTIF)]
    code = ctypes.create_string_buffer(b"".join(program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    # An older kernel lets a signal end the wait for the answer.
    for flags in (NEW_LISTENER | WAIT_KILLABLE, NEW_LISTENER):
        found = libc.syscall(NUMBERS["seccomp"], SET_MODE_FILTER, flags, head)
        if found >= 0:
            return found
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main(path: str, numbers: str, *command: str) -> None:
    """Run a command whose calls with these numbers are asked about at the socket."""
    listener: list[int] = []
    made, taken = threading.Event(), threading.Event()

    def hand_over() -> None:
        # The filter is not this thread's, but the descriptors are.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.connect(path)
            made.wait()
            socket.send_fds(door, [b"!"], listener)
            door.recv(1)
        taken.set()

    threading.Thread(target=hand_over, daemon=True).start()
    wanted = [int(number) for number in numbers.split(",")]
    listener.append(restrict(wanted))
    made.set()
    taken.wait()
    os.close(listener[0])
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
