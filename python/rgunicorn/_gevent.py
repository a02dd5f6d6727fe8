"""The choice of rgunicorn's loop for gevent, without an import of gevent where nothing uses it.

gevent chooses its loop when the first hub is made, from ``gevent.config.loop``. The environment variable would do as
well, but programs that the application starts would inherit it, and rgunicorn need not be installed for those.
"""

from __future__ import annotations

import contextlib
import sys
from importlib.util import find_spec

# Type checkers take this for true; a worker has no use for `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

LOOP = "rgunicorn.gevent.Loop"


class _Finder:
    """An entry of ``sys.meta_path`` that waits for the first import of gevent, and leaves."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find gevent, and let its loader choose the loop; other modules are left to the other finders."""
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
    """Let hubs be made with our loop from now on, whenever gevent is imported."""
    if "gevent" in sys.modules:
        _choose()
    elif _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def withdraw() -> None:
    """Undo `prefer_loop`: gevent is left alone."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    elif (gevent := sys.modules.get("gevent")) is not None:
        # It may have been done before, at the start or a reload.
        with contextlib.suppress(AttributeError):
            del gevent.config.settings["loop"].value
