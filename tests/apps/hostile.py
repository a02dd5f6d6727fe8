"""What an application may do that nothing of the server's should follow."""

import os
import subprocess
import weakref

from routes import Routes

app = Routes()
left = []


@app.text("/who")
def who(environ):
    """Real, effective and saved ids of user and group, then the supplementary groups."""
    return " ".join(map(str, [*os.getresuid(), *os.getresgid(), *sorted(os.getgroups())]))


@app.text("/root-again")
def root_again(environ):
    """Whether the way back to root is open."""
    opened = []
    for attempt in (lambda: os.setuid(0), lambda: os.seteuid(0), lambda: os.setgroups([0])):
        try:
            attempt()
            opened.append("open")
        except OSError:
            opened.append("closed")
    return " ".join(opened)


@app.text("/no-new-privs")
def no_new_privs(environ):
    """What the kernel says of a program that the application runs."""
    done = subprocess.run(["grep", "NoNewPrivs", "/proc/self/status"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


@app.text("/leave-weak")
def leave_weak(environ):
    """Leaves weak references to what the environ holds, where that can be."""
    left.clear()
    for value in (*environ.values(), environ["wsgi.input"]):
        try:
            left.append(weakref.ref(value))
        except TypeError:
            continue
    return str(len(left))


@app.text("/find-weak")
def find_weak(environ):
    """How many of them lead to something that this request's environ holds."""
    mine = [id(value) for value in environ.values() if type(value).__name__ in {"ClientSocket", "socket"}]
    return str(sum(id(reference()) in mine for reference in left if reference() is not None))
