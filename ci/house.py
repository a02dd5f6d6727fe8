#!/usr/bin/env python3
"""Counts how the house stands, and prints one table.

    ci/house.py                            the table
    ci/house.py --list long_functions      what is behind one row, as path:line
    ci/house.py --max expects=40 --max unsafe:rgunicorn-http=0      fails where a figure is higher (a ratchet)

A figure is one that should fall, or at least not grow; percentages stand beside it. Test code is left out, except where
a row says otherwise. It reads text and needs nothing but Python: a few seconds, no build.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from crates import Graph, Package, circles, members
from rust_items import TYPES, Doc, Item, Source, split

# How the modes of running an application (on the loop, in greenlets, in threads) are told apart in `MODES_FOLDER`:
# these questions belong in `MODES_FILES`, which implement the modes, and nowhere else.
MODES_FOLDER = "src/wsgi/"
MODES_FILES = {f"src/wsgi/{name}.rs" for name in ("direct", "greenlets", "mod", "remote", "threads")}
MODES_QUESTIONS = (
    ("DirectApp",),
    ("DirectResponder",),
    ("GreenletApp",),
    ("GreenletResponder",),
    ("RemoteResponder",),
    ("Threads",),
    ("is_cooperative",),
    ("is_thread",),
)

PYTHON = "python/rgunicorn"
FUNCTION_LINES_MAX = 60
LARGEST = 5
BAD_OPENINGS = re.compile(r"(?:What|Who|Whose|Those|The same|It|So|Nor)\b")
# Verbs in the third person end in s. These end in s and are none.
NO_VERBS = set(
    """
    Always Anonymous Applications As Atoms Besides Bytes Characters Clients Completions Connections Counters Deadlines
    Descriptors Details Entries Errors Events Flags Functions Greenlets Headers Helpers Indices Insertions Items Its
    Kinds Lines Listeners Loggers Metrics Moments Nanoseconds Numbers Objects Offsets Operations Others Parts Peers
    Perhaps Pieces Process Programs Readiness Receptions References Seconds Settings Siblings Sizes Slots Sometimes
    Status Subclass Tags Texts This Threads Thus Times Unless Us Values Was Watchers Workers Yes
    """.split()  # noqa: SIM905  # A list would have a line for each.
)
# Either, but for what follows.
PLURALS = re.compile(
    r"(?:Answers|Blocks|Buffers|Calls|Counts|Names|Points|Queues|Records|Reports|Requests|Signals) "
    r"(?:are|have|of|that|wait|were|which|whose)\b"
)
DOCUMENTED = TYPES | {"fn", "const", "static", "type"}
# A path, the module or definition there, its dotted name, its documentation.
Named = tuple[str, ast.AST, str, str | None]
NAMED_TYPES = TYPES | {"type"}
NEVER_TESTS = {"corpus", "fuzz", "target", "__pycache__"}


@dataclass
class Finding:
    """One place that a row counts."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        """Render it as compilers do."""
        return f"{self.path}:{self.line}: {self.text}"


@dataclass
class Row:
    """One line of the table. `crates` has a figure for each package, where that makes sense."""

    key: str
    figure: int
    note: str
    findings: list[Finding] = field(default_factory=list)
    crates: dict[str, int] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)


class House:
    """The tree, read once, for all rows."""

    def __init__(self, root: Path) -> None:
        """Read the workspace at `root`, and the Python package in it."""
        self.root = root
        self.crates = members(root)
        self.python = Package(root, root / PYTHON)
        self.of_path = {path: crate.name for crate in self.crates for path in crate.sources}

    def sources(self) -> Iterator[Source]:
        """Yield the files of production code."""
        for crate in self.crates:
            yield from crate.production

    def items(self, *kinds: str) -> Iterator[tuple[Source, Item]]:
        """Yield the items of production code that are of these kinds."""
        for source in self.sources():
            yield from ((source, item) for item in source.items if item.kind in kinds and not item.test)

    def counted(self, key: str, note: str, findings: Iterable[Finding]) -> Row:
        """Make a row that counts its findings, for each crate too."""
        found = sorted(findings, key=lambda finding: (finding.path, finding.line))
        crates = {crate.name: 0 for crate in self.crates}
        crates.update(Counter(self.of_path[finding.path] for finding in found if finding.path in self.of_path))
        return Row(key, len(found), note, found, crates)

    def covered(self, key: str, what: str, places: Iterable[tuple[bool, Finding]]) -> Row:
        """Make a row that counts the places which lack something; its note has the percentage of the others."""
        places = list(places)
        row = self.counted(key, "", (finding for good, finding in places if not good))
        share = 100 * (1 - row.figure / len(places)) if places else 100
        row.note = f"{what}: {share:.1f} % of {len(places)}"
        return row


def mode_questions(house: House) -> Row:
    """Count the lines that ask for the mode outside of the files that implement it.

    That is each line of `MODES_FOLDER` with a word of `MODES_QUESTIONS` in its code, outside of `MODES_FILES` and of
    tests: the names of the types that implement the modes, and of two methods by which others used to ask. A question
    in other words is not noticed (a `match` on an enum of another name, a flag that a mode has set), nor is one outside
    of the folder.
    """
    lines = set()
    for source in house.sources():
        if source.path.startswith(MODES_FOLDER) and source.path not in MODES_FILES:
            for question in MODES_QUESTIONS:
                lines |= {(source.path, source.lines[at]) for at in source.sequences(question)}
    texts = {path: (house.root / path).read_text().splitlines() for path, _ in lines}
    findings = [Finding(path, line, texts[path][line - 1].strip()) for path, line in lines]
    return house.counted("mode_questions", f"lines of {MODES_FOLDER} that ask for the mode elsewhere", findings)


def methods(house: House) -> Row:
    """Count the methods of each type: all its inherent `impl` blocks in its crate."""
    counts: Counter[tuple[str, str]] = Counter()
    files = defaultdict(set)
    for crate in house.crates:
        for source in crate.production:
            for item in source.items:
                owner = item.owner
                if item.kind != "fn" or item.test or owner is None or owner.kind != "impl" or owner.of_trait:
                    continue
                home = crate.definition(source, owner.module, owner.target)
                counts[home] += 1
                files[home].add(source.path)
    sizes = {(source.path, item.name): len(item.fields) for source, item in house.items("struct")}
    lines = {(source.path, item.name): item.line for source, item in house.items(*TYPES)}
    findings = []
    for home, count in counts.most_common():
        fields = f"{sizes[home]} fields, " if home in sizes else ""
        text = f"{home[1]}: {count} methods, {fields}{len(files[home])} files"
        findings.append(Finding(home[0], lines.get(home, 1), text))
    return largest(house, "methods", "of the type that has most", findings, counts.most_common())


def fields(house: House) -> Row:
    """Count the fields of each struct."""
    found = [((source.path, item.name), item) for source, item in house.items("struct")]
    found.sort(key=lambda pair: (-len(pair[1].fields), pair[0]))
    findings = [Finding(home[0], item.line, f"{home[1]}: {len(item.fields)} fields") for home, item in found]
    counts = [(home, len(item.fields)) for home, item in found]
    return largest(house, "fields", "of the struct that has most", findings, counts)


def largest(
    house: House, key: str, note: str, findings: list[Finding], counts: list[tuple[tuple[str, str], int]]
) -> Row:
    """Make a row of the highest count, with the first few as details. Both lists begin with the highest."""
    row = Row(key, counts[0][1] if counts else 0, note, findings)
    row.crates = {crate.name: 0 for crate in house.crates}
    for (path, _), count in counts:
        row.crates[house.of_path[path]] = max(row.crates[house.of_path[path]], count)
    row.details = [f"{finding.text} ({finding.path})" for finding in findings[:LARGEST]]
    return row


def function_lengths(house: House) -> list[Row]:
    """Measure functions from the signature to the closing brace, those of the Python package too."""
    sizes = [
        (item.end_line - item.line + 1, Finding(source.path, item.line, item.name))
        for source, item in house.items("fn")
        if item.body
    ]
    for path, tree in house.python.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                sizes.append((size, Finding(path, node.lineno, node.name)))
    sizes.sort(key=lambda pair: -pair[0])
    long = [Finding(at.path, at.line, f"{at.text}: {size} lines") for size, at in sizes]
    row = house.counted(
        "long_functions",
        f"functions over {FUNCTION_LINES_MAX} lines, of {len(sizes)}",
        (finding for finding, (size, _) in zip(long, sizes, strict=True) if size > FUNCTION_LINES_MAX),
    )
    name = f"{sizes[0][1].text} ({sizes[0][1].path})" if sizes else "none"
    return [row, Row("longest_function", sizes[0][0] if sizes else 0, f"lines: {name}", long[:50])]


def homonyms(house: House) -> list[Row]:
    """Count the names that two types or more have: within a crate, and over the workspace."""
    rows = []
    for key, within in (("homonyms", True), ("homonyms_workspace", False)):
        places = defaultdict(list)
        for source, item in house.items(*NAMED_TYPES):
            if item.owner is None:  # An associated type has its trait's name.
                crate = house.of_path[source.path] if within else ""
                places[crate, item.name].append(Finding(source.path, item.line, f"{item.kind} {item.name}"))
        shared = {name: found for name, found in places.items() if len(found) > 1}
        crates = {crate.name: 0 for crate in house.crates} if within else {}
        crates.update(Counter(crate for crate, _ in shared) if within else {})
        note = "type names used twice or more " + ("within one crate" if within else "in the workspace (information)")
        listed = [finding for name in sorted(shared, key=lambda pair: pair[1]) for finding in shared[name]]
        names = ", ".join(f"{name} {len(found)}" for (_, name), found in sorted(shared.items(), key=by_size))
        rows.append(Row(key, len(shared), note, listed, crates, [names] if within and names else []))
    return rows


def by_size(entry: tuple[tuple[str, str], list[Finding]]) -> tuple[int, str]:
    """Order names by how often they are used."""
    return -len(entry[1]), entry[0][1]


def import_circles(house: House) -> list[Row]:
    """Count the files that need each other in a circle: Rust's within a crate, and the Python package's."""
    rust = house.counted("rust_circles", "Rust files in import circles", [])
    for crate in house.crates:
        row = knots("rust_circles", crate.imports())
        rust.figure += row.figure
        rust.crates[crate.name] = row.figure
        rust.findings += row.findings
        rust.details += row.details
    python = knots("python_circles", house.python.imports())
    python.note = "Python files in import circles"
    return [rust, python]


def knots(key: str, graph: Graph) -> Row:
    """Make a row of the files in circles; its findings are the imports that close them."""
    groups = circles(graph)
    row = Row(key, sum(map(len, groups)), "")
    for group in groups:
        row.details.append(f"{len(group)}: {folded(group)}")
        for path in group:
            ties = ((target, line) for target, line in graph[path].items() if target in group)
            row.findings += [Finding(path, line, f"needs {target}") for target, line in sorted(ties)]
    return row


def folded(group: list[str]) -> str:
    """Render a circle with its files named by folder."""
    folders = defaultdict(list)
    for path in group:
        folders[str(Path(path).parent)].append(Path(path).stem)
    return "; ".join(f"{folder}: {' '.join(stems)}" for folder, stems in folders.items())


def rust_docs(house: House) -> Row:
    """Tell how many public items and fields have documentation."""
    places = []
    for source, item in house.items(*DOCUMENTED):
        if item.public:
            places.append((item.doc is not None, Finding(source.path, item.line, f"{item.kind} {item.name}")))
        # Positional fields explain themselves or should have names.
        for member in item.fields if item.public else []:
            if member.public:
                text = f"field {item.name}.{member.name}"
                places.append((member.doc is not None, Finding(source.path, member.line, text)))
    return house.covered("rust_docs", "`pub` items without documentation", places)


def python_names(house: House) -> Iterator[Named]:
    """Yield the modules, classes and functions of the Python package."""

    def inside(path: str, node: ast.AST, prefix: str) -> Iterator[Named]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, child, prefix + child.name, ast.get_docstring(child)
                if isinstance(child, ast.ClassDef):
                    yield from inside(path, child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.If | ast.Try | ast.With):
                yield from inside(path, child, prefix)

    for path, tree in house.python.trees.items():
        yield path, tree, "", ast.get_docstring(tree)
        yield from inside(path, tree, "")


def decorators(node: ast.AST) -> set[str]:
    """Tell the last words of a definition's decorators."""
    return {ast.unparse(decorator).rpartition(".")[2] for decorator in getattr(node, "decorator_list", [])}


def python_docs(house: House) -> Row:
    """Tell how many public names of the Python package have a docstring."""
    places = []
    for path, node, name, doc in python_names(house):
        hidden = any(part.startswith("_") for part in name.split(".")) or decorators(node) & {"overload", "setter"}
        if not hidden:
            place = Finding(path, getattr(node, "lineno", 1), name or "the module")
            places.append((doc is not None, place))
    return house.covered("python_docs", "public Python names without docstring", places)


def unsafe_code(house: House) -> list[Row]:
    """Count `unsafe` blocks and implementations, and those that no SAFETY comment stands above."""
    places = []
    for source in house.sources():
        for at in source.code():
            what = source.text(at + 1)
            if source.texts[at] == "unsafe" and what in ("{", "impl"):
                text = "unsafe block" if what == "{" else "unsafe impl"
                places.append((has_reason(source, at), Finding(source.path, source.lines[at], text)))
    row = house.counted("unsafe", "`unsafe` blocks and implementations", (finding for _, finding in places))
    row.details = [shares(row)]
    return [row, house.covered("safety", "of them without SAFETY comment; with one", places)]


def shares(row: Row) -> str:
    """Render the figures of the crates."""
    return ", ".join(f"{name} {count}" for name, count in row.crates.items())


def has_reason(source: Source, at: int) -> bool:
    """Tell whether a SAFETY comment stands above the token at `at`, or above a line of the statement before it."""
    for line in range(source.lines[statement_start(source, at)], source.lines[at] + 1):
        above = line - 1
        while above in source.comments:
            if "SAFETY:" in source.comments[above]:
                return True
            above -= 1
    return "SAFETY:" in source.comments.get(source.lines[at], "")


def statement_start(source: Source, at: int) -> int:
    """Find the first token of the statement, arm or field of a literal that the token at `at` belongs to."""
    start, at = at, at - 1
    comma = None
    while at >= 0:
        text = source.text(at)
        if text in (";", "=>", "{"):
            return comma or start
        if text in ("(", "["):
            comma = None  # It was between arguments: one statement still.
        elif text == "," and comma is None:
            comma = start
        elif text in (")", "]") or (text == "}" and source.text(at + 1) in (",", ".", "?", ")")):
            at = source.close(at)
        elif text == "}":
            return comma or start
        start = at
        at -= 1
    return 0


def failures(house: House) -> list[Row]:
    """Count the calls that end the process where something is not as expected."""
    rows = []
    for name in ("expect", "unwrap"):
        found = (
            Finding(source.path, source.lines[at], f"{name}(")
            for source in house.sources()
            for at in source.sequences((name, "("))
            if source.text(at - 1) in (".", "::")
        )
        row = house.counted(f"{name}s", f"`{name}(` outside of tests", found)
        row.details = [shares(row)] if row.figure else []
        rows.append(row)
    return rows


def is_third_person(summary: str) -> bool:
    """Tell whether a summary begins with a verb in the third person, as far as its ending tells."""
    word = re.match(r"[A-Za-z]+", summary)
    is_verb = word is not None and word[0].endswith("s") and word[0] not in NO_VERBS
    return is_verb and not PLURALS.match(summary)


def rust_summaries(house: House) -> list[Row]:
    """Judge the first words of documentation comments."""
    docs: list[tuple[Source, Doc]] = []
    for source in house.sources():
        docs += [(source, doc) for doc in source.inner_docs]
        docs += [(source, doc) for at, found in source.docs.items() if not source.is_test(at) for doc in found]
    bad = (Finding(source.path, doc.line, doc.summary) for source, doc in docs if BAD_OPENINGS.match(doc.summary))
    functions = [(source, item.doc) for source, item in house.items("fn") if item.doc]
    verbs = [(is_third_person(doc.summary), Finding(source.path, doc.line, doc.summary)) for source, doc in functions]
    verbs_row = house.covered("not_verbs", "functions' summaries that begin with no verb; with one", verbs)
    references = sum(finding.text.startswith("See ") for finding in verbs_row.findings)
    verbs_row.note += f' ({references} of the others only refer: "See")'
    types = [item for _, item in house.items(*NAMED_TYPES) if item.owner is None]
    with_doc = sum(item.doc is not None for item in types)
    return [
        house.counted("summaries", f"summaries that begin with What, Who, It, ..., of {len(docs)}", bad),
        verbs_row,
        Row("types", len(types), f"types; {with_doc} have a summary (information)"),
    ]


def python_summaries(house: House) -> list[Row]:
    """Judge the first words of docstrings."""
    bad, verbs = [], []
    for path, node, _, doc in python_names(house):
        if doc is None:
            continue
        place = Finding(path, getattr(node, "lineno", 1), doc.splitlines()[0])
        if BAD_OPENINGS.match(doc):
            bad.append(place)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not decorators(node) & {"property", "setter"}:
            verbs.append((not is_third_person(doc), place))
    return [
        house.counted("python_summaries", "docstrings that begin with What, Who, It, ...", bad),
        house.covered("python_not_imperative", "functions' docstrings in the third person; in the imperative", verbs),
    ]


def signatures(house: House) -> list[Row]:
    """Count parameters without a name of their own, and results in results."""
    tuples = []
    for source, item in house.items("fn"):
        if not (item.owner and item.owner.of_trait):  # The trait's own signature counts.
            for first, last in split(source, *item.params):
                colon = next((at for at in range(first, last) if source.text(at) == ":"), last)
                if is_tuple(source, colon + 1, last):
                    text = f"{item.name}({' '.join(source.texts[first:last])})"
                    tuples.append(Finding(source.path, source.lines[first], text))
    nested = (
        Finding(source.path, source.lines[at], "PyResult<Result<")
        for source in house.sources()
        for at in source.sequences(("PyResult", "<", "Result", "<"))
    )
    functions = len({(finding.path, finding.text.partition("(")[0]) for finding in tuples})
    return [
        house.counted("tuple_parameters", f"parameters that are tuples, in {functions} functions", tuples),
        house.counted("nested_results", "`PyResult<Result<`", nested),
    ]


def is_tuple(source: Source, at: int, end: int) -> bool:
    """Tell whether the type from `at` to `end` is a tuple of two or more, or a reference to one."""
    while at < end and (source.texts[at] in ("&", "mut") or source.kinds[at] == "life"):
        at += 1
    return source.text(at) == "(" and source.close(at) == end - 1 and len(split(source, at + 1, end - 1)) > 1


def sizes(house: House) -> list[Row]:
    """Count the lines of each crate, and of the tests, and measure the files of production code."""
    total, details = 0, []
    for crate in house.crates:
        tested = sum(source.test_lines() for source in crate.files)
        production = sum(source.length for source in crate.files) - tested
        tested += sum(map(lines_of, tests_of(crate.folder, "rs")))
        lengths = [source.length for source in crate.production]
        middle = f"median file {median(lengths):.0f}, longest {max(lengths)}" if lengths else "no file"
        details.append(f"{crate.name}: {production} and {tested} of tests; {middle}")
        total += production
    python = sum(text.count("\n") for text in house.python.texts.values())
    details.append(f"{PYTHON}: {python} and {sum(map(lines_of, tests_of(house.root, 'py')))} of tests")
    files = sorted(house.sources(), key=lambda source: -source.length)
    lengths = [source.length for source in files] or [0]
    longest = [Finding(source.path, 1, f"{source.length} lines") for source in files]
    return [
        Row("lines", total, "lines of Rust without tests (information)", longest, {}, details),
        Row("median_file", round(median(lengths)), "lines of the median Rust file", longest),
        Row("longest_file", lengths[0], f"lines: {files[0].path if files else 'none'}", longest),
    ]


def tests_of(folder: Path, ending: str) -> Iterator[Path]:
    """Yield the files of a package's folder of tests."""
    for path in (folder / "tests").rglob(f"*.{ending}"):
        if not NEVER_TESTS.intersection(path.relative_to(folder).parts):
            yield path


def lines_of(path: Path) -> int:
    """Count the lines of a file."""
    return path.read_text().count("\n")


ROWS: tuple[Callable[[House], Row | list[Row]], ...] = (
    mode_questions,
    methods,
    fields,
    function_lengths,
    homonyms,
    import_circles,
    rust_docs,
    python_docs,
    unsafe_code,
    failures,
    rust_summaries,
    python_summaries,
    signatures,
    sizes,
)


def rows(root: Path) -> dict[str, Row]:
    """Count everything, in the order of the table."""
    house = House(root)
    found: list[Row] = []
    for count in ROWS:
        made = count(house)
        found += made if isinstance(made, list) else [made]
    return {row.key: row for row in found}


def table(found: dict[str, Row]) -> str:
    """Render the table."""
    width = max(map(len, found))
    text = []
    for row in found.values():
        text.append(f"{row.key:{width}} {row.figure:6}  {row.note}")
        text += [f"{'':{width + 9}}{detail}" for detail in row.details]
    return "\n".join(text)


def exceeded(found: dict[str, Row], limits: list[str]) -> list[str]:
    """Compare the figures with limits of the form `ROW=N` or `ROW:CRATE=N`, and say which are higher."""
    complaints = []
    for limit in limits:
        name, _, number = limit.partition("=")
        key, _, crate = name.partition(":")
        if key not in found or not number.isdigit() or (crate and crate not in found[key].crates):
            raise ValueError(f"no such row, crate or number: {limit}")
        figure = found[key].crates[crate] if crate else found[key].figure
        if figure > int(number):
            complaints.append(f"{name} is {figure}, and may be {number}: see ci/house.py --list {key}")
    return complaints


def main() -> int:
    """Print what is asked for; 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the checkout")
    parser.add_argument("--list", metavar="ROW", help="show the findings of one row")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--max", metavar="ROW[:CRATE]=N", action="append", default=[], help="fail above this")
    arguments = parser.parse_args()
    found = rows(arguments.root.resolve())
    try:
        complaints = exceeded(found, arguments.max)
    except ValueError as error:
        parser.error(str(error))
    if arguments.list is not None and arguments.list not in found:
        parser.error(f"no such row: {arguments.list}; there are {', '.join(found)}")
    if arguments.list is not None:
        print(*found[arguments.list].findings, sep="\n")
    elif arguments.json:
        print(json.dumps(found, default=vars, indent=1))
    else:
        print(table(found))
    print(*complaints, sep="\n", end="\n" if complaints else "", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
