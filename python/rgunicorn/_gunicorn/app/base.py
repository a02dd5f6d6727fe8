"""`gunicorn.app.base`, with what Gunicorn's module imports."""

from rgunicorn import debug, util
from rgunicorn.app.base import Application, BaseApplication
from rgunicorn.arbiter import Arbiter
from rgunicorn.config import Config, get_default_config_file
