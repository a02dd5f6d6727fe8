"""`gunicorn`, as rgunicorn provides it: the version is that of the Gunicorn whose behaviour it follows.

`SERVER` is the value of the ``Server`` header, `SERVER_SOFTWARE` that of the environ; a configuration file may set
both. rgunicorn's own version is `rgunicorn.__version__`.
"""

from rgunicorn.compat import FOLLOWED as __version__
from rgunicorn.compat import SERVER, SERVER_SOFTWARE

version_info = tuple(int(part) for part in __version__.split("."))
