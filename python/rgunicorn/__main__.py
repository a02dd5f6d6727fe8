"""The console script ``rgunicorn`` and ``python -m rgunicorn``."""

import sys
from typing import NoReturn

from rgunicorn import _rgunicorn
from rgunicorn._names import Names


def main() -> NoReturn:
    """Run the server with the arguments of this process and leave with its exit status.

    Everything after this call is Rust; Python runs only for what is Python: the configuration file, its hooks, and
    the application.
    """
    _own_name()
    sys.exit(_rgunicorn.main(sys.argv[1:]))


def _own_name() -> None:
    """Make ``gunicorn`` ours, also where a monitoring agent, which begins before us, has looked at a real one."""
    # This import changes what `gunicorn` is, and that of the module that it stands in shall not.
    from rgunicorn import compat  # noqa: PLC0415

    if not isinstance(sys.modules["gunicorn"], Names):
        for name in [name for name in sys.modules if name.partition(".")[0] == "gunicorn"]:
            del sys.modules[name]
        compat.install()


if __name__ == "__main__":
    main()
