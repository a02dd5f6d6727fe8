"""Starts servers with the files of tests/confs and reads the notes that their hooks leave (tests/apps/hooklog.py)."""

from __future__ import annotations

import json
from pathlib import Path

from harness import Server, wait_for

CONFS = Path(__file__).resolve().parents[1] / "confs"
APP = "team_app:app"
Note = dict[str, object]


def start(launch, name: str, *args: str, app: str | None = APP, **options) -> Server:
    """Start with a file of tests/confs: its values decide, the worker type included."""
    path = CONFS / f"{name}.py"
    assert path.exists(), path
    # Gunicorn's flavour has threads, with which `sync` is gthread; so have ours here.
    flavour = launch.flavour
    threads = ("--threads", "4") if flavour.own and not flavour.threads else ()
    return launch(app, "--config", str(path), *threads, *args, untyped=True, **options)


def notes(server: Server, *events: str) -> list[Note]:
    """All notes so far, or those of some events."""
    try:
        lines = (server.workdir / "hooks.log").read_text().splitlines()
    except FileNotFoundError:
        return []
    found = [json.loads(line) for line in lines]
    return [note for note in found if not events or note["event"] in events]


def wait_notes(server: Server, event: str, count: int = 1, **facts) -> list[Note]:
    """Wait for notes of an event with these facts: all of them, in order."""

    def found():
        matching = [note for note in notes(server, event) if facts.items() <= note.items()]
        return matching if len(matching) >= count else None

    try:
        return wait_for(f"{count} notes of {event} {facts or ''}", found)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{notes(server)}\n{server.all_output()}") from None


def events(notes: list[Note], pid: int | None = None) -> list[str]:
    """The names of events, of one process or of all."""
    return [str(note["event"]) for note in notes if pid is None or note["pid"] == pid]


def facts(note: Note) -> Note:
    """What a hook said, without who said it."""
    return {key: value for key, value in note.items() if key not in ("event", "pid", "ppid")}


PASTE_LOGGING = """
[loggers]
keys = root, gunicorn.error

[handlers]
keys = file

[formatters]
keys = plain

[logger_root]
level = INFO
handlers = file

[logger_gunicorn.error]
level = INFO
handlers = file
propagate = 0
qualname = gunicorn.error

[handler_file]
class = FileHandler
args = ("paste.log",)
formatter = plain

[formatter_plain]
format = by paste: %(message)s
"""
