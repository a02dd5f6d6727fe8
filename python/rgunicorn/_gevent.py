"""Makes gevent take rgunicorn's loop, without importing gevent for those who do not use it.

gevent chooses its loop when the first hub is made, from ``gevent.config.loop``. The environment variable would do as
well, but programs that the application starts would inherit it, and rgunicorn need not be installed for those.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

# Type checkers take this for true; a worker has no use for `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

LOOP = "rgunicorn.gevent.Loop"


class _Finder:
    """Waits in ``sys.meta_path`` for the first import of gevent, and leaves."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "gevent":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is None or spec.loader is None:
            # Not installed now; it may be later, when the path has changed.
            sys.meta_path.insert(0, self)
            return None
        loader = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            # The loader is used again, for a reload.
            del loader.exec_module
            execute(module)
            _choose()

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_finder = _Finder()


def _choose() -> None:
    sys.modules["gevent"].config.loop = LOOP


def prefer_loop() -> None:
    """From now on hubs are made with our loop, whenever gevent is imported."""
    if "gevent" in sys.modules:
        _choose()
    elif _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def withdraw() -> None:
    """The opposite of `prefer_loop`: gevent is left alone."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    elif (gevent := sys.modules.get("gevent")) is not None:
        del gevent.config.settings["loop"].value
