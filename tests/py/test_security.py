"""A local user and clients that mean harm: what they cannot lead the server to.

Tests as root stand for a server that is started as root for another account; that account is the hostile one.
"""

import base64
import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from harness import run_to_end, wait_for
from rawhttp import request

NOBODY = 65534
OF_NOBODY = ("--preload", "--user", str(NOBODY), "--group", str(NOBODY))

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the server gives up root's rights: it needs them first")


@pytest.fixture
def theirs(workdir):
    """A directory of the hostile account's, which a way leads to."""
    for parent in [workdir, *workdir.parents]:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    directory = workdir / "theirs"
    directory.mkdir()
    if os.geteuid() == 0:
        os.chown(directory, NOBODY, NOBODY)
    return directory


@pytest.fixture
def secret(workdir):
    """A file of root's that it would not give away."""
    path = workdir / "secret"
    path.write_text("precious")
    path.chmod(0o600)
    return path


def plant(path, target):
    """Put a symbolic link of the hostile account's in a place."""
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    os.lchown(path, NOBODY, NOBODY)


def assert_untouched(secret):
    status = secret.stat()
    assert (secret.read_text(), status.st_uid, status.st_mode & 0o777) == ("precious", 0, 0o600)


@as_root
@pytest.mark.own(reason="Gunicorn gives the file to the account")
@pytest.mark.parametrize("option", ["--access-logfile", "--error-logfile"])
@pytest.mark.parametrize(
    "logger", [(), ("--logger-class", "rgunicorn.glogging.Logger"), ("--statsd-host", "127.0.0.1:9")]
)
def test_a_log_that_became_a_link_is_not_given_away(launch, workdir, theirs, secret, option, logger):
    """The hostile account rotates its own logs, and asks for a reopening as the operator's logrotate does."""
    log = theirs / "one.log"
    others = {"--access-logfile", "--error-logfile"} - {option}
    server = launch(
        "hostile:app", *OF_NOBODY, option, str(log), *others, str(workdir / "other.log"), *logger,
        workdir=workdir, bind="unix:server.sock", quiet=True,
    )  # fmt: skip
    assert server.get("/who").status == 200
    assert log.stat().st_uid == NOBODY
    log.rename(theirs / "one.log.1")
    plant(log, secret)
    server.kill(signal.SIGUSR1)
    said = [theirs / "one.log.1", workdir / "other.log", server.stderr]
    wait_for(
        "the refusal",
        lambda: any("user 65534" in path.read_text(errors="replace") for path in said if path.exists()),
    )
    server.kill(signal.SIGHUP)
    wait_for("a server that goes on", lambda: server.get("/who").status == 200)
    assert_untouched(secret)


@as_root
@pytest.mark.own(reason="Gunicorn writes through the link as root")
@pytest.mark.parametrize("option", ["--access-logfile", "--error-logfile"])
def test_a_start_through_a_link_of_another_account_is_refused(flavour, workdir, theirs, secret, option):
    for target in (secret, workdir / "not-there-yet"):
        plant(theirs / "one.log", target)
        done = run_to_end(flavour, workdir, *OF_NOBODY, option, str(theirs / "one.log"), "hostile:app")
        assert done.returncode == 1
        assert "one.log" in done.stderr
        assert "user 65534 leads to" in done.stderr
        assert "Traceback" not in done.stderr
    assert_untouched(secret)
    assert not (workdir / "not-there-yet").exists()


@as_root
@pytest.mark.own(reason="Gunicorn makes a file in the directory that the link leads to")
def test_the_pid_file_goes_where_its_path_says(flavour, workdir, theirs):
    inside = workdir / "of-root"
    inside.mkdir()
    plant(theirs / "run", inside)
    done = run_to_end(flavour, workdir, "--pid", str(theirs / "run" / "app.pid"), "hostile:app")
    assert done.returncode == 1
    assert "user 65534 leads to" in done.stderr
    assert list(inside.iterdir()) == []


class Racer(threading.Thread):
    """Puts a link in the place of a socket file as soon as that is there."""

    def __init__(self, path, target):
        super().__init__(daemon=True)
        self.path, self.target, self.over = path, target, False

    def run(self):
        spare = self.path.with_name("spare")
        while not self.over:
            plant(spare, self.target)
            while not self.over and not self.path.exists():
                pass
            with contextlib.suppress(OSError):
                os.rename(spare, self.path)
            while not self.over and self.path.is_symlink():
                time.sleep(0.001)


@as_root
@pytest.mark.own(reason="Gunicorn loses the race")
def test_a_socket_file_is_never_given_by_its_name(flavour, launch, workdir, theirs, secret):
    sock = theirs / "app.sock"
    racer = Racer(sock, secret)
    racer.start()
    try:
        for _ in range(6):
            try:
                server = launch("hostile:app", *OF_NOBODY, bind=f"unix:{sock}", at=None, quiet=False)
                server.wait_log("Listening at")
                server.close()
            except AssertionError as error:
                # The link was there before the server looked at what it had made: it refuses to start.
                assert "went as soon as it was made" in str(error)  # noqa: PT017 - the start may succeed as well
            sock.unlink(missing_ok=True)
    finally:
        racer.over = True
        racer.join()
    assert_untouched(secret)


@as_root
@pytest.mark.own(reason="Gunicorn's socket is root's for a moment")
def test_a_socket_file_is_the_account_s(launch, workdir, theirs):
    sock = theirs / "app.sock"
    launch("hostile:app", *OF_NOBODY, "--umask", "007", bind=f"unix:{sock}", quiet=True)
    status = sock.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (NOBODY, NOBODY, 0o770)


@pytest.mark.own(reason="Gunicorn takes the path, and the other server goes on without clients")
def test_the_path_of_a_server_that_lives_is_not_taken(flavour, launch, workdir):
    server = launch("hostile:app", bind="unix:server.sock", quiet=True, workdir=workdir)
    done = run_to_end(flavour, workdir, "--bind", "unix:server.sock", "hostile:app")
    assert done.returncode == 1
    assert "Connection in use: server.sock" in done.stderr or "server.sock" in done.stderr
    assert server.get("/who").status == 200
    server.kill(signal.SIGKILL)
    server.deaths = True
    wait_for("its end", lambda: server.process.poll() is not None and not server.session())
    assert (workdir / "server.sock").exists()
    again = launch("hostile:app", bind="unix:server.sock", quiet=True, workdir=workdir)
    assert again.get("/who").status == 200


@as_root
@pytest.mark.own(reason="Gunicorn keeps root's groups")
@pytest.mark.parametrize("group", [("--group", str(NOBODY)), ()])
def test_no_group_of_root_s_is_left(launch, workdir, group):
    server = launch("hostile:app", "--preload", "--user", str(NOBODY), *group, workdir=workdir, prefix=[
        "setpriv", "--groups", "0,4,6,27",
    ])  # fmt: skip
    own = NOBODY if group else os.getegid()
    assert server.get("/who").body.decode().split() == [str(NOBODY)] * 3 + [str(own)] * 3 + [str(own)]
    assert server.get("/root-again").body == b"closed closed closed"


@pytest.mark.own
@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privs(launch, wanted):
    server = launch("hostile:app", *(["--no-new-privs"] if wanted else []))
    assert server.get("/no-new-privs").body == str(int(wanted)).encode()


@pytest.mark.own(reason="a connection of Gunicorn's has one socket object for all of its requests")
def test_no_weak_reference_leads_to_a_later_client(launch):
    server = launch("hostile:app")
    for _ in range(3):
        assert int(server.get("/leave-weak").body) > 0
        for _ in range(3):
            assert server.get("/find-weak").body == b"0"


NASTY = '\x1b[31mred\x07 \x9b2J \x7f \r\n127.0.0.1 - forged [x] "\\'


@pytest.mark.own(reason="Gunicorn writes them as they are")
@pytest.mark.parametrize("logger", [(), ("--statsd-host", "127.0.0.1:9")], ids=["native", "python"])
def test_no_client_writes_a_line_of_the_access_log_of_its_own(launch, workdir, logger):
    form = "%(h)s|%(u)s|%(U)s|%(q)s|%(r)s|%(f)s|%(a)s|%({x-nasty}i)s|end"
    server = launch(
        "hostile:app", "--access-logfile", "access.log", "--access-logformat", form, *logger, workdir=workdir,
        bind="unix:server.sock", quiet=True,
    )  # fmt: skip
    user = base64.b64encode(NASTY.encode() + b":password").decode()
    path = "/who" + "".join(f"%{byte:02X}" for byte in NASTY.encode("latin-1"))
    headers = {"Authorization": f"Basic {user}", "Referer": 'a"\\\x80b', "User-Agent": "\xe9\x85", "X-Nasty": "\x9bx"}
    with server.client() as client:
        client.send(request(path, headers=headers))
        client.response()
    log = workdir / "access.log"
    wait_for("the record", lambda: log.exists() and b"end" in log.read_bytes())
    text = log.read_bytes().decode()
    assert text.count("\n") == 1
    assert text.endswith("|end\n")
    assert not [character for character in text[:-1] if ord(character) < 32 or 127 <= ord(character) < 160], text
    escaped = '\\x1B[31mred\\x07 \\x9B2J \\x7F \\x0D\\x0A127.0.0.1 - forged [x] \\"\\\\'
    assert text.split("|")[1] == escaped
    assert text.split("|")[2] == f"/who{escaped}"


@pytest.mark.own
@pytest.mark.one_thread
def test_reports_of_running_requests_name_no_query(launch):
    server = launch("blocked:app", "--timeout", "2", deaths=True)
    with server.client() as client, contextlib.suppress(OSError, AssertionError):
        client.send(request("/sleep?s=30&token=do-not-tell"))
        server.wait_log("/sleep")
        server.wait_log("WORKER TIMEOUT|was sent SIG", timeout=20)
    # The line of a request that has failed is Gunicorn's, word by word.
    reports = [line for line in server.log.splitlines() if "Error handling request" not in line]
    assert any("/sleep" in line for line in reports)
    assert not any("do-not-tell" in line for line in reports)
