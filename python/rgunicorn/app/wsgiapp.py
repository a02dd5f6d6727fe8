"""The command line's own application class, for programs that extend it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from rgunicorn.__main__ import main
from rgunicorn.app.base import Application
from rgunicorn.app.pasterapp import get_wsgi_app
from rgunicorn.errors import ConfigError
from rgunicorn.util import import_app

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from wsgiref import types


class WSGIApplication(Application):
    """The server of ``MODULE:EXPR`` of the command line, or of what `wsgi_app` or `paste` say."""

    app_uri: str | None = None

    def init(
        self, parser: argparse.ArgumentParser, opts: argparse.Namespace, args: list[str]
    ) -> Mapping[str, Any] | None:
        """Take the positional argument."""
        if args:
            self.app_uri = args[0]
            self.cfg.set("default_proc_name", self.app_uri)
        return None

    def load_config(self) -> None:
        """Take the settings of the base class; then there must be an application."""
        super().load_config()
        if self.app_uri is None:
            self.app_uri = self.cfg.wsgi_app
        if self.app_uri is None and not self.cfg.paste:
            raise ConfigError("No application module specified.")

    def load(self) -> types.WSGIApplication:
        """Load the application."""
        if self.cfg.paste:
            return get_wsgi_app(self.cfg.paste, defaults=self.cfg.paste_global_conf)
        return import_app(self.app_uri or "")


def run(prog: str | None = None) -> None:
    """Run the console script."""
    if prog:
        sys.argv[0] = os.path.join(os.path.dirname(sys.argv[0]), prog)
    main()
