"""The hook of the build: a stand-in refuses the environment that has Gunicorn, and is Gunicorn for pip.

pip has no word for distributions that exclude each other. So the look for the other one is a part of the build, which
happens where it is to be installed, unless a wheel was built before. And the wheel carries a second set of metadata,
of a distribution `gunicorn` that has the stand-in's files: then ``pip install gunicorn`` finds that it is there, a
program that depends on it is content where it allows the version, and pip takes the stand-in's files away before it
puts Gunicorn's own there.
"""

from __future__ import annotations

import sysconfig
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_METADATA = """Metadata-Version: 2.1
Name: gunicorn
Version: {version}
Summary: Not Gunicorn itself: rgunicorn, put there by {name} {own}
Requires-Dist: rgunicorn=={own}
"""
_ENTRY_POINTS = """[paste.server_runner]
main = rgunicorn.app.pasterapp:serve
"""
_WHEEL = """Wheel-Version: 1.0
Generator: {name} {own}
Root-Is-Purelib: true
Tag: py3-none-any
"""
_PACKAGE = "gunicorn"
_MARK = "+rgunicorn."


class Hook(BuildHookInterface):
    """Hatchling's hook for the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Refuse the environment, or add the metadata."""
        self._refuse_real()
        metadata = self.metadata
        own, name = metadata.version, metadata.name
        followed = f"{self.config['follows']}{_MARK}{own}"
        info = f"{_PACKAGE}-{followed}.dist-info"
        files = {
            "METADATA": _METADATA.format(version=followed, name=name, own=own),
            "WHEEL": _WHEEL.format(name=name, own=own),
            "INSTALLER": f"{name}\n",
            "entry_points.txt": _ENTRY_POINTS,
        }
        package = [path.relative_to(self.root).as_posix() for path in Path(self.root, _PACKAGE).glob("*.*")]
        records = [*package, *(f"{info}/{file}" for file in [*files, "RECORD"])]
        files["RECORD"] = "".join(f"{path},,\n" for path in records)
        self._made = tempfile.TemporaryDirectory()
        for file, text in files.items():
            path = Path(self._made.name, file)
            path.write_text(text)
            base = f"{name.replace('-', '_')}-{own}.data/purelib/{info}"
            build_data["force_include"][str(path)] = f"{base}/{file}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was made for the wheel."""
        self._made.cleanup()

    def _refuse_real(self) -> None:
        paths = sysconfig.get_paths()
        for found in distributions(name=_PACKAGE, path=[paths["purelib"], paths["platlib"]]):
            if _MARK not in found.version:
                raise SystemExit(
                    f"error: gunicorn {found.version} is installed in {paths['purelib']}, and {self.metadata.name} "
                    "would write over its files. Uninstall it first (pip uninstall gunicorn), or run the program "
                    "that starts it in an environment of its own."
                )
