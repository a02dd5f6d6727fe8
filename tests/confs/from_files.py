"""Values from files that other tools own."""

import json
import tomllib
from pathlib import Path

here = Path(__file__).resolve().parent
with open(here / "service.toml", "rb") as file:
    globals().update(tomllib.load(file)["server"])
raw_env = [f"{key}={value}" for key, value in json.loads((here / "service.json").read_text()).items()]
