"""`frame_cache_chunks`: greenlets and threads without an mmap and a munmap each, and with nothing else changed."""

import json
import re
import shutil
import signal
import subprocess

import pytest
from harness import wait_for

COUNT = 1000
CHUNK = 16 * 1024
# Pages that a run touches for other reasons: the allocator's arenas, the collector.
OTHER_FAULTS = 100

pytestmark = pytest.mark.own


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module("frames:app")


@pytest.fixture(scope="module")
def stock(launch_module):
    return launch_module("frames:app", "--frame-cache-chunks", "0")


def ask(server, target):
    response = server.get(target)
    assert response.status == 200, server.all_output()
    return json.loads(response.body)


@pytest.mark.parametrize("path", ["greenlets", "spawn"])
def test_greenlets_reuse_their_chunks(server, path):
    assert ask(server, f"/{path}?count={COUNT}")["faults"] < OTHER_FAULTS


def test_calls_at_the_edge_of_a_chunk_are_cheap(server):
    """A side effect, also without greenlets: CPython maps a chunk for each call that does not fit the last one."""
    assert ask(server, "/edge")["faults"] < OTHER_FAULTS


def test_zero_switches_it_off(stock):
    """Proves the other tests too: they measure what the cache is about."""
    assert ask(stock, f"/greenlets?count={COUNT}")["faults"] >= COUNT
    assert ask(stock, f"/spawn?count={COUNT}")["faults"] >= COUNT
    assert ask(stock, "/edge")["faults"] >= COUNT


def traced_calls(server, tmp_path, target):
    """How often the worker maps and unmaps memory during a request."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    pid, counts, said = server.worker_pid(), tmp_path / "counts", tmp_path / "said"
    command = [strace, "-f", "-c", "-e", "trace=mmap,munmap", "-o", str(counts), "-p", str(pid)]
    with said.open("wb") as stderr:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr)
    try:
        wait_for("strace to attach", lambda: process.poll() is not None or "attached" in said.read_text())
        if process.poll() is not None:
            pytest.skip(f"strace cannot attach here: {said.read_text().strip()}")
        ask(server, target)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait()
    found = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+).* (mmap|munmap)$", counts.read_text(), re.MULTILINE)
    return {name: int(calls) for calls, name in found}


def test_system_calls_of_greenlets(server, tmp_path):
    calls = traced_calls(server, tmp_path, f"/greenlets?count={COUNT}")
    assert sum(calls.values()) < OTHER_FAULTS, calls


def test_system_calls_of_greenlets_without_it(stock, tmp_path):
    calls = traced_calls(stock, tmp_path, f"/greenlets?count={COUNT}")
    assert calls["mmap"] >= COUNT, calls
    assert calls["munmap"] >= COUNT, calls


@pytest.mark.parametrize("kept", [0, 16, 256, 1000])
def test_no_more_than_the_limit_is_kept(launch, kept):
    """1,000 greenlets end; what the worker still has of their chunks is what the setting allows."""
    # With arenas for threads, the first allocation of one that watches the loop would map 64 MB in between.
    server = launch("frames:app", "--frame-cache-chunks", str(kept), env={"MALLOC_ARENA_MAX": "1"})
    ask(server, "/crowd?count=10")
    for _ in range(2):
        given_back = ask(server, f"/crowd?count={COUNT}")
        # CPython's own arenas come and go by the megabyte.
        assert given_back["mapped"] == pytest.approx((COUNT - kept) * CHUNK, abs=3 << 20)
        # Of each chunk at least one page had been touched.
        assert given_back["resident"] >= (COUNT - kept) * 4096 - (1 << 20)


def test_frames_of_all_sizes(server):
    assert server.get("/deep").body == b"right"


def test_threads(server):
    assert server.get("/threads").body == b"8"


def test_forks_beside_threads(server):
    assert ask(server, "/fork") == [0] * 20


@pytest.mark.one_thread  # Its greenlets belong to the thread that imports the application.
@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["imported by the worker", "preloaded"])
def test_chunks_from_before(launch, preload):
    """Greenlets of the import end in the worker; a preloaded one's have their chunks from the master."""
    server = launch("frames:app", *preload)
    assert server.get("/from-import").body == b"finished"
    assert ask(server, f"/greenlets?count={COUNT}")["faults"] < OTHER_FAULTS


def test_after_a_reload(launch):
    """The master's memory is as it was: the next worker starts with a cache of its own, or with none."""
    server = launch("frames:app", config="frame_cache_chunks = 0\n")
    first = server.worker_pid()
    assert ask(server, f"/greenlets?count={COUNT}")["faults"] >= COUNT
    (server.workdir / "test.conf.py").write_text("frame_cache_chunks = 64\n")
    server.kill(signal.SIGHUP)
    server.wait_workers(1, without=[first])
    assert ask(server, f"/greenlets?count={COUNT}")["faults"] < OTHER_FAULTS
