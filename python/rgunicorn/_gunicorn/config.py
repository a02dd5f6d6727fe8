"""`gunicorn.config`."""

from rgunicorn import settings as _settings
from rgunicorn.config import Config, get_default_config_file
from rgunicorn.settings import Setting, make_settings
from rgunicorn.validators import (
    validate_bool,
    validate_callable,
    validate_class,
    validate_dict,
    validate_file_exists,
    validate_list_string,
    validate_pos_int,
    validate_string,
    validate_string_to_list,
)


def auto_int(_: object, x: str) -> int:
    """Return the number of a text, as the command line reads a mode: a leading zero means octal."""
    return _settings.mode(x)


def __getattr__(name: str) -> object:
    """Return `KNOWN_SETTINGS`, which is made when it is asked for, or the class of a setting that is in it."""
    if name == "KNOWN_SETTINGS":
        return _settings.KNOWN_SETTINGS
    if name[:1].isupper():
        for setting in _settings.KNOWN_SETTINGS:
            if setting.__name__ == name:
                return setting
    raise AttributeError(name)
