"""A module like any other: imports, classes, functions and loops at its top."""

from __future__ import annotations

import dataclasses
import logging
import os.path as path
from typing import Any

logger = logging.getLogger(__name__)
__all__ = ["bind", "workers"]


@dataclasses.dataclass
class Sizing:
    """How large the service is."""

    cores: int
    per_core: int = 1

    def workers(self) -> int:
        """A method that has the name of a setting."""
        return self.cores * self.per_core


def clamp(value: int, low: int, high: int) -> int:
    """Between two bounds."""
    return max(low, min(high, value))


SIZES: dict[str, Any] = {"small": Sizing(1), "large": Sizing(cores=2)}
workers: int = clamp(SIZES["large"].workers(), 1, 4)
proc_name = f"{path.basename(__file__)}:{__name__}"
for name in ("one", "two"):
    _last = name
del name


def when_ready(server: Any) -> None:
    logger.warning("not a server's logger")
    server.log.info("sizes %s, last %s, title %s", sorted(SIZES), _last, server.proc_name)
