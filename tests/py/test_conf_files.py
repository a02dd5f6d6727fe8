"""Files of tests/confs that are made of values: numbers, places, logs. Those made of hooks: test_conf_hooks.py."""

import json
import os
import re
import signal
import socket
import stat
from collections.abc import Iterator

import pytest
from conf_files import CONFS, facts, notes, start, wait_notes
from harness import wait_for
from rawhttp import Client, request

pytestmark = pytest.mark.one_driver


class Collector:
    """Receives datagrams."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]
        self.texts: list[str] = []

    def wait(self, pattern: str) -> str:
        """The first datagram that matches from its start to its end."""

        def found():
            try:
                while True:
                    self.texts.append(self.socket.recv(65536).decode())
            except BlockingIOError:
                return next((text for text in self.texts if re.fullmatch(pattern, text, re.DOTALL)), None)

        try:
            return wait_for(f"datagram {pattern!r}", found)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.texts}") from None


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.socket.close()


def lines(server, name, count):
    """A file beside the server, once it has this many lines."""
    path = server.workdir / name
    wait_for(f"{count} lines of {name}", lambda: path.exists() and path.read_text().count("\n") >= count)
    return path.read_text().splitlines()


def test_every_file_is_used():
    tests = "".join(path.read_text() for path in CONFS.parent.glob("py/test_*.py"))
    unused = [path.stem for path in CONFS.glob("*.py") if f'"{path.stem}"' not in tests]
    assert not unused


# How many, how long, where.


@pytest.mark.parametrize(("cap", "per_core", "count"), [("3", "2", 3), ("1", "2", 1), ("9", "0", 2)])
def test_workers_by_the_number_of_cores(launch, cap, per_core, count):
    server = start(launch, "cpu_workers", env={"WEB_CONCURRENCY_CAP": cap, "WORKERS_PER_CORE": per_core})
    assert len(server.wait_workers(count)) == count
    assert server.terminate() == 0


def test_values_from_the_environment(launch):
    env = {"GUNICORN_WORKERS": "2", "GUNICORN_PRELOAD": "Yes", "LOG_LEVEL": "DEBUG", "GUNICORN_TIMEOUT": "33"}
    server = start(launch, "environment", bind=None, env=env)
    assert "config host=127.0.0.1 workers=2 preload=True" in server.stdout.read_text()
    # The debug log has every setting, as `name: value`.
    for line in ("workers: 2", "timeout: 33", "keepalive: 5", "preload_app: True", "max_requests: 16"):
        server.wait_log(rf"(?m)^  {line}$")
    server.wait_workers(2)
    imported_in = json.loads(server.get("/engine").body)[0]
    assert imported_in == server.pid
    access = r'127\.0\.0\.1 - - \[.*\] "GET /engine HTTP/1\.1" 200 '
    wait_for("the access line on stdout", lambda: re.search(access, server.stdout.read_text()))


def test_a_template_full_of_nothing(launch):
    server = start(launch, "nones", bind=None)
    assert server.get().body == b"hello"
    assert server.stdout.read_text() == ""
    assert server.terminate() == 0


def test_a_module_with_helpers(launch):
    server = start(launch, "helpers")
    server.wait_log(r"\[INFO\] sizes \['large', 'small'\], last two, title helpers\.py:__config__")
    assert "not a server's logger" in server.log
    server.wait_workers(2)
    assert server.get().status == 200


def test_values_from_other_files(launch):
    server = start(launch, "from_files", "--log-level", "debug")
    server.wait_workers(2)
    server.wait_log(r"(?m)^  timeout: 45$")
    server.wait_log(r"(?m)^  proc_name: from-toml$")
    assert server.get("/env?name=SERVICE_NAME").body == b"shop"
    with server.client() as client:
        assert client.get("/env?name=SERVICE_ZONE").body == b"b"
        client.assert_closed()  # Without keep-alive.


def test_everything_in_the_file(launch, workdir):
    (workdir / "project").mkdir()
    (workdir / "lib").mkdir()
    (workdir / "lib" / "shop_library.py").write_text("WORD = 'library'\n")
    (workdir / "project" / "shop_app.py").write_text(
        "import os, shop_library\n"
        "def create(word, loud=False):\n"
        "    text = f'{word} {loud} {shop_library.WORD} {os.path.basename(os.getcwd())}'.encode()\n"
        "    def app(environ, start_response):\n"
        "        start_response('200 OK', [('Content-Length', str(len(text)))])\n"
        "        return [text]\n"
        "    return app\n"
    )
    server = start(launch, "by_file_alone", app=None, bind=None, workdir=workdir)
    assert server.get().body == b"from the file True library project"
    assert (workdir / "server.pid").read_text() == f"{server.pid}\n"
    assert server.terminate() == 0
    assert not (workdir / "server.pid").exists()


def test_two_unix_sockets(launch):
    server = start(launch, "two_sockets", bind=None)
    assert len(server.addresses) == 2
    for address in server.addresses:
        assert stat.S_IMODE(os.stat(address).st_mode) == 0o770
        with Client(address) as client:
            assert client.get("/").body == b"hello"
    server.wait_log(r"Listening at: unix:one\.sock,unix:/\S+/two\.sock \(")
    assert server.terminate() == 0
    assert not any(map(os.path.exists, server.addresses))


def test_behind_a_load_balancer(launch):
    server = start(launch, "proxy", bind=None)

    def scheme(**headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return server.exchange(request("/environ", headers=names))

    def told(response):
        return json.loads(response.body)["wsgi.url_scheme"]

    assert told(scheme(X_Forwarded_Proto="https")) == "https"
    assert told(scheme(CloudFront_Forwarded_Proto="https")) == "https"
    assert told(scheme(X_Forwarded_Proto="http")) == "http"
    # A name of the default that this file does not have.
    assert told(scheme(X_Forwarded_Ssl="on")) == "http"
    assert scheme(X_Forwarded_Proto="https", CloudFront_Forwarded_Proto="http").status == 400


def test_variables_for_the_application(launch):
    server = start(launch, "raw_env")
    server.wait_log(r"file saw None, on_starting sees shop\.settings")
    server.wait_log(r"server\.cfg\.env \[\('DJANGO_SETTINGS_MODULE', 'shop\.settings'\), \('EMPTY', ''\), ")
    assert server.get("/env?name=WITH_EQUALS").body == b"a=b"
    assert server.get("/env?name=EMPTY").body == b""


def test_variables_are_undone_before_the_file_is_read_again(launch):
    """The file would otherwise see at a HUP what it had set itself."""
    server = start(launch, "raw_env")
    first = server.worker_pid()
    server.kill(signal.SIGHUP)
    server.wait_workers(1, without=[first])
    assert server.get("/env?name=DJANGO_SETTINGS_MODULE").body == b"shop.settings"
    assert "file saw shop.settings" not in server.log


def test_recycling(launch):
    server = start(launch, "recycling")
    pids = []
    for _ in range(14):
        pid = server.worker_pid()
        if pid not in pids:
            pids.append(pid)
    assert len(pids) >= 3
    limits = {note["pid"]: note["limit"] for note in notes(server, "post_fork")}
    assert set(limits.values()) <= {3, 4, 5}
    for pid in pids[:2]:
        (note,) = wait_notes(server, "worker_exit", pid=pid)
        assert note["nr"] >= limits[pid]


def test_reload_with_templates(launch, workdir):
    (workdir / "templates").mkdir()
    template = workdir / "templates" / "a.html"
    template.write_text("one")
    server = start(launch, "reload_extra", workdir=workdir, deaths=True)
    server.wait_log("Reloader is on. Use in development only!")
    pid = server.worker_pid()
    stamp = template.stat().st_mtime + 10

    def noticed():
        nonlocal stamp
        stamp += 10  # The watch may have begun after the last change.
        os.utime(template, (stamp, stamp))
        return pid not in server.workers() and server.workers()

    wait_for("another worker", noticed)
    server.wait_log(r"Worker reloading: \S*a\.html modified")
    assert wait_notes(server, "worker_int", pid=pid)[0]["alive"] is False


# Logs.


def test_access_log_without_health_checks(launch):
    server = start(launch, "health_logger")
    assert server.get("/health").body == b"healthy"
    server.exchange(request("/", headers={"User-Agent": "kube-probe/1.30"}))
    server.exchange(request("/?a=b", headers={"User-Agent": 'a"b'}))
    lines(server, "access.log", 1)
    server.get("/no-such-path")
    assert lines(server, "access.log", 2) == [r'GET / 200 "a\"b"', 'GET /no-such-path 404 "-"']


def test_atoms_of_ones_own(launch):
    server = start(launch, "atoms_logger")
    server.exchange(request("/created", headers={"X-Forwarded-For": "10.0.0.7"}))
    assert lines(server, "access.log", 1) == ["201 10.0.0.7 - True timedelta 2xx 4/4 -"]


def test_filters_on_the_loggers(launch):
    server = start(launch, "filter_logger")
    server.get("/health")
    server.get("/")
    # Lines are written after the answer, by threads.
    lines(server, "access.log", 1)
    server.get("/raise")
    # Gunicorn makes another, smaller environ for a request that failed.
    assert lines(server, "access.log", 2) in (["/ 200", "/raise 500"], ["/ 200", "None 500"])
    server.wait_log(r"(?m)^shop ERROR Error handling request GET /raise$")
    assert "ValueError: raised on purpose" in server.log
    assert all(line.startswith(("shop INFO", "shop DEBUG")) for line in server.log.splitlines()[:4])


def test_filters_survive_a_reload(launch):
    server = start(launch, "filter_logger")
    first = server.worker_pid()
    server.kill(signal.SIGHUP)
    server.wait_workers(1, without=[first])
    wait_for("the new worker", lambda: server.worker_pid() != first)
    server.get("/health")
    server.get("/created")
    wait_for("the line", lambda: "/created 201" in lines(server, "access.log", 1))
    assert set(lines(server, "access.log", 2)) == {"/pid 200", "/created 201"}


def test_logger_class_by_its_path(launch):
    server = start(launch, "logger_by_path")
    server.wait_log(rf"(?m)^TEAM INFO \[{server.pid}\] Listening at: ")
    server.wait_log(r"(?m)^TEAM INFO \[\d+\] Booting worker with pid: \d+$")
    assert server.get().status == 200


def test_json_logs_by_a_dict(launch):
    server = start(launch, "json_logs")
    server.exchange(request("/created?a=b", headers={"User-Agent": "test/1"}))
    lines(server, "access.json", 1)
    server.get("/raise")
    entries = [json.loads(line) for line in lines(server, "access.json", 2)]
    assert [(entry["status"], entry["agent"]) for entry in entries] == [("201", "test/1"), ("500", "-")]
    assert entries[0]["path"] == "/created"
    assert '"GET /created?a=b HTTP/1.1" 201 4 "-" "test/1"' in entries[0]["message"]
    server.wait_log("raised on purpose")
    errors = [json.loads(line) for line in server.log.splitlines()]
    assert {entry["logger"] for entry in errors} == {"gunicorn.error"}
    (error,) = [entry for entry in errors if entry["level"] == "ERROR"]
    assert error["message"] == "Error handling request GET /raise"
    assert error["traceback"].endswith("ValueError: raised on purpose")


def test_logs_by_an_ini_file(launch):
    server = start(launch, "logconfig_ini")
    server.get("/created")
    (line,) = lines(server, "ini-access.log", 1)
    assert re.fullmatch(r'ini 127\.0\.0\.1 - - \[.+\] "GET /created HTTP/1\.1" 201 4 "-" "-"', line)
    server.wait_log(r"(?m)^ini INFO gunicorn\.error Listening at: ")
    server.wait_log(r"(?m)^ini INFO gunicorn\.error Booting worker with pid: \d+$")


def test_logs_by_a_json_file(launch):
    server = start(launch, "logconfig_json")
    server.get("/created")
    # The default's loggers propagate to its root, which has the handler of the access log: that has both logs, and
    # its own records twice.
    pattern = r'(?m)^json 127\.0\.0\.1 - - \[.+\] "GET /created HTTP/1\.1" 201 4 "-" "-"$'
    path = server.workdir / "json-access.log"
    wait_for("both access lines", lambda: len(re.findall(pattern, path.read_text())) == 2)
    assert re.search(r"(?m)^json Booting worker with pid: \d+$", path.read_text())
    server.wait_log(r"(?m)^json INFO gunicorn\.error Listening at: ")


def test_an_access_line_with_most_atoms(launch):
    server = start(launch, "access_format")
    headers = {"Referer": "http://r.test/", "User-Agent": "test/1", "Authorization": "Basic YW5uOnB3"}
    server.exchange(request("/created?a=%20b", headers=headers, host="shop"))
    (line,) = lines(server, "access.log", 1)
    pattern = (
        r"h=127\.0\.0\.1 l=- u=ann t=\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
        r"r=GET /created\?a=%20b HTTP/1\.1 m=GET U=/created q=a=%20b H=HTTP/1\.1 s=201 b=4 B=4 f=http://r\.test/ "
        r'a="test/1" T=0 M=\d+ D=\d+ L=0\.\d{6} p=<\d+> host=shop none=- '
        r"made=yes server=- raw=/created\?a=%20b odd=- percent=%"
    )
    assert re.fullmatch(pattern, line), line


def test_statsd(launch, collector):
    server = start(launch, "statsd", env={"STATSD_PORT": str(collector.port)})
    tags = r"\|#env:test,team:web"
    collector.wait(rf"shop\.gunicorn\.workers:1\|g{tags}")
    server.get("/created")
    collector.wait(rf"shop\.gunicorn\.requests:1\|c\|@1\.0{tags}")
    collector.wait(rf"shop\.gunicorn\.request\.status\.201:1\|c\|@1\.0{tags}")
    collector.wait(rf"shop\.gunicorn\.request\.duration:\d+\.\d+\|ms{tags}")
    collector.wait(rf"shop\.shop\.seen:3\|c\|@1\.0{tags}")
    server.get("/raise")
    collector.wait(rf"shop\.gunicorn\.log\.exception:1\|c\|@1\.0{tags}")
    # A metric without a text is no line of the log.
    assert not re.search(r"\[INFO\] *$", server.log, re.MULTILINE)


def test_syslog(launch, collector):
    server = start(launch, "syslog", env={"SYSLOG_PORT": str(collector.port)})
    # local3 is 19, info is 6, error is 3.
    collector.wait(rf"<158>gunicorn\.shop\.error: \[{server.pid}\] Listening at: .*\x00?")
    server.get("/created?a=b")
    collector.wait(r"<158>gunicorn\.shop\.access: \[\d+\] GET /created 201\x00?")
    server.get("/raise")
    collector.wait(r"<155>gunicorn\.shop\.error: \[\d+\] Error handling request GET /raise\n.*ValueError.*")


def test_captured_output(launch):
    server = start(launch, "captured", bind="unix:server.sock", quiet=True)
    assert server.get("/print?text=from-the-application").body == b"printed"
    log = "\n".join(lines(server, "error.log", 3))
    for text in ("printed when ready", "logged when ready", "from-the-application"):
        assert text in log
    assert server.stderr.read_text() == server.stdout.read_text() == ""


def test_the_servers_name(launch):
    server = start(launch, "server_name")
    for path in ("/", "/no-such-path"):
        assert server.get(path).header("Server") == "Shop/2.0"
    assert json.loads(server.get("/environ").body)["SERVER_SOFTWARE"] == "Shop/2.0.1"


def test_values_set_when_the_server_starts(launch):
    server = start(launch, "cfg_set")
    with server.client() as client:
        assert client.get("/").status == 200
        client.assert_closed()  # keepalive is 0.
    first = notes(server, "post_fork")[0]["pid"]
    server.get("/")
    wait_notes(server, "post_fork", 2)
    assert facts(notes(server, "on_starting")[0]) == {"nothing": 2, "text": 0}
    assert facts(notes(server, "post_fork")[0]) == {"limit": 2, "same": True, "name": "named-late"}
    server.wait_workers(1, without=[first])
    server.wait_log("Autorestarting worker after current request")
