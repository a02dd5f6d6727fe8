"""Which servers the suite runs against, and the fixtures that start them.

Every test that starts a server runs once per flavour (`harness.FLAVOURS`). Tests of gevent applications run on the
same servers' cooperative workers instead (`harness.COOPERATIVE`). Two markers say whose promise it is: `parity` (the
default) holds for Gunicorn and for rgunicorn, `own` for rgunicorn alone; `one_thread` leaves workers with threads out,
and `one_driver` is for those who run the suite several times: such a test need not be among the later runs. Nor need
one that has `no_flavour`, which is given to all that take none: they are the same on whatever servers are chosen.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from harness import COOPERATIVE, FLAVOURS, Flavour, Server
from masters import Daemon
from services import Backend, PostgreSQL, Redis

Launch = Callable[..., Server]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--servers",
        default=os.environ.get("RGUNICORN_TEST_SERVERS", ""),
        help=f"comma list of {', '.join(FLAVOURS)}; default (env RGUNICORN_TEST_SERVERS): all that are installed. "
        f"Also {', '.join(flavour.name for flavour in COOPERATIVE.values())}: the whole suite on `-k gevent`",
    )


def chosen(config: pytest.Config) -> list[Flavour]:
    """The servers to test. One that was asked for by name must be there."""
    names = [name.strip() for name in config.getoption("--servers").split(",") if name.strip()]
    # The cooperative workers run the whole suite only when they are asked to.
    known = FLAVOURS | {flavour.name: flavour for flavour in COOPERATIVE.values()}
    if unknown := [name for name in names if name not in known]:
        raise pytest.UsageError(f"unknown servers {unknown}; known: {', '.join(known)}")
    if missing := [name for name in names if known[name].path is None]:
        raise pytest.UsageError(f"not installed: {', '.join(missing)}")
    found = [known[name] for name in names] or [flavour for flavour in FLAVOURS.values() if flavour.path]
    if not found:
        raise pytest.UsageError("no server is installed beside this Python or on PATH")
    return found


def pytest_configure(config: pytest.Config) -> None:
    chosen(config)  # A server that is missing ends the run here, with one message.


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    servers = chosen(metafunc.config)
    cooperative = list(
        dict.fromkeys(COOPERATIVE.get(server.name, server) for server in servers if not (server.own and server.threads))
    )
    # Where the application patches itself, `-k uring` has to notice; Gunicorn's threads are not meant for that.
    patched = cooperative + [server for server in servers if server.own and server not in cooperative]
    for name, flavours in (("flavour", servers), ("gevent_flavour", cooperative), ("patched_flavour", patched)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, flavours, ids=lambda flavour: flavour.name, scope="session")


def parameters(item: pytest.Item) -> list[object]:
    """What the test was parametrised with."""
    spec = getattr(item, "callspec", None)
    return list(spec.params.values()) if spec else []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    foreign = []
    for item in items:
        own = item.get_closest_marker("own")
        if own is None:
            item.add_marker(pytest.mark.parity)
        elif any(isinstance(value, Flavour) and not value.own for value in parameters(item)):
            foreign.append(item)
        if not any(name.endswith("flavour") for name in item.fixturenames):
            item.add_marker(pytest.mark.no_flavour)
        threaded = any(isinstance(value, Flavour) and value.own and value.threads for value in parameters(item))
        if threaded and item.get_closest_marker("one_thread"):
            foreign.append(item)
        # Of greenlets, and none of the chosen servers has any.
        if any(name.endswith("flavour") for name in item.fixturenames) and not any(
            isinstance(value, Flavour) for value in parameters(item)
        ):
            foreign.append(item)
    if foreign:
        config.hook.pytest_deselected(items=foreign)
        items[:] = [item for item in items if item not in set(foreign)]


def launcher(flavour: Flavour, make_dir: Callable[[], Path], kind: type[Server] = Server) -> Iterator[Launch]:
    """A function that starts servers, and the promise that they are closed."""
    servers: list[Server] = []

    def launch(app: str | None, *args: str, deaths: bool = False, workdir: Path | None = None, **options) -> Server:
        server = kind(flavour, workdir or make_dir(), deaths=deaths)
        servers.append(server)
        return server.start(app, *args, **options)

    launch.flavour = flavour  # type: ignore[attr-defined]
    yield launch
    errors = []
    for server in reversed([server for server in servers if hasattr(server, "process")]):
        try:
            server.close()
        except AssertionError as error:
            errors.append(str(error))
    assert not errors, "\n".join(errors)


@pytest.fixture
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose path is short enough for a unix socket."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A browser: cookies and kept-alive connections."""
    with requests.Session() as session:
        yield session


@pytest.fixture
def launch(flavour: Flavour, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Starts servers that live as long as the test."""
    yield from launcher(flavour, lambda: tmp_path_factory.mktemp("s"))


@pytest.fixture
def launch_daemon(flavour: Flavour, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """As `launch`, for servers in the background."""
    yield from launcher(flavour, lambda: tmp_path_factory.mktemp("d"), Daemon)


@pytest.fixture(scope="module")
def launch_module(flavour: Flavour, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Starts servers that a module's tests share; closing them proves that none of the tests harmed a worker."""
    yield from launcher(flavour, lambda: tmp_path_factory.mktemp("m"))


@pytest.fixture
def launch_gevent(gevent_flavour: Flavour, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """As `launch`, with the worker that runs each request in a greenlet."""
    yield from launcher(gevent_flavour, lambda: tmp_path_factory.mktemp("g"))


@pytest.fixture(scope="module")
def launch_gevent_module(gevent_flavour: Flavour, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """As `launch_module`, with the worker that runs each request in a greenlet."""
    yield from launcher(gevent_flavour, lambda: tmp_path_factory.mktemp("gm"))


@pytest.fixture
def launch_patched(patched_flavour: Flavour, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Every worker that runs an application in greenlets if the application, or its configuration, patches itself."""
    yield from launcher(patched_flavour, lambda: tmp_path_factory.mktemp("p"))


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as are allowed, for this process and the servers that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server of this test run."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis server of this test run."""
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A slow HTTP service."""
    with Backend() as server:
        yield server
