"""The crates of the workspace and the modules of the Python package, as a graph of imports.

A Rust name is followed through imports and re-exports to the file that defines it, so a folder's `mod.rs`, which only
hands names on, ties no knot by itself.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rust_items import Item, Source, is_test_path

# The files that each file needs, with the first line that says so.
Graph = dict[str, dict[str, int]]
ROOTS = ("src/lib.rs", "src/main.rs")


@dataclass(eq=False)
class Module:
    """A module and the names in it."""

    source: Source
    parent: Module | None
    children: dict[str, Module] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    imports: dict[str, tuple[str, ...]] = field(default_factory=dict)
    globs: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def root(self) -> Module:
        """Return the module of the crate."""
        return self.parent.root if self.parent else self

    def find(self, path: tuple[str, ...], seen: frozenset[object] = frozenset()) -> Module | tuple[Module, str] | None:
        """Follow a path: a module, or an item's name with the module that defines it. None for other crates'."""
        here: Module | tuple[Module, str] | None = self
        for index, name in enumerate(path):
            if not isinstance(here, Module):
                return here  # Something of an item: a variant, an associated function.
            if name == "crate" and index == 0:
                here = self.root
            elif name == "super":
                here = here.parent
            elif name != "self":
                found = here.look_up(name, index == len(path) - 1, seen)
                # A macro makes what no text shows. An import that leads nowhere leads to another crate.
                made = found is None and index and name not in here.imports and not here.globs
                here = (here, name) if made else found
        return here

    def look_up(self, name: str, last: bool, seen: frozenset[object]) -> Module | tuple[Module, str] | None:
        """Find one name; where a module and an item share it, the last of a path is the item."""
        if (self, name) in seen:
            return None
        seen |= {(self, name)}
        if name in self.children and not (last and name in self.items):
            return self.children[name]
        if name in self.items:
            return self, name
        if name in self.imports and self.imports[name] != (name,):
            return self.find(self.imports[name], seen)
        for path in self.globs:
            inner = self.find(path, seen)
            found = inner.look_up(name, last, seen) if isinstance(inner, Module) else None
            if found is not None:
                return found
        return None


class Crate:
    """A package of the workspace: its files, and the modules that they form."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Read the package in `folder`; paths in findings are relative to `root`."""
        manifest = tomllib.loads((folder / "Cargo.toml").read_text())
        self.name: str = manifest["package"]["name"]
        self.root, self.folder = root, folder
        self.sources: dict[str, Source] = {}
        self.modules: list[tuple[Source, tuple[str, ...], Module]] = []
        targets = [manifest.get("lib", {}), *manifest.get("bin", [])]
        starts = {folder / target["path"] for target in targets if "path" in target}
        starts |= {folder / path for path in ROOTS} | set((folder / "src" / "bin").glob("*.rs"))
        for start in sorted(starts):
            if start.exists():
                self._module(start, start.parent, None, False)
        for path in sorted((folder / "src").rglob("*.rs")):
            self._read(path, False)  # Those that no module names.
        self.scopes = {(source.path, inner): module for source, inner, module in self.modules}
        self.files = list(self.sources.values())
        self.production = [source for source in self.files if not source.test]

    def _read(self, path: Path, test: bool) -> Source:
        name = path.relative_to(self.root).as_posix()
        if name not in self.sources:
            test = test or is_test_path(path.relative_to(self.folder).as_posix())
            self.sources[name] = Source(name, path.read_text(), test)
        return self.sources[name]

    def _module(self, path: Path, folder: Path, parent: Module | None, test: bool) -> Module:
        source = self._read(path, test)
        module = Module(source, parent)
        self._fill(module, (), folder, path.parent)
        return module

    def _fill(self, module: Module, inner: tuple[str, ...], folder: Path, beside: Path) -> None:
        """Put in what the file defines at the module `inner` of it, and go on to the modules declared there."""
        source = module.source
        self.modules.append((source, inner, module))
        for item in source.items:
            if item.module != inner or item.owner is not None or item.kind == "impl":
                continue
            if item.kind != "mod":
                if not (item.test or item.local):
                    module.items.setdefault(item.name, item)
            elif item.body:
                child = Module(source, module)
                module.children[item.name] = child
                self._fill(child, (*inner, item.name), folder / item.name, folder / item.name)
            elif found := self._file(item, folder, beside):
                own = found.parent if found.name == "mod.rs" or item.path else folder / item.name
                module.children[item.name] = self._module(found, own, module, item.test)
        for use in source.imports:
            if use.module == inner and not source.is_test(use.at):
                if use.alias == "*":
                    module.globs.append(use.path)
                else:
                    module.imports.setdefault(use.alias, use.path)

    def _file(self, item: Item, folder: Path, beside: Path) -> Path | None:
        places = [folder / f"{item.name}.rs", folder / item.name / "mod.rs"]
        places = [beside / item.path] if item.path else places
        return next((place.resolve() for place in places if place.exists()), None)

    def definition(self, source: Source, module: tuple[str, ...], path: tuple[str, ...]) -> tuple[str, str]:
        """Tell the file that defines what `path` means in a module of `source`, and its name there."""
        scope = self.scopes.get((source.path, module))
        found = scope.find(path) if scope else None
        return (found[0].source.path, found[1]) if isinstance(found, tuple) else (source.path, path[-1])

    def imports(self) -> Graph:
        """Tell which file of production code needs which others of the crate."""
        graph: Graph = {source.path: {} for source in self.production}
        for source in self.production:
            for line, inner, path in needed(source):
                scope = self.scopes.get((source.path, inner))
                found = scope.find(path) if scope else None
                if isinstance(found, tuple) and found[0].source is not source and not found[0].source.test:
                    graph[source.path].setdefault(found[0].source.path, line)
        return graph


def needed(source: Source) -> Iterator[tuple[int, tuple[str, ...], tuple[str, ...]]]:
    """Yield the paths that production code names, each with its line and the module that it stands in.

    Re-exports need nothing themselves; a re-exported name that the file uses is found where it is used.
    """
    for use in source.imports:
        if not (use.reexport or use.alias == "*" or source.is_test(use.at)):
            yield use.line, use.module, use.path
    inner = [(item.body, (*item.module, item.name)) for item in source.items if item.kind == "mod" and item.body]
    for at in source.code():
        if not source.is_name(at) or at in source.use_tokens or source.text(at - 1) in (".", "::"):
            continue
        path, end = [source.text(at)], at + 1
        while source.text(end) == "::" and source.is_name(end + 1):
            path.append(source.text(end + 1))
            end += 2
        if len(path) > 1 or path[0][0].isupper() or source.text(end) in ("(", "!"):
            module: tuple[str, ...] = ()
            for (start, stop), name in inner:
                module = name if start <= at < stop else module
            yield source.lines[at], module, tuple(path)


def members(root: Path) -> list[Crate]:
    """Read the packages of the workspace at `root`, in the order of their folders; the root's own comes first."""
    names = tomllib.loads((root / "Cargo.toml").read_text()).get("workspace", {}).get("members", ["."])
    folders = {folder for name in names for folder in ([root] if name == "." else root.glob(name))}
    return [Crate(root, folder) for folder in sorted(folders) if (folder / "Cargo.toml").exists()]


def circles(graph: Graph) -> list[list[str]]:
    """Group the nodes that reach each other, the largest group first; nodes that are in no circle are left out."""
    reach = {node: reached(graph, node) for node in graph}
    groups = {tuple(sorted(other for other in reach[node] if node in reach[other])) for node in graph}
    return sorted((list(group) for group in groups if len(group) > 1), key=lambda group: (-len(group), group))


def reached(graph: Graph, start: str) -> set[str]:
    """Return every node that a path from `start` leads to."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for node in graph.get(waiting.pop(), {}).keys() - seen:
            seen.add(node)
            waiting.append(node)
    return seen


class Package:
    """A Python package: its files, parsed."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Read every `.py` file below `folder`, which is the package; paths are relative to `root`."""
        self.texts: dict[str, str] = {}
        self.trees: dict[str, ast.Module] = {}
        self.names: dict[str, str] = {}
        for path in sorted(folder.rglob("*.py")):
            name, dotted = path.relative_to(root).as_posix(), path.relative_to(folder.parent).with_suffix("")
            self.texts[name] = path.read_text()
            self.trees[name] = ast.parse(self.texts[name], name)
            parts = dotted.parts[:-1] if path.stem == "__init__" else dotted.parts
            self.names[".".join(parts)] = name

    def imports(self) -> Graph:
        """Tell which file imports which, be it late, inside a function. What only type checkers see does not count."""
        graph: Graph = {}
        for module, name in self.names.items():
            package = module if name.endswith("__init__.py") else module.rpartition(".")[0]
            found: dict[str, int] = {}
            for node in executed(self.trees[name]):
                for target in self._targets(node, package):
                    if target != name:
                        found.setdefault(target, getattr(node, "lineno", 1))
            graph[name] = found
        return graph

    def _targets(self, node: ast.AST, package: str) -> Iterator[str]:
        wanted: list[str] = []
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            # A name of a module is the module's; a submodule is imported itself.
            wanted = [name if name in self.names else base for name in names]
        yield from (self.names[name] for name in wanted if name in self.names)


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk the nodes that may run, so not those under `if TYPE_CHECKING`."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))
