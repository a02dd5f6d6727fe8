"""Lines by which public projects import from Gunicorn, one entry for each kind of project, as names only.

All of them work with Gunicorn 27. What was only in older releases is in `GONE`.
"""

LINES = {
    "application: aiohttp's worker": [
        "from gunicorn.config import AccessLogFormat as GunicornAccessLogFormat",
        "from gunicorn.workers import base",
    ],
    "application: WSGI application of the command line": ["from gunicorn.app.wsgiapp import WSGIApplication"],
    "application: command line of a tool": ["from gunicorn.app.wsgiapp import run as run_gunicorn"],
    "application: command line, by its module": [
        "import gunicorn.app.wsgiapp as wsgi",
        "from gunicorn.app import wsgiapp",
    ],
    "application: standalone": ["import gunicorn.app.base", "from gunicorn.app.base import BaseApplication"],
    "application: standalone with a file": ["from gunicorn.app.base import Application, Config"],
    "application: Pyramid's loader": ["from gunicorn.app.pasterapp import serve as gunicorn_serve_paste"],
    "application: of another application's name": ["from gunicorn.util import import_app"],
    "application: OpenStack's": ["from gunicorn.app import base", "from gunicorn import config as gconfig"],
    "application: Flask's commands": [
        "from gunicorn import version_info",
        "from gunicorn.arbiter import Arbiter",
        "from gunicorn.config import Config",
    ],
    "application: a framework's publisher": [
        "from gunicorn import util, workers, glogging",
        "from gunicorn import reloader",
        "from gunicorn.app import base",
    ],
    "application: Django's command": [
        "from gunicorn import debug, util",
        "from gunicorn.app.base import Application as BaseApplication",
        "from gunicorn.arbiter import Arbiter",
    ],
    "application: a node that shows its API": [
        "from gunicorn import util as gunicorn_util",
        "from gunicorn.arbiter import Arbiter",
        "from gunicorn.errors import AppImportError",
    ],
    "application: logs of one form": [
        "from gunicorn.app.base import BaseApplication",
        "from gunicorn.arbiter import Arbiter",
    ],
    "application: settings of a framework": ["from gunicorn.config import KNOWN_SETTINGS"],
    "application: settings from YAML": [
        "from gunicorn import util",
        "from gunicorn.config import Setting, validate_string, validate_bool",
        "from gunicorn.errors import ConfigError",
    ],
    "application: an own loader": ["from gunicorn.config import Config, get_default_config_file"],
    "application: frozen into one file": ["from gunicorn import glogging", "from gunicorn.workers import sync"],
    "application: path of a data file": ["from gunicorn.util import getcwd"],
    "application: a benchmark of attributes": [
        "from gunicorn import SERVER, SERVER_SOFTWARE, __version__, version_info",
    ],
    "arbiter: a manager of several servers": [
        "from gunicorn.app.base import BaseApplication",
        "from gunicorn.glogging import Logger",
        "from gunicorn.pidfile import Pidfile",
        "from gunicorn import sock, systemd, util",
    ],
    "arbiter: an agent for security": ["from gunicorn.arbiter import Arbiter"],
    "hooks: metrics of saturation": [
        "from gunicorn.arbiter import Arbiter",
        "from gunicorn.http.message import Request",
        "from gunicorn.workers.base import Worker",
    ],
    "hooks: request log": ["from gunicorn.http import Request", "from gunicorn.http.wsgi import Response"],
    "hooks: a firewall": ["from gunicorn.http.body import Body"],
    "hooks: a service of systemd": ["from gunicorn.systemd import sd_notify"],
    "hooks: no Server header": ["from gunicorn.http import wsgi as gunicorn_wsgi"],
    "logger: JSON lines": ["from gunicorn.glogging import Logger", "from gunicorn.config import Config"],
    "logger: metrics": [
        "from gunicorn.instrument.statsd import Statsd as StatsdLogger",
        "from gunicorn.http.message import Request",
        "from gunicorn.http.wsgi import Response",
    ],
    "logger: rotation": ["import gunicorn.util", "from gunicorn import glogging"],
    "logger: defaults": ["from gunicorn.glogging import CONFIG_DEFAULTS, Logger, SafeAtoms"],
    "tests: of Gunicorn's own kind": [
        "from gunicorn import util, config",
        "from gunicorn.http.errors import InvalidHeader, InvalidHeaderName, InvalidHTTPVersion, LimitRequestHeaders",
        "from gunicorn.http.errors import InvalidSchemeHeaders, NoMoreData, ObsoleteFolding, ParseException",
        "from gunicorn.http.parser import RequestParser",
        "from gunicorn.http.unreader import IterUnreader, SocketUnreader",
    ],
    "tests: of a filter": ["from gunicorn.http.body import EOFReader, LengthReader"],
    "tests: of an application's body": ["from gunicorn.http.wsgi import Response, WSGIErrorsWrapper, FileWrapper"],
    "worker: thrift": [
        "from gunicorn.errors import AppImportError",
        "from gunicorn.workers.ggevent import GeventWorker",
        "from gunicorn.workers.sync import SyncWorker",
    ],
    "worker: ASGI servers": [
        "from gunicorn.sock import TCPSocket",
        "from gunicorn.workers.base import Worker",
        "from gunicorn.arbiter import Arbiter",
    ],
    "worker: HTTP/2 for Django": ["from gunicorn.sock import ssl_context as gconf_ssl_context"],
    "worker: WebSockets on pywsgi": [
        "from gunicorn.workers.ggevent import GeventPyWSGIWorker, PyWSGIHandler, PyWSGIServer",
        "import gunicorn.workers.ggevent as ggevent",
    ],
    "worker: WebSockets on gevent": [
        "from gunicorn.workers.base_async import ALREADY_HANDLED",
        "from gunicorn.workers.base_async import AsyncWorker",
    ],
    "worker: a patch of gthread": [
        "from gunicorn import SERVER_SOFTWARE, version_info",
        "from gunicorn.workers.gthread import TConn, ThreadWorker",
    ],
    "worker: another C server": ["from gunicorn.workers.base import Worker", "from gunicorn.glogging import Logger"],
    "worker: its beats": ["from gunicorn.workers.workertmp import WorkerTmp"],
    "worker: a registry": ["from gunicorn.workers import SUPPORTED_WORKERS"],
    "worker: chunk metadata": [
        "from gunicorn.http.body import ChunkedReader",
        "from gunicorn.http.errors import InvalidChunkExtension, InvalidChunkSize, LimitRequestLine",
    ],
    "worker: environs": ["from gunicorn.http.wsgi import base_environ, default_environ, proxy_environ, create"],
}  # fmt: skip

#: What neither has, and the beginning of what rgunicorn says.
GONE = {
    "from gunicorn.six import iteritems": "ModuleNotFoundError",
    "from gunicorn.workers.geventlet import EventletWorker": "ModuleNotFoundError",
    "import gunicorn.http.tee": "ModuleNotFoundError",
    "from gunicorn.app.pasterapp import PasterServerApplication": "ImportError",
    "from gunicorn.http.message import HEADER_RE": "ImportError",
    "from gunicorn import run": "ImportError",
    "import gunicorn; gunicorn.util.make_nothing": "AttributeError",
}
