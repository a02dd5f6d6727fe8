"""Writes docs/settings.md from the native module's table; with --check says whether it is up to date.

python ci/settings_doc.py [--check]
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from rgunicorn import _rgunicorn

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
HEAD = """# Settings

Made from the table in `crates/rgunicorn-settings/src/rows.rs` by `ci/settings_doc.py`: change it there.

A setting has a name, for configuration files and `cfg.set`, and most have flags. The sources, lowest first: built-in
values, some of them from the environment; the configuration file (`-c`, else `gunicorn.conf.py` in the current
directory); `GUNICORN_CMD_ARGS`; the command line. A source that sets a list replaces it. A name in a configuration file
that is nearly one of these gets a warning with the right one.

Settings marked *rgunicorn* are not Gunicorn's. Those that say "without effect" are accepted so that configurations
need no change; a value other than the built-in one gets a warning.

"""


def default(row: tuple) -> str:
    """Return the built-in value, as it is written in a configuration file."""
    shape, value = row[1], row[6]
    if shape == "Hook":
        return "nothing"
    return f"`{value!r}`"


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    rows = _rgunicorn._settings_table()
    order = {section: index for index, section in enumerate(dict.fromkeys(row[2] for row in rows))}
    for section, group in groupby(sorted(rows, key=lambda row: order[row[2]]), key=lambda row: row[2]):
        parts.append(f"## {section}\n\n")
        for row in group:
            name, _, _, flags, metavar, text, _, since = row
            parts.append(f"### {name}\n\n")
            if since == "rgunicorn":
                parts.append("- *rgunicorn*\n")
            if flags:
                shown = ", ".join(f"`{flag} {metavar}`".replace(" `", "`") for flag in flags)
                parts.append(f"- {shown}\n")
            else:
                parts.append("- configuration file only\n")
            parts.append(f"- default: {default(row)}\n\n{text}\n\n")
    return "".join(parts).rstrip("\n") + "\n"


def main() -> int:
    """Write or check the page."""
    text = page()
    if sys.argv[1:] == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == text:
            return 0
        print(f"{PAGE.name} is out of date: run python ci/settings_doc.py", file=sys.stderr)
        return 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
