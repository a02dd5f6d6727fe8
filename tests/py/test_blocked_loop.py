"""`loop_block_warning`: who holds up a worker's loop is named, with all stacks, once and while it lasts."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from harness import APPS, wait_for
from rawhttp import request

pytestmark = [pytest.mark.own, pytest.mark.one_thread]

SLOW = "s=1.3"
BLOCKED = r"\[WARNING\] Loop blocked for (\d+\.\d\d) s so far by "
OVER = r"\[INFO\] Loop no longer blocked, after (\d+\.\d\d) s in all by "
ABORTED = r"\[ERROR\] Worker aborted, its loop was blocked for (\d+\.\d\d) s by "
SOURCE = APPS / "blocked.py"


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module("blocked:app")


def frame(function, code):
    """How a stack shows this line of the application."""
    lines = [number for number, line in enumerate(SOURCE.read_text().splitlines(), 1) if line.strip() == code]
    return f'  File "{SOURCE}", line {lines[0]}, in {function}\n'


def reported(server, target):
    """Makes a request that is too slow, and gives what was logged for it: a report, and one line at its end."""
    mark, ends = len(server.log), len(re.findall(OVER, server.log))
    assert server.get(target).status == 200
    server.wait_log(OVER, count=ends + 1)
    log = server.log[mark:]
    assert len(re.findall(BLOCKED, log)) == len(re.findall(OVER, log)) == 1, log
    assert "cannot" not in log
    return log


def test_a_slow_request_is_reported_while_it_lasts(server):
    with server.client() as client:
        reports = len(re.findall(BLOCKED, server.log))
        client.send(request(f"/sleep?{SLOW}&a=b"))
        so_far = server.wait_log(BLOCKED + r"GET (/\S*) \(peer (\S+)\)\n", count=reports + 1)
        assert client.response().body == b"slept"
        in_all = server.wait_log(OVER + r"GET (/\S*) \(peer (\S+)\)\n", count=reports + 1)
    assert 1 <= float(so_far[1]) < 1.3 <= float(in_all[1]) < 1.8
    # Not the query, which may hold what no log should.
    assert so_far[2] == in_all[2] == "/sleep"
    assert so_far[3] == in_all[3]
    assert so_far[3].startswith("127.0.0.1:")


def test_each_one_once_with_the_place(server):
    for _ in range(2):
        log = reported(server, f"/sleep?{SLOW}")
        stack = log[log.index("(main thread), most recent call last:\n") :]
        # The innermost frame is the last one.
        assert frame("sleep", 'time.sleep(float(parameter(environ, "s")))') + "[" in stack, log
        # Our own thread is not among them.
        assert log.count("most recent call last") == 1
        assert "_stacks.py" not in log


def test_code_that_never_waits(server):
    log = reported(server, f"/spin?{SLOW}")
    assert f'File "{SOURCE}", line ' in log
    assert ", in spin\n" in log


def test_code_that_keeps_the_interpreter_is_shown_when_it_first_gives_it_up(server):
    log = reported(server, "/hold?s=1.3")
    assert frame("total", "return sum(range(count))") in log, log
    assert float(re.search(BLOCKED, log)[1]) >= 1


def test_an_iterable_is_watched_as_well(server):
    log = reported(server, f"/iterate?{SLOW}")
    assert " by GET /iterate (peer" in log
    assert frame("slow_items", "time.sleep(seconds)") in log


def test_other_threads(server):
    log = reported(server, f"/thread?{SLOW}")
    assert re.search(r"Thread 0x[0-9a-f]+ \(the other one\), most recent call last:\n  File ", log), log
    assert frame("wait_in_thread", "event.wait()") in log


def test_greenlets(server):
    log = reported(server, f"/greenlets?count=8&{SLOW}")
    name = r"<greenlet at 0x[0-9a-f]+>"
    suspended = re.search(rf"Suspended: {name}(, {name}){{4}} and 3 more, most recent call last:\n", log)
    assert suspended, log
    assert log[suspended.end() :].startswith(frame("wait_in_greenlet", "getcurrent().parent.switch()"))
    # The caller's own, which waits for the one that runs.
    assert frame("beside_greenlets", "answer = greenlet(sleep).switch(environ)") in log
    assert re.search(rf"^Greenlet {name} is running$", log, re.MULTILINE)


def test_greenlets_of_gevent_without_running_the_application(server):
    """No argument's repr, no `__class__` of a proxy, and no finalizer on a thread that is not the application's."""
    log = reported(server, f"/gevent?{SLOW}")
    assert re.search(r"Suspended: <Greenlet at 0x[0-9a-f]+: beside_gevent\.<locals>\.tick>, most recent", log), log
    assert frame("beside_gevent.<locals>.tick", "gevent.sleep(60)") in log
    assert server.get("/asked").body == b"0"


def test_an_application_that_is_patched_for_gevent(launch):
    """A sleep lets others run, and is no blockage; what never gets to the hub is one, and those who wait are shown."""
    server = launch("blocked_patched:app")
    with server.client() as sleeper:
        sleeper.send(request("/sleep?s=4.1"))
        log = reported(server, f"/spin?{SLOW}")
        assert re.search(r" so far by GET /spin ", log)
        assert ", in spin\n" in log
        assert re.search(r"^Suspended: <Hub at ", log, re.MULTILINE), log
        assert frame("sleep", 'time.sleep(float(parameter(environ, "s")))') in log
        log = reported(server, f"/system?{SLOW}")
        assert re.search(r" so far by GET /system ", log)
        assert re.search(r"^Greenlet <Greenlet at 0x[0-9a-f]+> is running$", log, re.MULTILINE), log
        assert sleeper.response().body == b"slept"
    assert "by GET /sleep" not in server.log


def test_deep_stacks_are_cut_at_the_outer_end(server):
    log = reported(server, f"/deep?{SLOW}")
    assert "most recent call last:\n  (outer frames left out)\n" in log
    assert log.count(", in deep.<locals>.down\n") == 99
    assert frame("sleep", 'time.sleep(float(parameter(environ, "s")))') in log


def test_no_frame_is_kept(server):
    reported(server, f"/sleep?{SLOW}")
    assert server.get("/frames").body == b"0"


def test_children_of_the_application_are_not_watched(server):
    """They have neither the thread nor its report, and those that come back leave at once."""
    log = reported(server, f"/fork?{SLOW}")
    assert f"[{server.worker_pid()}] [WARNING] Loop blocked" in log
    assert server.get("/fork?s=0").body == b"0"


def test_fast_requests_and_an_idle_server_log_nothing(launch):
    server = launch("blocked:app")
    begun = server.worker_pid()
    mark = len(server.log)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert server.get("/sleep?s=0.05").status == 200
    time.sleep(1.5)
    assert server.worker_pid() == begun
    assert server.log[mark:] == ""


def test_zero_switches_it_off(launch):
    server = launch("blocked:app", "--loop-block-warning", "0")
    assert len(server.get("/tasks").body.split()) == 1
    mark = len(server.log)
    assert server.get(f"/sleep?{SLOW}").status == 200
    assert server.log[mark:] == ""


def test_the_threshold_is_a_setting(launch):
    server = launch("blocked:app", config="loop_block_warning = 2\n")
    assert server.get(f"/sleep?{SLOW}").status == 200
    reported(server, "/sleep?s=2.3")
    assert "by GET /sleep (peer" in server.wait_log(BLOCKED + ".*")[0]


def test_sync_workers_may_take_their_time(launch):
    server = launch("blocked:app", "-k", "sync")
    assert len(server.get("/tasks").body.split()) == 1
    mark = len(server.log)
    assert server.get(f"/sleep?{SLOW}").status == 200
    assert server.log[mark:] == ""


def test_one_thread_with_a_name_that_signals_leave_alone(launch):
    server = launch("blocked:app")
    # A thread gives itself its name.
    wait_for("the thread", lambda: server.get("/tasks").body.split().count(b"loop-watch") == 1)
    pid = server.worker_pid()
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text() == "loop-watch\n":
            masks = dict(re.findall(r"^(Sig\w+):\s+([0-9a-f]+)$", (task / "status").read_text(), re.MULTILINE))
            assert int(masks["SigBlk"], 16) & 1 << (signal.SIGTERM - 1)


@pytest.mark.parametrize("options", [("--loop-block-warning", "0"), (), ("-k", "sync")], ids=["off", "on", "sync"])
def test_the_heartbeat_shows_the_stacks_before_the_abort(launch, options):
    server = launch("blocked:app", "--timeout", "2", *options, deaths=True)
    hung = server.worker_pid()
    with server.client() as client:
        client.send(request("/sleep?s=30"))
        assert not client.rest().startswith(b"HTTP/1.1 200")
    server.wait_log(rf"\[CRITICAL\] WORKER TIMEOUT \(pid:{hung}\)")
    found = server.wait_log(ABORTED + r"GET /sleep \(peer \S+\)\nThread \S+ \(main thread\), most recent")
    report = server.log[found.start() :]
    assert frame("sleep", 'time.sleep(float(parameter(environ, "s")))') in report
    assert len(re.findall(BLOCKED, server.log[: found.start()])) == (not options)
    server.wait_log(r"Error handling request GET /sleep")
    assert server.worker_pid() in server.wait_workers(1, without=[hung])


def test_an_abort_by_hand_shows_an_idle_worker(launch):
    server = launch("blocked:app", deaths=True)
    pid = server.worker_pid()
    os.kill(pid, signal.SIGABRT)
    server.wait_log(r"\[ERROR\] Worker aborted while its loop was not blocked\nThread \S+ \(main thread\)")
    assert server.worker_pid() in server.wait_workers(1, without=[pid])


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGQUIT], ids=lambda signum: signum.name)
def test_a_stop_in_the_middle_of_it(launch, signum):
    """Nothing comes after the worker's last line, and the thread holds nobody up."""
    server = launch("blocked:app")
    with server.client() as client:
        client.send(request("/sleep?s=2"))
        server.wait_log(BLOCKED)
        assert server.terminate(signum) == 0
        client.rest()
    log = server.log
    assert re.search(OVER, log), log
    assert "blocked" not in log[log.index("Worker exiting") :]


def test_stops_at_any_moment(launch):
    """The watch is joined while it waits, reports, or is about to: no abort of the process, no hang."""
    server = launch("blocked:app", "-w", "2", "--timeout", "0")
    for turn in range(6):
        pid = server.worker_pid()
        with server.client() as client:
            client.send(request("/spin?s=1.05"))
            time.sleep(0.97 + 0.02 * turn)
            os.kill(pid, signal.SIGTERM)
            client.rest()
        wait_for("the worker to leave", lambda pid=pid: pid not in server.workers())
        server.wait_workers(2)
    assert not re.search("was sent SIG|exited with code", server.log)
