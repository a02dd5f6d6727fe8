"""Daemon mode: a server that has left its terminal, and WINCH, which only a daemon takes."""

import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest
from harness import environment, is_alive, proc_stat, run_to_end, wait_for
from masters import status_field, upgrade, variable, wait_answers, wait_content, wait_no_workers
from rawhttp import request

pytestmark = pytest.mark.one_driver

NULL = "/dev/null"


def streams(pid):
    """Where the three standard streams of a process lead."""
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)]


def start(launch_daemon, workdir, *args, **options):
    """A daemon with a log file, two workers of which have answered."""
    server = launch_daemon("life:app", "-w", "2", *args, errorlog=workdir / "error.log", workdir=workdir, **options)
    wait_answers(server, server.wait_workers(2))
    return server


def test_what_a_daemon_is(launch_daemon, workdir):
    server = start(launch_daemon, workdir)
    assert server.launcher.returncode == 0
    # In a session of its own that it does not lead, so that it can never get a terminal.
    fields = proc_stat(server.pid)
    group, session, terminal = int(fields[2]), int(fields[3]), int(fields[4])
    assert session == group != server.pid
    assert not is_alive(session)
    assert terminal == 0
    assert session != os.getsid(0)
    assert streams(server.pid) == [NULL] * 3
    assert streams(server.workers()[0]) == [NULL] * 3
    assert status_field(server.pid, "Umask") == "0022"
    assert os.readlink(f"/proc/{server.pid}/cwd") == str(workdir)
    assert server.stderr.read_text() == server.stdout.read_text() == ""
    assert server.pidfile.stat().st_mode & 0o777 == 0o644


def test_it_stops_as_any_server(launch_daemon, workdir):
    server = start(launch_daemon, workdir, bind="unix:server.sock")
    server.terminate()
    server.wait_log("Shutting down: Master")
    assert not server.pidfile.exists()
    assert not Path(server.address).exists()
    assert server.session() == []


def test_hup(launch_daemon, workdir):
    server = start(launch_daemon, workdir)
    before = server.workers()
    (workdir / "version").write_text("two")
    server.kill(signal.SIGHUP)
    server.wait_workers(2, without=before)
    wait_for("the new version", lambda: server.get("/version").body == b"two")
    assert server.read_pid() == server.pid


def test_outputs_that_are_no_terminals_can_be_kept(launch_daemon, workdir):
    server = launch_daemon("life:app", "-R", "--access-logfile", "-", workdir=workdir)
    assert streams(server.pid) == [NULL, str(server.stdout), str(server.stderr)]
    assert server.get("/version").status == 200
    wait_for("an access record", lambda: "/version" in server.stdout.read_text())
    assert "Listening at" in server.stderr.read_text()


@pytest.mark.parametrize("options", [[], ["-R"]], ids=["plain", "inheritance"])
def test_a_terminal_is_never_kept(flavour, workdir, options):
    """Started by hand: what the daemon says later must not appear in the shell, nor end with it."""
    log, pidfile = workdir / "error.log", workdir / "app.pid"
    command = [*flavour.command(), "-D", *options, "-b", "unix:server.sock", "--pid", str(pidfile),
               "--error-logfile", str(log), "life:app"]  # fmt: skip
    leader, follower = pty.openpty()
    try:
        subprocess.run(command, cwd=workdir, env=environment(), stdin=follower, stdout=follower, stderr=follower,
                       start_new_session=True, check=True, timeout=20)  # fmt: skip
        pid = int(wait_for("the pid file", lambda: pidfile.exists() and pidfile.read_text()))
        try:
            wait_for("a listener", lambda: log.exists() and "Listening at" in log.read_text())
            assert streams(pid) == [NULL] * 3
        finally:
            time.sleep(0.1)  # See `Server.settle`.
            os.kill(pid, signal.SIGTERM)
            wait_for("the daemon to leave", lambda: not is_alive(pid))
    finally:
        os.close(leader)
        os.close(follower)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--workers", "many", "life:app"], "many"),
        ([], "No application module specified"),
        (["--chdir", "/no", "life:app"], "/no"),
    ],
    ids=["usage", "no application", "directory"],
)
def test_errors_before_the_fork_are_seen(flavour, workdir, args, text):
    ended = run_to_end(flavour, workdir, "-D", *args)
    assert ended.returncode in (1, 2)
    assert text in ended.stderr


def later(launch_daemon, workdir, app, *args, pattern, **options):
    """A start that fails after the command has ended well; the reason is in the log."""
    log = workdir / "error.log"
    server = launch_daemon(app, *args, errorlog=log, listens=False, workdir=workdir, **options)
    wait_for("the reason in the log", lambda: log.exists() and pattern in log.read_text())
    wait_for("the end", lambda: not server.session())
    return server


def test_an_application_that_raises(launch_daemon, workdir):
    (workdir / "broken.py").write_text("raise ValueError('odd')\n")
    server = later(launch_daemon, workdir, "broken:app", pattern="Reason: Worker failed to boot")
    assert "ValueError: odd" in server.log
    assert not server.pidfile.exists()


@pytest.mark.own
@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["", "preload"])
def test_an_application_that_is_not_there(launch_daemon, workdir, options):
    """Gunicorn writes the reason to /dev/null."""
    later(launch_daemon, workdir, "life:missing", *options, pattern="Failed to find attribute 'missing' in 'life'")


@pytest.mark.own
def test_a_running_daemon_refuses_another(launch_daemon, workdir):
    """Gunicorn writes the reason to /dev/null."""
    first = start(launch_daemon, workdir)
    log = workdir / "second.log"
    launch_daemon("life:app", errorlog=log, listens=False, workdir=workdir)
    wait_for("the reason", lambda: log.exists() and f"Already running on PID {first.pid}" in log.read_text())
    assert first.read_pid() == first.pid


def test_systemd_is_warned(launch_daemon, workdir):
    server = start(launch_daemon, workdir, env={"NOTIFY_SOCKET": str(workdir / "nobody")})
    assert "daemon = True" in server.stderr.read_text()


# WINCH. Gunicorn may send TERM to a worker that is leaving, after its handlers have gone: that is no harm.


def test_winch_sends_the_workers_home(launch_daemon, workdir):
    server = start(launch_daemon, workdir, deaths=True)
    server.kill(signal.SIGWINCH)
    server.wait_log("graceful stop of workers")
    wait_no_workers(server)
    # Nobody serves, and nobody is refused.
    with server.client() as client:
        client.send(request("/pid"))
        time.sleep(1.5)
        assert server.workers() == []
        server.kill(signal.SIGTTIN)
        worker = int(client.response().body)
    assert server.wait_workers(1) == [worker]


def test_hup_brings_all_workers_back(launch_daemon, workdir):
    server = start(launch_daemon, workdir, deaths=True)
    server.kill(signal.SIGWINCH)
    wait_no_workers(server)
    with server.client() as client:
        client.send(request("/pid"))
        server.kill(signal.SIGHUP)
        workers = server.wait_workers(2)
        assert int(client.response().body) in workers


def test_winch_lets_a_request_finish(launch_daemon, workdir):
    server = start(launch_daemon, workdir, deaths=True)
    with server.client() as client:
        client.send(request("/started?s=1"))
        wait_for("the slow request to start", (workdir / "started").exists)
        server.kill(signal.SIGWINCH)
        assert client.response().status == 200
    wait_no_workers(server)


# The upgrade of a daemon.


def test_upgrade(launch_daemon, workdir):
    """WINCH first, as the manuals of Gunicorn and nginx have it, then TERM."""
    server = start(launch_daemon, workdir, deaths=True, bind="unix:server.sock")
    new = upgrade(server)
    assert os.getsid(new.pid) == os.getsid(server.pid), "it is a daemon already"
    server.kill(signal.SIGWINCH)
    wait_no_workers(server)
    wait_answers(new, new.wait_workers(2))
    assert server.read_pid() == server.pid
    server.terminate()
    server.wait_log("Master has been promoted")
    wait_content(server.pidfile, f"{new.pid}\n")
    assert Path(server.address).is_socket()
    wait_answers(new, new.workers())
    # The new one is a daemon, too.
    assert streams(new.pid) == [NULL] * 3
    new.kill(signal.SIGWINCH)
    wait_no_workers(new)
    newer = upgrade(new)
    assert variable(newer.pid, "GUNICORN_PID") == str(new.pid)
    wait_answers(newer, newer.wait_workers(2))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGQUIT], ids=lambda signum: signum.name)
def test_way_back_after_winch(launch_daemon, workdir, signum):
    server = start(launch_daemon, workdir, deaths=True, bind="unix:server.sock")
    new = upgrade(server)
    server.kill(signal.SIGWINCH)
    wait_no_workers(server)
    wait_answers(new, new.wait_workers(2))
    new.terminate(signum)
    with server.client() as client:
        client.send(request("/pid"))
        server.kill(signal.SIGHUP)
        workers = server.wait_workers(2)
        assert int(client.response().body) in workers
    wait_answers(server, workers)
    assert server.read_pid() == server.pid
    assert not server.pidfile.with_name("daemon.pid.2").exists()
