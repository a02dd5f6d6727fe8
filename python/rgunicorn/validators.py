"""Checks of values, for settings of a program's own (`rgunicorn.settings.Setting`).

Each returns the value in its form; None, where it is allowed, stays what it is. They raise `TypeError` for a value of
the wrong type, `ValueError` for one that is not allowed.
"""

from __future__ import annotations

import importlib
import inspect
import os
from typing import TYPE_CHECKING, Any

from rgunicorn.util import get_arity

if TYPE_CHECKING:
    from collections.abc import Callable


def validate_bool(val: Any) -> bool | None:
    """Check a truth value, or a text that names one."""
    if val is None or isinstance(val, bool):
        return val
    if not isinstance(val, str):
        raise TypeError(f"{val!r} is neither True nor False")
    word = val.strip().lower()
    if word not in ("true", "false"):
        raise ValueError(f"{val!r} is neither true nor false")
    return word == "true"


def validate_dict(val: Any) -> dict[Any, Any]:
    """Check a dictionary."""
    if not isinstance(val, dict):
        raise TypeError(f"{val!r} is not a dict")
    return val


def validate_pos_int(val: Any) -> int:
    """Check a number that is not negative, or its text, hexadecimal (0x) and octal (0o) too."""
    number = int(val) if isinstance(val, int) else int(val, 0)
    if number < 0:
        raise ValueError(f"{val!r} is negative")
    return number


def validate_string(val: Any) -> str | None:
    """Check a text; blanks around it go."""
    if val is None:
        return None
    if not isinstance(val, str):
        raise TypeError(f"{val!r} is not a string")
    return val.strip()


def validate_file_exists(val: Any) -> Any:
    """Check the path of something that exists."""
    if val is not None and not os.path.exists(val):
        raise ValueError(f"there is no file {val!r}")
    return val


def validate_list_string(val: Any) -> list[str | None]:
    """Check a list of texts; one text is a list of one."""
    if not val:
        return []
    return [validate_string(one) for one in ([val] if isinstance(val, str) else val)]


def validate_string_to_list(val: Any) -> list[str]:
    """Divide a text at its commas."""
    text = validate_string(val)
    return [word.strip() for word in text.split(",") if word] if text else []


def validate_class(val: Any) -> Any:
    """Check a class, a function that returns one, or the text of a dotted path."""
    if inspect.isfunction(val) or inspect.ismethod(val):
        val = val()
    return val if inspect.isclass(val) else validate_string(val)


def validate_callable(arity: int) -> Callable[[Any], Any]:
    """Make the check of a callable, or its dotted path, with so many named positional parameters; -1 is any number."""

    def check(val: Any) -> Any:
        if isinstance(val, str):
            val = _imported(val)
        if not callable(val):
            raise TypeError(f"{val!r} is not callable")
        if arity not in (-1, get_arity(val)):
            raise TypeError(f"{val!r} takes {get_arity(val)} arguments, not {arity}")
        return val

    return check


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    if not module:
        raise TypeError(f"{path!r} is not a dotted path")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise TypeError(f"{path!r} cannot be imported: {error}") from error
