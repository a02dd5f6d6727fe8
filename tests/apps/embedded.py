"""Programs that hold a server in themselves: `embedded.py KIND PACKAGE`, their options in options.json.

PACKAGE is the one that the server's classes come from.
"""

import importlib
import json
import os
import sys

from hooklog import record

KIND, PACKAGE = sys.argv[1:3]
del sys.argv[1:]
base = importlib.import_module(f"{PACKAGE}.app.base")
wsgiapp = importlib.import_module(f"{PACKAGE}.app.wsgiapp")


def read_options():
    """What the server shall be, as it is written now."""
    with open("options.json") as file:
        return json.load(file)


def handler_app(environ, start_response):
    """A small application of the program itself."""
    body = json.dumps({"pid": os.getpid(), "path": environ["PATH_INFO"], "word": environ.get("word")}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


class StandaloneApplication(base.BaseApplication):
    """The least that a program has to give: an application and options."""

    def __init__(self, app, options=None):
        self.options = options or {}
        self.application = app
        super().__init__()

    def load_config(self):
        record("load_config", names=sorted(self.options), settings=len(self.cfg.settings) > 80)
        config = {
            key: value for key, value in self.options.items() if key in self.cfg.settings and value is not None
        }
        for key, value in config.items():
            self.cfg.set(key.lower(), value)

    def load(self):
        record("load")
        return self.application


class ReloadingApplication(StandaloneApplication):
    """Reads its options again at every reload, and has hooks that are methods."""

    def load_config(self):
        self.options = read_options()
        super().load_config()
        self.cfg.set("when_ready", self.ready)
        self.cfg.set("post_fork", lambda server, worker: record("post_fork", same=server.app is worker.app))
        self.cfg.set("on_reload", lambda server: record("on_reload", same=server.app is self))
        self.cfg.set("on_exit", lambda server: record("on_exit"))

    def ready(self, server):
        record("when_ready", same=server.app is self, workers=self.cfg.workers)

    def load(self):
        """Wraps what the base class has."""
        application = super().load()
        word = self.options.get("word")

        def wrapped(environ, start_response):
            environ["word"] = word
            return application(environ, start_response)

        return wrapped


class FailingApplication(StandaloneApplication):
    """Cannot load."""

    def load(self):
        raise ValueError("cannot load")


class NamedApplication(wsgiapp.WSGIApplication):
    """Loads an application by its name; the command line is not looked at."""

    def __init__(self, app_uri, options):
        self.options = options
        self.app_uri = app_uri
        super().__init__()

    def load_config(self):
        for key, value in self.options.items():
            if key in self.cfg.settings:
                self.cfg.set(key, value)


class CommandApplication(base.Application):
    """Its options are defaults: a command line and a configuration file stand above them."""

    def init(self, parser, opts, args):
        record("init", args=args)
        return {key: value for key, value in read_options().items() if key != "argv"}

    def load(self):
        record("loaded", umask=self.cfg.umask, mode=self.cfg.control_socket_mode, name=self.cfg.proc_name)
        return handler_app


def main():
    """Run the program of the wanted kind."""
    if KIND == "standalone":
        StandaloneApplication(handler_app, read_options()).run()
    elif KIND == "reloading":
        ReloadingApplication(handler_app).run()
    elif KIND == "failing":
        FailingApplication(handler_app, read_options()).run()
    elif KIND == "named":
        NamedApplication("team_app:app", read_options()).run()
    elif KIND == "command":
        sys.argv[1:] = read_options()["argv"]
        sys.path.append(os.getcwd())
        CommandApplication("%(prog)s [OPTIONS] [WORD]", prog="team").run()
    elif KIND == "run":
        sys.argv[1:] = read_options()["argv"]
        wsgiapp.run()
    elif KIND == "paste":
        # As PasteDeploy calls it for the file's section `server:main`, whose values are texts.
        local = {key: str(value) for key, value in read_options().items()}
        importlib.import_module(f"{PACKAGE}.app.pasterapp").serve(handler_app, {"__file__": "shop.ini"}, **local)
    elif KIND == "incomplete":
        base.BaseApplication()
    print("not reached", flush=True)


if __name__ == "__main__":
    main()
