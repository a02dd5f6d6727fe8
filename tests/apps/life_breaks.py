"""`life`, until a file called `break` appears: from then on it cannot be imported."""

import os

from life import app

if os.path.exists("break"):
    raise RuntimeError("broken since the last start")

__all__ = ["app"]
