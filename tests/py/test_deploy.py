"""The recipes of docs/deploy.md, word for word: only paths and ports are replaced by those of the test."""

import contextlib
import json
import re
import shutil
import socket
import ssl
import subprocess

import pytest
from harness import APPS, environment, wait_for
from rawhttp import TIMEOUT_S, Client, connect, request
from services import missing

pytestmark = pytest.mark.one_driver

DOCUMENT = APPS.parents[1] / "docs" / "deploy.md"
UPGRADE = {"Connection": "Upgrade", "Upgrade": "echo"}


def block(path):
    """The code block that begins with this comment."""
    found = re.findall(rf"^```\w+\n(# {re.escape(path)}\n.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 1, path
    return found[0]


def replaced(text, **replacements):
    """The text with some of its words replaced, each of which has to be there."""
    for old, new in replacements.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def program(name, service):
    """Debian keeps servers off the PATH of users."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    return found or missing(service)


def free_ports(count):
    """Ports that nobody listens on at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


@contextlib.contextmanager
def running(command, port, folder):
    """A front end that answers at the port."""
    with (folder / "front.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def listens():
        assert process.poll() is None, (folder / "front.log").read_text()
        with contextlib.suppress(OSError):
            connect(("127.0.0.1", port)).close()
            return True
        return False

    try:
        wait_for(f"{command[0]} at {port}", listens)
        yield process
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A folder with shop.pem (the certificate), shop.key and both.pem."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=shop.example"]
    command += ["-keyout", str(folder / "shop.key"), "-out", str(folder / "shop.pem")]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "both.pem").write_text((folder / "shop.pem").read_text() + (folder / "shop.key").read_text())
    return folder


class Front:
    """A front end, and the server behind it."""

    def __init__(self, server, port, tls_port):
        self.server, self.port, self.tls_port = server, port, tls_port

    def client(self, host="127.0.0.1"):
        """A client, whose own address is `host`."""
        client = Client(("127.0.0.1", self.port))
        if host != "127.0.0.1":
            client.sock.close()
            client.sock = socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S, (host, 0))
        return client

    def environ(self, host="127.0.0.1", headers=None):
        """What the application is told."""
        with self.client(host) as client:
            response = client.get("/environ?a=1", headers=headers or {}, host="shop.example")
        assert response.status == 200, response
        return json.loads(response.body)

    def environ_by_tls(self, headers=None):
        """The same, over TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with Client(("127.0.0.1", self.tls_port)) as client:
            client.sock = context.wrap_socket(client.sock, server_hostname="shop.example")
            response = client.get("/environ", headers=headers or {}, host="shop.example")
        assert response.status == 200, response
        return json.loads(response.body)


def worker_class(flavour):
    """Replacements in a configuration: Gunicorn has no `uring`."""
    return {} if flavour.own else {'"uring"': '"gthread"'}


@contextlib.contextmanager
def behind_nginx(flavour, launch, workdir, certificate):
    """A server behind nginx, both configured as the document says."""
    nginx = program("nginx", "nginx")
    port, tls_port = free_ports(2)
    path = str(workdir / "shop.sock")
    config = replaced(block("/srv/shop/gunicorn.conf.py"), **{"/run/shop/shop.sock": path} | worker_class(flavour))
    site = replaced(
        block("/etc/nginx/conf.d/shop.conf"),
        **{
            "/run/shop/shop.sock": path,
            "listen 80;": f"listen 127.0.0.1:{port};",
            "listen 443 ssl;": f"listen 127.0.0.1:{tls_port} ssl;",
            "/etc/ssl/shop": str(certificate / "shop"),
        },
    )
    temporary = "".join(
        f"{kind}_temp_path {workdir}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (workdir / "nginx.conf").write_text(
        f"daemon off;\nuser root;\nworker_processes 1;\npid {workdir}/nginx.pid;\nerror_log stderr;\n"
        f"events {{ worker_connections 256; }}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n"
    )
    server = launch("deployed:app", bind=None, config=config, at=path, untyped=True, workdir=workdir)
    with running([nginx, "-p", str(workdir), "-c", str(workdir / "nginx.conf"), "-e", "stderr"], port, workdir):
        yield Front(server, port, tls_port)


@contextlib.contextmanager
def behind_haproxy(flavour, launch, workdir, certificate):
    """A server behind HAProxy, both configured as the document says."""
    haproxy = program("haproxy", "HAProxy")
    port, tls_port, backend = free_ports(3)
    config = replaced(
        block("/srv/shop/gunicorn.haproxy.py"),
        **{"127.0.0.1:8000": f"127.0.0.1:{backend}"} | worker_class(flavour),
    )
    site = replaced(
        block("/etc/haproxy/haproxy.cfg"),
        **{
            "127.0.0.1:8000": f"127.0.0.1:{backend}",
            "bind :80\n": f"bind 127.0.0.1:{port}\n",
            "bind :443 ssl crt /etc/haproxy/shop.pem": f"bind 127.0.0.1:{tls_port} ssl crt {certificate}/both.pem",
            "inter 2s": "inter 200ms",
        },
    )
    (workdir / "haproxy.cfg").write_text(site)
    server = launch("deployed:app", bind=None, config=config, untyped=True, workdir=workdir)
    with running([haproxy, "-f", str(workdir / "haproxy.cfg"), "-db"], port, workdir):
        yield Front(server, port, tls_port)


@pytest.fixture
def nginx(flavour, launch, workdir, certificate):
    with behind_nginx(flavour, launch, workdir, certificate) as front:
        yield front


@pytest.fixture
def haproxy(flavour, launch, workdir, certificate):
    with behind_haproxy(flavour, launch, workdir, certificate) as front:
        yield front


@pytest.fixture(params=[behind_nginx, behind_haproxy], ids=["nginx", "haproxy"])
def front(request, flavour, launch, workdir, certificate):
    with request.param(flavour, launch, workdir, certificate) as front:
        yield front


def test_scheme(front):
    assert front.environ()["wsgi.url_scheme"] == "http"
    assert front.environ_by_tls()["wsgi.url_scheme"] == "https"
    # The client has no say.
    assert front.environ(headers={"X-Forwarded-Proto": "https"})["wsgi.url_scheme"] == "http"


def test_nginx_passes_the_clients_address_in_a_header(nginx):
    found = nginx.environ("127.0.0.7", headers={"X-Forwarded-For": "6.6.6.6", "SCRIPT_NAME": "/evil"})
    assert found["HTTP_X_FORWARDED_FOR"] == "127.0.0.7"
    assert (found["REMOTE_ADDR"], found["SERVER_NAME"], found["SERVER_PORT"]) == ("", "shop.example", "80")
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("", "/environ")


def test_haproxy_passes_the_clients_address_by_the_proxy_protocol(haproxy):
    found = haproxy.environ("127.0.0.7")
    assert found["REMOTE_ADDR"] == "127.0.0.7"
    assert (found["PROXY_PROTOCOL"], found["PROXY_ADDR"]) == ("TCP4", "127.0.0.1")
    assert found["PROXY_PORT"] == str(haproxy.port)


@pytest.mark.own(reason="Gunicorn puts None into the environ")
def test_health_checks_of_haproxy(haproxy):
    log = haproxy.server.workdir / "health.log"
    lines = wait_for("two checks", lambda: log.exists() and len(log.read_text().splitlines()) > 1 and log.read_text())
    assert set(lines.splitlines()) == {"LOCAL 127.0.0.1"}


def test_connections_are_kept(front):
    with front.client() as client:
        for _ in range(3):
            assert client.get("/health").body == b"well"


def test_uploads(front):
    with front.client() as client:
        client.send(request("/upload", method="POST", body=b"x" * 3_000_000))
        assert client.response().body == b"3000000"


def test_answers_arrive_piece_by_piece(front):
    with front.client() as client:
        client.send(request("/events/lazy"))
        seen = b""
        while b"first" not in seen:
            seen += client.sock.recv(4096)
        assert b"second" not in seen
        (front.server.workdir / "gate").touch()
        while b"second" not in seen:
            seen += client.sock.recv(4096)


def test_upgrades_pass(front):
    with front.client() as client:
        client.send(request("/echo", headers=UPGRADE))
        answer = client.head()
        assert (answer.status, answer.header("Upgrade")) == (101, "echo")
        for text in (b"hello", b"again", b"END\n"):
            client.send(text)
            assert client.exactly(len(text)) == text


def test_units(flavour, tmp_path):
    analyze = program("systemd-analyze", "systemd")
    units = []
    for name in ("shop.socket", "shop.service"):
        text = block(f"/etc/systemd/system/{name}")
        if name == "shop.service":
            text = replaced(text, **{"/srv/shop/venv/bin/rgunicorn": str(flavour.path)})
        (tmp_path / name).write_text(text)
        units.append(str(tmp_path / name))
    found = subprocess.run(
        [analyze, "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )
    # Of units of the machine itself, of which a container has odd ones, nothing is asked.
    complaints = [line for line in (found.stdout + found.stderr).splitlines() if "shop." in line]
    assert not complaints, complaints


@pytest.mark.own(reason="of its own name and worker")
def test_the_command_of_the_container(flavour, launch):
    command = json.loads(re.search(r"^CMD (\[.*\])$", block("Dockerfile"), re.MULTILINE)[1])
    assert (command[0], command[-1]) == ("rgunicorn", "shop.wsgi:application")
    (port,) = free_ports(1)
    variables = {"PORT": str(port), "WEB_CONCURRENCY": "2"}
    server = launch("deployed:app", *command[3:-1], bind=None, env=variables, at=("127.0.0.1", port))
    server.wait_workers(2)
    assert server.get("/health").body == b"well"
    wait_for("the access log", lambda: "GET /health" in server.stdout.read_text())
