"""Short requests beside long ones, behind a balancer that keeps connections open: how long the short ones take.

    bench/setup.sh
    target/venv-bench/bin/python bench/proxied.py            (about 6 minutes; --help for less)

Four workers of each server behind nginx (`keepalive 64`) and behind HAProxy (`http-reuse always`). Clients ask at
random moments, so many times a second whatever the answers do; 95 of 100 requests keep their worker for 1 ms, the
others for 200 ms. What counts is the time from the moment of a short request to the end of its answer. Gunicorn's sync
worker has the ideal queue: it takes a connection for one request, when it has time, and closes it.

Servers are interleaved: every round runs each of them once. Medians of the rounds' percentiles are reported.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import load
import report
import servers

APP = "bench_mixed:app"
WORKERS = 4
CLIENTS = 64
SHORT_MS, LONG_MS = 1, 200
LONG_PART = 0.05
WAIT_S = 20.0
NGINX = """daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    upstream app {{ server 127.0.0.1:{server}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""
HAPROXY = """global
    maxconn 1000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend front
    bind 127.0.0.1:{port}
    default_backend app
backend app
    server app 127.0.0.1:{server}
"""

Run = dict[str, Any]


def table() -> list[servers.Server]:
    """The servers, with four workers each."""

    def four(program: str, *extra: str) -> Any:
        start = servers.gunicorn(program, *extra, app=APP)

        def arguments(port: int) -> list[str]:
            words = start(port)
            words[words.index("-w") + 1] = str(WORKERS)
            return words

        return arguments

    return [
        servers.Server("rgunicorn uring", "rgunicorn", four("rgunicorn", "-k", "uring")),
        servers.Server("rgunicorn, no handoff", "rgunicorn", four("rgunicorn", "-k", "uring", "--no-handoff")),
        servers.Server("gunicorn sync", "gunicorn", four("gunicorn", "-k", "sync", "--no-control-socket")),
        servers.Server("gunicorn gthread", "gunicorn", four("gunicorn", "-k", "gthread", "--no-control-socket")),
    ]


def main() -> None:
    """Measure, then print Markdown on stdout and save JSON."""
    args = arguments()
    fronts = [front for front in args.fronts.split(",") if shutil.which(front)]
    if not fronts:
        sys.exit("neither nginx nor haproxy found: apt-get install nginx-light haproxy")
    chosen = servers.choose(args.servers, table=table())
    if not chosen:
        sys.exit("none of the servers is installed: run bench/setup.sh")
    facts = report.machine() | report.versions(chosen)
    facts["how"] = (
        f"{WORKERS} workers, {args.rate} requests a second by {CLIENTS} clients, "
        f"{args.rounds} rounds of {args.seconds} s"
    )
    runs = [
        one_run(args, front, server, number)
        for front in fronts
        for number in range(args.rounds)
        for server in load.rotated(chosen, number)
    ]
    print(report.header("Short requests beside long ones", facts))
    for front in fronts:
        print(f"### Behind {front}\n\n| server | p50 ms | p99 ms | worst ms | failed |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for server in chosen:
            own = [run for run in runs if (run["front"], run["server"]) == (front, server.name)]
            middle = [statistics.median(run[key] for run in own) for key in ("p50_ms", "p99_ms", "worst_ms")]
            cells = [server.name, *(f"{value:.1f}" for value in middle), str(sum(run["failed"] for run in own))]
            print(f"| {' | '.join(cells)} |")
        print()
    report.save(args.json, {"facts": facts, "runs": runs})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", help="comma-separated names; default: all that are installed")
    parser.add_argument("--fronts", default="nginx,haproxy")
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--seconds", default=8, type=int, help="length of one run")
    parser.add_argument("--rate", default=120, type=int, help="requests a second")
    parser.add_argument("--json", metavar="FILE", help="save every single run")
    return parser.parse_args()


def one_run(args: argparse.Namespace, front: str, server: servers.Server, number: int) -> Run:
    """Start a server and what is in front of it, and ask."""
    with servers.running(server, None) as (port, _), balancer(front, port) as door:
        ask_for(door, args.rate, 1.0, seed=-1)
        times, failed = ask_for(door, args.rate, args.seconds, seed=number)
    times.sort()
    at = {f"p{part}_ms": times[len(times) * part // 100] * 1e3 for part in (50, 99)}
    return {"front": front, "server": server.name, "round": number, "worst_ms": times[-1] * 1e3, "failed": failed} | at


@contextlib.contextmanager
def balancer(front: str, server: int) -> Iterator[int]:
    """The balancer before a server's port; its own port."""
    with tempfile.TemporaryDirectory() as place:
        port = servers.free_port()
        config = pathlib.Path(place) / "config"
        config.write_text({"nginx": NGINX, "haproxy": HAPROXY}[front].format(dir=place, server=server, port=port))
        command = {
            "nginx": ["nginx", "-p", place, "-c", str(config), "-e", "stderr"],
            "haproxy": ["haproxy", "-f", str(config), "-db"],
        }
        with subprocess.Popen(command[front], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                wait_for_port(port)
                yield port
            finally:
                process.terminate()
                process.wait(WAIT_S)


def wait_for_port(port: int) -> None:
    """Wait until something listens."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def ask_for(port: int, rate: int, seconds: float, seed: int) -> tuple[list[float], int]:
    """Ask at random moments; the times of the short requests in seconds, and how many requests have failed."""
    begun = time.monotonic()
    times: list[float] = []
    failed: list[int] = []
    lock = threading.Lock()

    def client(number: int) -> None:
        dice = random.Random(seed * 1000 + number)
        own, lost, at = [], 0, begun
        sock = socket.create_connection(("127.0.0.1", port), WAIT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            at += dice.expovariate(rate / CLIENTS)
            if at > begun + seconds:
                break
            time.sleep(max(0.0, at - time.monotonic()))
            is_long = dice.random() < LONG_PART
            try:
                exchange(sock, LONG_MS if is_long else SHORT_MS)
            except OSError:
                lost += 1
                sock.close()
                sock = socket.create_connection(("127.0.0.1", port), WAIT_S)
                continue
            if not is_long:
                own.append(time.monotonic() - at)
        sock.close()
        with lock:
            times.extend(own)
            failed.append(lost)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, sum(failed)


def exchange(sock: socket.socket, work_ms: int) -> None:
    """One request and its whole answer."""
    sock.sendall(f"GET /?{work_ms} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"Hello, world!"):
        piece = sock.recv(4096)
        if not piece:
            raise ConnectionResetError("closed before the answer")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(answer.split(b"\r\n")[0].decode())


if __name__ == "__main__":
    main()
