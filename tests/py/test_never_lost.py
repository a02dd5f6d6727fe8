"""Never a lost request: whatever an operator does to a server under load, every request gets its answer.

The clients of `load.py` retry nothing, and none of their requests may fail. What is allowed to fail are the requests
inside a worker that is killed.
"""

import contextlib
import os
import signal
import time

import pytest
from harness import children, is_alive, wait_for
from load import CLIENTS, Load
from masters import wait_answers
from rawhttp import request

WORKERS = 2
HUPS = 20
# Answers between two steps of an operator, so that each step meets a server under load.
ANSWERS_PER_STEP = 40
# How long the quick phases last.
PHASE_S = 8.0

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["127.0.0.1:0", "unix:server.sock"], ids=["tcp", "unix"])
def bind(request):
    return request.param


@contextlib.contextmanager
def loaded(server):
    """The load, begun: each kind of client has been answered. Nobody may be lost up to the end of it."""
    with Load(server.address, moves=server.flavour.own) as load:
        wait_for("answers of all kinds", lambda: all(load.tally.answers[kind] for kind in CLIENTS) or load.failures())
        yield load
        go_on(load)
    load.assert_no_failure()
    print(load.tally)


def go_on(load, answers=ANSWERS_PER_STEP):
    """Wait until so many more requests were answered."""
    enough = load.answers() + answers
    wait_for("more answers", lambda: load.answers() >= enough or load.failures())
    load.assert_no_failure()


def test_hup(launch):
    """Twenty reloads, each waited for until all workers are new ones."""
    server = launch("steady:app", "-w", str(WORKERS))
    with loaded(server) as load:
        for _ in range(HUPS):
            old = server.workers()
            if not server.flavour.own:
                # A TERM is lost on a worker of Gunicorn's that has no handlers yet.
                wait_answers(server, old)
            server.kill(signal.SIGHUP)
            server.wait_workers(WORKERS, without=old)
            go_on(load)
    assert len(load.tally.by_pid) >= WORKERS * HUPS / 2


def test_hups_in_a_row(launch, bind):
    """Reloads that give up the ones before them."""
    server = launch("steady:app", "-w", str(WORKERS), bind=bind)
    with loaded(server) as load:
        for _ in range(HUPS):
            server.kill(signal.SIGHUP)
            go_on(load, 10)
        server.wait_log("Hang up: Master", count=2)


def test_max_requests(launch, bind):
    """Workers that come and go all the time."""
    server = launch("steady:app", "-w", "4", "--max-requests", "40", "--max-requests-jitter", "20", bind=bind)
    with loaded(server) as load:
        time.sleep(PHASE_S)
    assert len(load.tally.by_pid) > 8


def test_ttin_and_ttou(launch):
    server = launch("steady:app", "-w", str(WORKERS))
    with loaded(server) as load:
        for _ in range(4):
            server.kill(signal.SIGTTIN)
            server.wait_workers(WORKERS + 1)
            go_on(load)
            server.kill(signal.SIGTTOU)
            server.wait_workers(WORKERS)
            go_on(load)
    assert len(load.tally.by_pid) > WORKERS


# What kills a worker.


def assert_only_its_own(load, pid, dead_at, server):
    """Only the connections of the killed worker have failed, and none fails afterwards.

    Its connections are those that it had answered on, and those that it may have accepted and not answered yet.
    """
    failures = load.failures()
    foreign = [failure for failure in failures if failure.pid != pid and (failure.pid or failure.opened_at > dead_at)]
    assert not foreign, f"{pid} was dead at {dead_at}: {foreign}\n{server.all_output()}"
    # One exchange at a time for each client.
    assert len(failures) <= sum(CLIENTS.values())
    return len(failures)


@pytest.mark.parametrize("way", ["kill", "crash"])
def test_a_dead_worker_fails_what_it_had_begun(launch, flavour, bind, way):
    """By SIGKILL, and by an application that ends its process. The connections of the others live on.

    Connections stay with their workers: it is known which were the dead one's.
    """
    stays = ["--no-handoff"] if flavour.own else []
    server = launch("steady:app", "-w", str(WORKERS), *stays, bind=bind, deaths=True)
    lost = 0
    for seed in range(4):
        before = server.wait_workers(WORKERS)
        with Load(server.address, seed=seed, moves=False) as load:
            wait_for("answers of both", lambda load=load, pids=before: all(load.tally.by_pid[pid] for pid in pids))
            if way == "kill":
                pid = before[seed % WORKERS]
                os.kill(pid, signal.SIGKILL)
            else:
                with server.client() as client:
                    client.send(request("/crash"))
                    client.assert_closed()
                # It closes its connections a moment before it is gone.
                (pid,) = wait_for("its death", lambda pids=before: set(pids) - set(server.workers()))
            wait_for("its death", lambda pid=pid: not is_alive(pid))
            dead_at = time.monotonic()
            server.wait_workers(WORKERS, without=[pid])
            enough = load.answers() + ANSWERS_PER_STEP
            wait_for("more answers", lambda load=load, enough=enough: load.answers() >= enough)
        lost += assert_only_its_own(load, pid, dead_at, server)
    # The load would notice: it had requests in there.
    assert lost


# What is wrong with a reload.

BROKEN = {
    "a syntax error": ("test.conf.py", "workers = 2\nworkers = (\n", r'test\.conf\.py", line 2'),
    "a wrong setting": ("test.conf.py", "workers = -1\n", r"workers: -1 is negative"),
    "a file that raises": ("test.conf.py", "\n\nraise OSError('odd')\n", r'test\.conf\.py", line 3'),
    "a hook before the fork that raises": (
        "test.conf.py",
        "workers = 2\ndef pre_fork(server, worker):\n    raise OSError('odd')\n",
        r'test\.conf\.py", line 3, in pre_fork',
    ),
    "an application that cannot be imported": (
        "chosen.py",
        "import steady\nimport no_such_module\n",
        r"no_such_module",
    ),
    "an application with a syntax error": ("chosen.py", "from steady import app\nif\n", r'chosen\.py", line 2'),
}


@pytest.mark.own(reason="Gunicorn's master ends")
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_reload_is_not_noticed(launch, workdir, broken):
    """The old workers go on, the log says what is wrong and where, and a good reload works after it."""
    name, text, says = BROKEN[broken]
    (workdir / "chosen.py").write_text("from steady import app\n")
    config = f"workers = {WORKERS}\n"
    server = launch("chosen:app", workdir=workdir, config=config, deaths=True)
    with loaded(server) as load:
        old = server.wait_workers(WORKERS)
        # Who has not read the application yet would read the broken one, at its own start.
        wait_answers(server, old)
        before = (workdir / name).read_text()
        (workdir / name).write_text(text)
        server.kill(signal.SIGHUP)
        server.wait_log(r"\[ERROR\] Reload (failed|given up)")
        server.wait_log(says)
        server.wait_workers(WORKERS)
        assert server.workers() == old
        go_on(load)
        (workdir / name).write_text(before)
        server.kill(signal.SIGHUP)
        server.wait_workers(WORKERS, without=old)
        go_on(load)
    assert server.terminate() == 0


# The upgrade.


def upgraded(server):
    """The pid of the new master, once it and its workers serve."""
    server.kill(signal.SIGUSR2)
    file = server.workdir / "server.pid.2"

    wait_for("the new master", lambda: file.exists() and file.read_text().endswith("\n"))
    master = int(file.read_text())
    wait_for("its workers", lambda: len(children(master)) == WORKERS)
    return master


def leave(master):
    """TERM to a master that is not the test's child."""
    os.kill(master, signal.SIGTERM)
    wait_for("the master to leave", lambda: not is_alive(master))


def test_usr2(launch, bind):
    """Three upgrades that are taken back, and one that is not."""
    server = launch("steady:app", "-w", str(WORKERS), "--pid", "server.pid", bind=bind)
    with loaded(server) as load:
        for _ in range(3):
            master = upgraded(server)
            new = children(master)
            wait_for("answers of the new ones", lambda new=new: all(load.tally.by_pid[pid] for pid in new))
            leave(master)
            go_on(load)
        master = upgraded(server)
        go_on(load)
        server.kill(signal.SIGTERM)
        assert server.wait_exit() == 0
        wait_for("the promotion", lambda: "Master has been promoted" in server.log)
        go_on(load)
    assert (server.workdir / "server.pid").read_text() == f"{master}\n"
    leave(master)
