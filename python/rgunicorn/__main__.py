"""The console script ``rgunicorn`` and ``python -m rgunicorn``."""

import sys
from typing import NoReturn

from rgunicorn import _rgunicorn


def main() -> NoReturn:
    """Run the server with the arguments of this process and leave with its exit status.

    Everything after this call is Rust; Python runs only for what is Python: the configuration file, its hooks, and
    the application.
    """
    sys.exit(_rgunicorn.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
