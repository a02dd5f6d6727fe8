"""The Python package itself: how its modules import each other."""

import ast
import graphlib
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import rgunicorn
from rgunicorn import _rgunicorn

pytestmark = [pytest.mark.one_driver, pytest.mark.own(reason="of rgunicorn's own package")]

ROOT = Path(rgunicorn.__file__).parent
# Imports inside functions, which may hide a circle, each with what it is good for.
LATE = {
    ("rgunicorn.app.base", "rgunicorn.debug"): "only the setting `spew` needs it",
    ("rgunicorn.config", "rgunicorn._foreign"): "only servers with a worker class of others need it",
    ("rgunicorn.__main__", "rgunicorn.compat"): "it changes what `gunicorn` is where it is imported",
    ("rgunicorn._server", "rgunicorn._foreign"): "only servers with a worker class of others need it",
}


def module_name(path):
    """The dotted name of a file of the package."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path.read_text() for path in sorted(ROOT.rglob("*.py"))}


def is_for_types(node):
    """Whether this is ``if TYPE_CHECKING:``, whose body never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def import_statements(node, late=False):
    """The import statements below a node, each with whether it waits for a call."""
    for child in node.orelse if is_for_types(node) else ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, late
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from import_statements(child, late or function)


def imported_names(statement):
    """Dotted names that a statement imports; of ``from a import b``, `a.b` before `a`."""
    if isinstance(statement, ast.Import):
        return [(alias.name,) for alias in statement.names]
    assert statement.level == 0, "relative imports are not followed here"
    return [(f"{statement.module}.{alias.name}", statement.module) for alias in statement.names]


def imports(sources, late):
    """The modules among `sources` that each of them imports: when it is loaded itself, or by functions."""
    # Nothing here follows the native module, which has no source, but a name that is one is not the package's.
    known = {*sources, "rgunicorn._rgunicorn"}
    found = {}
    for name, text in sources.items():
        targets = found[name] = set()
        for statement, is_late in import_statements(ast.parse(text)):
            if is_late == late:
                candidates = [[one for one in names if one in known] for names in imported_names(statement)]
                targets.update(fits[0] for fits in candidates if fits)
    return found


def circle(sources):
    """The modules of one import circle, each imported by the one after it; empty without any."""
    try:
        graphlib.TopologicalSorter(imports(sources, late=False)).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_modules_import_each_other():
    assert len(SOURCES) > 20
    assert circle(SOURCES) == []


def test_the_check_sees_every_kind_of_import():
    assert circle({"a": "import b", "b": "from a import x"}) != []
    assert circle({"a": "from a import b", "a.b": "try:\n    import c\nfinally: pass", "c": "import a"}) != []
    assert circle({"a": "from a import b", "a.b": "from a import c", "a.c": ""}) == []
    assert circle({"a": "class A:\n    import b", "b": "if 1:\n    import c", "c": "import a"}) != []
    assert circle({"a": "import b", "b": "if TYPE_CHECKING:\n    import a"}) == []
    assert circle({"a": "import b", "b": "if TYPE_CHECKING:\n    pass\nelse:\n    import a"}) != []
    assert circle({"a": "import b", "b": "def f():\n    import a"}) == []
    assert imports({"a": "", "b": "def f():\n    import a"}, late=True) == {"a": set(), "b": {"a"}}


def test_late_imports_have_a_reason():
    found = {(name, target) for name, targets in imports(SOURCES, late=True).items() for target in targets}
    assert found == set(LATE)


@pytest.mark.parametrize("name", SOURCES)
def test_a_module_can_be_the_first(name):
    command = [sys.executable, "-W", "error", "-c", f"import {name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_code_begins_on_a_page():
    """`py-spy dump --native` and its like read a file by the pages that are mapped of it."""
    data = Path(_rgunicorn.__file__).read_bytes()
    assert data[:5] == b"\x7fELF\x02"
    (offset,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
    load, executable = 1, 1
    for at in range(offset, offset + size * count, size):
        kind, flags, begin, address = struct.unpack_from("<IIQQ", data, at)
        if kind == load and flags & executable:
            assert (begin % 4096, address % 4096) == (0, 0)
