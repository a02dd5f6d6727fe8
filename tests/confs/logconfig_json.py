"""A JSON file beside this one. Dicts of the file replace those of the same name in the default, key by key."""

from pathlib import Path

logconfig_json = str(Path(__file__).with_name("logging.json"))
