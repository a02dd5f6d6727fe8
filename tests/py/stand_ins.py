"""Environments in which the stand-in distribution is installed, or what it is to be kept apart from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import rgunicorn
from harness import APPS, Flavour, environment
from rawhttp import TIMEOUT_S

SOURCE = Path(__file__).resolve().parents[2] / "stand-in"
NAME = "rgunicorn-as-gunicorn"
SITE = Path(rgunicorn.__file__).parent.parent


class Environment:
    """A virtual environment with rgunicorn, and with nothing else of this one; made where there is none."""

    def __init__(self, path: Path):
        self.path = path
        if not path.exists():
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", path], check=True, timeout=TIMEOUT_S)
        values = {"base": str(path), "platbase": str(path)}
        self.site = Path(sysconfig.get_path("purelib", "posix_prefix", values))
        for found in [SITE / "rgunicorn", *SITE.glob("rgunicorn-*.dist-info")]:
            # At once: another process of the tests may do the same.
            link = self.site / f"{found.name}.{os.getpid()}"
            link.symlink_to(found)
            link.rename(self.site / found.name)

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.path / "bin/python")

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command, env=environment(variables), cwd=self.path, timeout=TIMEOUT_S, check=False, capture_output=True,
            text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def eval(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run Python code to its end."""
        return self.run(self.python, "-c", code)

    def pip(self, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Have pip change this environment, with no package but those that are given by their paths."""
        options = [] if args[0] in ("uninstall", "list", "check") else ["--no-index", "--no-build-isolation"]
        tail = ["-y"] if args[0] == "uninstall" else []
        pip = [sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check"]
        return self.run(*pip, args[0], *options, *tail, *args[1:], **variables)

    def names(self) -> set[str]:
        """What pip sees there, as NAME==VERSION, but for rgunicorn."""
        listed = json.loads(self.pip("list", "--format", "json").stdout)
        found = {f"{one['name']}=={one['version']}" for one in listed}
        return {name for name in found if not name.startswith(("rgunicorn==", "pip==", "setuptools=="))}

    def builds(self) -> dict[str, str]:
        """Variables by which a build there finds the tools of this environment."""
        return {"PYTHONPATH": os.pathsep.join([str(SITE), str(APPS)])}


def build(environment: Environment, where: Path) -> tuple[Path, Path]:
    """Build the stand-in; returns wheel and sdist."""
    command = [environment.python, "-m", "hatchling", "build", "-d", str(where)]
    subprocess.run(
        command, cwd=SOURCE, env={**os.environ, **environment.builds()}, check=True, timeout=TIMEOUT_S,
        capture_output=True,
    )  # fmt: skip
    (wheel,), (sdist,) = where.glob("*.whl"), where.glob("*.tar.gz")
    return wheel, sdist


def real_wheel(where: Path) -> Path:
    """A wheel of a small distribution with Gunicorn's name and files."""
    path = where / "gunicorn-26.0-py3-none-any.whl"
    info = "gunicorn-26.0.dist-info"
    files = {
        "gunicorn/__init__.py": "__version__ = '26.0'\n",
        "gunicorn/__main__.py": "print('the real one')\n",
        "gunicorn/arbiter.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: gunicorn\nVersion: 26.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@dataclass(frozen=True)
class Start(Flavour):
    """A server that is started by these words in place of its own name."""

    words: tuple[str, ...]

    def command(self) -> list[str]:
        return [*self.words, *self.options]
