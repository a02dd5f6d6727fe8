"""Types of the native module. ``ci/check.sh`` compares this file with the built module (mypy's stubtest)."""

from typing import Final

__all__ = ["__version__", "main"]

__version__: Final[str]

def main(argv: list[str]) -> int:
    """Run the server until it stops.

    ``argv`` is the command line without the program's name (``sys.argv[1:]``). Returns the exit status that the
    process has to leave with: 0 after a graceful stop, 1 for a wrong setting or configuration, 3 when a worker cannot
    boot, 4 when the application cannot be loaded. Messages about wrong settings are already on stderr.
    """
