"""The base classes of servers that a program brings along and configures."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from rgunicorn.arbiter import Arbiter
from rgunicorn.config import Config

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from wsgiref import types


class BaseApplication:
    """A server around an application object, configured by a program instead of a command line.

    A subclass has two methods: `load_config` sets what is to be configured (``self.cfg.set(name, value)``), and `load`
    gives the WSGI application. Then `run` serves until the server stops, and exits.
    """

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        self.usage = usage
        self.cfg: Any = None
        self.callable: types.WSGIApplication | None = None
        self.prog = prog
        self.logger: Any = None
        self.do_load_config()

    def do_load_config(self) -> None:
        """Make a fresh configuration; a bad one ends the program with status 1."""
        try:
            self.load_default_config()
            self.load_config()
        except Exception as error:
            print(f"\nError: {error}", file=sys.stderr)
            sys.stderr.flush()
            sys.exit(1)

    def load_default_config(self) -> None:
        """Begin with the defaults."""
        self.cfg = Config(self.usage, prog=self.prog)

    def init(
        self, parser: argparse.ArgumentParser, opts: argparse.Namespace, args: list[str]
    ) -> Mapping[str, Any] | None:
        """Return settings by name, in programs that read a command line."""
        raise NotImplementedError

    def load(self) -> types.WSGIApplication:
        """Return the WSGI application; called in each worker, or in the master with `preload_app`."""
        raise NotImplementedError

    def load_config(self) -> None:
        """Set what is to be configured."""
        raise NotImplementedError

    def reload(self) -> None:
        """Configure again: the server got HUP."""
        self.do_load_config()
        if self.cfg.spew:
            # Only this setting needs the module.
            from rgunicorn.debug import spew  # noqa: PLC0415

            spew()

    def wsgi(self) -> types.WSGIApplication:
        """Return the WSGI application, loaded by the first call."""
        if self.callable is None:
            self.callable = self.load()
        return self.callable

    def run(self) -> None:
        """Serve, and exit."""
        try:
            Arbiter(self).run()
        except RuntimeError as error:
            print(f"\nError: {error}\n", file=sys.stderr)
            sys.stderr.flush()
            sys.exit(1)


class Application(BaseApplication):
    """A `BaseApplication` with the command line and the configuration file of the server."""

    def chdir(self) -> None:
        """Change to the directory of the settings, and make it importable."""
        os.chdir(self.cfg.chdir)
        if self.cfg.chdir not in sys.path:
            sys.path.insert(0, self.cfg.chdir)

    def get_config_from_filename(self, filename: str) -> dict[str, Any]:
        """Run a configuration file and return the names that it sets."""
        if not os.path.exists(filename):
            raise RuntimeError(f"{filename!r} doesn't exist")
        if os.path.splitext(filename)[1] not in (".py", ".pyc"):
            warning = f"{filename}, the configuration file, has no Python extension (.py)"
            print(f"!!!\n!!! WARNING: {warning}\n!!!\n", file=sys.stderr)
        names: dict[str, Any] = {"__builtins__": __builtins__, "__file__": filename, "__name__": "__config__"}
        try:
            with open(filename, "rb") as file:
                exec(compile(file.read(), filename, "exec"), names)
        except Exception:
            print(f"Failed to read config file: {filename}", file=sys.stderr)
            traceback.print_exc()
            sys.stderr.flush()
            sys.exit(1)
        return names

    def get_config_from_module_name(self, module_name: str) -> dict[str, Any]:
        """Import a module and return the names that it sets."""
        return vars(importlib.import_module(module_name))

    def load_config_from_module_name_or_filename(self, location: str) -> dict[str, Any]:
        """Take the settings of ``python:MODULE``, or of a configuration file."""
        if location.startswith("python:"):
            names = self.get_config_from_module_name(location.removeprefix("python:"))
        else:
            names = self.get_config_from_filename(location.removeprefix("file:"))
        for name, value in names.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)
        return names

    def load_config_from_file(self, filename: str) -> dict[str, Any]:
        """Take the settings of a configuration file, or of ``python:MODULE``."""
        return self.load_config_from_module_name_or_filename(filename)

    def load_config(self) -> None:
        """Take the settings of `init`, then the configuration file, ``GUNICORN_CMD_ARGS`` and the command line."""
        parser = self.cfg.parser()
        args = parser.parse_args()
        env_args = parser.parse_args(self.cfg.get_cmd_args_from_env())
        given = self.init(parser, args, args.args)
        for name, value in (given or {}).items():
            if value is not None:
                self.cfg.set(name.lower(), value)
        file = args.config or env_args.config
        if file:
            self.load_config_from_file(file)
        elif os.path.exists("gunicorn.conf.py"):
            self.load_config_from_file("gunicorn.conf.py")
        for source in (env_args, args):
            for name, value in vars(source).items():
                if value is not None and name != "args":
                    # A flag that is not given is no wish to switch it off.
                    if value is False and name != "sendfile":
                        continue
                    self.cfg.set(name, value)
