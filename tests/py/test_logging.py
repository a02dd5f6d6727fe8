"""The error log's and the access log's lines, reopening, and that a full disk never stops the service."""

import os
import re
import shutil
import signal

import pytest
from harness import wait_for
from rawhttp import request

STAMP = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\]"
TIME = r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"


def access_lines(server, count):
    """The access log, once it has this many lines."""
    log = server.workdir / "access.log"

    def lines():
        found = log.read_text().split("\n")[:-1] if log.exists() else []
        return found if len(found) >= count else None

    found = wait_for(f"{count} access lines", lines)
    assert len(found) == count, found
    return found


@pytest.fixture
def logged(launch):
    """Start a server with an access log, send one request, give its line."""

    def logged(line_format, data, app="http_app:app", **options):
        args = ["--access-logfile", "access.log"]
        if line_format is not None:
            args += ["--access-logformat", line_format]
        server = launch(app, *args, **options)
        server.exchange(data)
        return access_lines(server, 1)[0]

    return logged


def test_error_log_lines(launch):
    server = launch("http_app:app")
    server.get()
    lines = [line for line in server.log.splitlines() if line]
    assert len(lines) >= 4
    for line in lines:
        assert re.fullmatch(rf"{STAMP} \[\d+\] \[(DEBUG|INFO|WARNING)\] .+", line), line


@pytest.mark.parametrize(
    ("level", "has", "lacks"),
    [
        ("debug", "Booting worker", "TRACE"),
        ("INFO", "Booting worker", "[DEBUG]"),
        ("nonsense", "Booting worker", "[DEBUG]"),
    ],
)
def test_levels(launch, level, has, lacks):
    server = launch("http_app:app", "--log-level", level)
    server.get("/raise")
    server.wait_log("ValueError")
    assert has in server.log
    assert lacks not in server.log


def test_error_level_is_quiet(launch):
    server = launch("http_app:app", "--log-level", "error", bind="unix:server.sock", quiet=True)
    assert server.get().status == 200
    assert server.log == ""


def test_default_access_line(logged):
    data = request("/?a=b", headers={"User-Agent": "test/1", "Referer": "http://r.test/"})
    line = logged(None, data)
    assert re.fullmatch(rf'127\.0\.0\.1 - - {TIME} "GET /\?a=b HTTP/1\.1" 200 5 "http://r\.test/" "test/1"', line), line


def test_default_access_line_without_fields(logged):
    assert logged(None, request("/no-such-path")).endswith('"GET /no-such-path HTTP/1.1" 404 12 "-" "-"')


ATOMS = {
    "%(h)s %(l)s %(u)s": "127.0.0.1 - -",
    "%(r)s": "POST /echo?q=%20x HTTP/1.1",
    "%(m)s %(U)s %(q)s %(H)s": "POST /echo q=%20x HTTP/1.1",
    "%(s)s %(b)s %(B)s": "200 5 5",
    "%(f)s|%(a)s": "http://r.test/|agent",
    "%({x-one}i)s %({X-ONE}i)s %({x-none}i)s": "1 1 -",
    "%({content-type}o)s %({x-none}o)s": "text/plain -",
    "%({request_method}e)s %({wsgi.url_scheme}e)s": "POST http",
    "%(nothing)s %(T)s %%": "- 0 %",
    "%(s)5s|%(m)-6s|": "  200|POST  |",
    "caf\xe9 %(s)s": "caf\xe9 200",
}


@pytest.mark.parametrize("line_format", ATOMS)
def test_atoms(logged, line_format):
    data = request(
        "/echo?q=%20x",
        method="POST",
        body=b"hello",
        headers={"User-Agent": "agent", "Referer": "http://r.test/", "X-One": "1"},
    )
    assert logged(line_format, data) == ATOMS[line_format]


@pytest.mark.parametrize(
    ("line_format", "pattern"),
    [("%(t)s", TIME), ("%(p)s", r"<\d+>"), ("%(L)s", r"0\.\d{6}"), ("%(D)s", r"\d+"), ("%(M)s", r"\d+")],
)
def test_atoms_that_vary(logged, line_format, pattern):
    assert re.fullmatch(pattern, logged(line_format, request()))


@pytest.mark.own
def test_the_bytes_of_a_file_are_counted(launch):
    """Gunicorn logs 0: sendfile(2) has sent them."""
    server = launch("wsgi_app:app", "--access-logfile", "access.log", "--access-logformat", "%(s)s %(b)s %(B)s")
    assert len(server.get("/file?size=1000").body) == 1000
    assert len(server.get("/file?size=1000&offset=100&length=50").body) == 50
    assert access_lines(server, 2) == ["200 1000 1000", "200 50 50"]


def test_duration(launch):
    server = launch("life:app", "--access-logfile", "access.log", "--access-logformat", "%(T)s %(M)s %(D)s %(L)s")
    server.get("/sleep?s=1.1")
    seconds, milliseconds, microseconds, exact = access_lines(server, 1)[0].split()
    assert seconds == "1"
    assert 1100 <= int(milliseconds) < 3000
    assert 1_100_000 <= int(microseconds) < 3_000_000
    assert abs(float(exact) - int(microseconds) / 1e6) < 0.001


def test_quotes_are_escaped(logged):
    data = request(headers={"User-Agent": 'a "b" c', "X-One": 'x"y'})
    assert logged('"%(a)s" "%({x-one}i)s"', data) == r'"a \"b\" c" "x\"y"'


def test_high_bytes_are_latin_1_and_the_file_is_utf_8(logged):
    assert logged("%(a)s", request(headers={"User-Agent": "caf\xe9\xa0"})) == "caf\xe9\xa0"


def test_basic_auth_user(logged):
    assert logged("%(u)s", request(headers={"Authorization": "Basic YW5uOnNlY3JldA=="})) == "ann"
    assert logged("%(u)s", request(headers={"Authorization": "Bearer abc"})) == "-"


def test_unix_peer_has_no_address(logged):
    assert logged("[%(h)s]", request(), bind="unix:server.sock") == "[]"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (request("/items"), "200 11"),
        (request(method="HEAD"), "200 0"),
        (request("/raise"), "500 0"),
        (request("/status?line=204_None"), "204 0"),
        (request("/file"), "404 12"),
    ],
)
def test_status_and_bytes(launch, data, line):
    server = launch("http_app:app", "--access-logfile", "access.log", "--access-logformat", "%(s)s %(B)s")
    server.exchange(data, "HEAD" if data.startswith(b"HEAD") else "GET")
    assert access_lines(server, 1) == [line]


def test_one_line_for_each_request_in_order(launch):
    server = launch("http_app:app", "--access-logfile", "access.log", "--access-logformat", "%(q)s")
    with server.client() as client:
        client.send(b"".join(request(f"/?{number}") for number in range(50)))
        for _ in range(50):
            client.response()
    assert access_lines(server, 50) == [str(number) for number in range(50)]


def test_dash_is_stdout(launch):
    server = launch("http_app:app", "--access-logfile", "-")
    server.get("/?to-stdout")
    wait_for("the line on stdout", lambda: b"/?to-stdout" in server.stdout.read_bytes())
    assert "to-stdout" not in server.log


def test_no_access_log_by_default(launch):
    server = launch("http_app:app")
    server.get("/?unseen")
    assert server.terminate() == 0
    assert "unseen" not in server.log
    assert server.stdout.read_bytes() == b""


def test_usr1_reopens_the_logs(launch, workdir):
    server = launch("http_app:app", "--access-logfile", "access.log", errorlog=workdir / "error.log", workdir=workdir)
    server.get("/?before")
    access_lines(server, 1)
    for name in ("access.log", "error.log"):
        os.rename(workdir / name, workdir / f"{name}.1")
    server.kill(signal.SIGUSR1)
    wait_for("the new files", lambda: (workdir / "access.log").exists() and (workdir / "error.log").exists())

    def logged_anew():
        server.get("/?after")
        return (workdir / "access.log").exists() and "after" in (workdir / "access.log").read_text()

    wait_for("a line in the new file", logged_anew)
    assert "before" in (workdir / "access.log.1").read_text()
    server.get("/raise")
    server.wait_log("ValueError")


def test_a_full_disk_does_not_stop_the_service(launch):
    server = launch("http_app:app", "--access-logfile", "/dev/full")
    with server.client() as client:
        for _ in range(50):
            assert client.get().status == 200
    assert server.get("/raise").status == 500
    assert server.get().status == 200


def test_a_full_disk_for_the_error_log_does_not_stop_the_service(launch):
    server = launch("http_app:app", "--error-logfile", "/dev/full", bind="unix:server.sock", quiet=True)
    assert server.get("/raise").status == 500
    assert server.get().status == 200


def test_repeated_fields_are_joined_as_in_the_environ(logged):
    data = b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: one\r\nReferer: r1\r\nuser-agent: two\r\nREFERER: r2\r\n\r\n"
    assert logged("%(a)s %(f)s", data) == "one,two r1,r2"


def test_a_log_directory_that_vanishes_does_not_stop_the_service(launch, workdir):
    logs = workdir / "logs"
    logs.mkdir()
    server = launch("http_app:app", "--access-logfile", "logs/access.log", workdir=workdir)
    assert server.get().status == 200
    shutil.rmtree(logs)
    assert server.get().status == 200
    if not server.flavour.own:
        return  # The reference's workers fail at the signal.
    server.kill(signal.SIGUSR1)
    server.wait_log("Cannot open the access log again", count=1)
    assert server.get().status == 200
    assert server.get("/raise").status == 500


@pytest.mark.own
def test_lines_of_a_worker(launch):
    """Beside Gunicorn's, one."""
    server = launch("http_app:app")
    assert server.get("/").status
    (pid,) = server.workers()
    lines = re.findall(rf"\[{pid}\] \[(\w+)\] (.*)", server.log)
    assert [level for level, _ in lines] == ["INFO", "INFO"], lines
    assert lines[0][1] == f"Booting worker with pid: {pid}"
    driver = server.flavour.options[server.flavour.options.index("--io-driver") + 1]
    how = "requests in 4 threads" if server.flavour.threads else "one request at a time"
    assert lines[1][1] == f"Worker {pid} runs {how} on {driver}; handoff after 5 ms"
