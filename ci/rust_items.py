"""Reads Rust well enough to count in it: tokens, items with their documentation, imports.

No types, no macros expanded: what a reader sees in the text. Comments and strings never fool it. `ci/house.py` counts
with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<line>//[^\n]*)
    |(?P<block>/\*)
    |(?P<raw>[bc]?r(?P<hashes>\#*)")
    |(?P<str>[bc]?"(?:[^"\\]|\\.)*")
    |(?P<char>b?'(?:[^'\\\n]|\\(?:u\{[^}]*\}|x[0-9a-fA-F]{2}|.))')
    |(?P<life>'[^\W\d]\w*)
    |(?P<id>(?:r\#)?[^\W\d]\w*)
    |(?P<num>\d\w*(?:\.\d\w*)?(?:(?<=[eE])[+-]\d+)?)
    |(?P<punct>::|->|=>|\.\.=|\.\.|.)""",
    re.VERBOSE | re.DOTALL,
)
BLOCK_EDGE = re.compile(r"/\*|\*/")
OPENING, CLOSING = "([{", ")]}"
QUALIFIERS = {"const", "async", "unsafe", "extern", "default", "safe"}
TYPES = {"struct", "enum", "union", "trait"}
# Behind one of these, a statement or an item begins.
BEFORE_STATEMENT = {"{", "}", ";", "]", "pub", ")"}
TEST_ATTRIBUTE = re.compile(r"cfg\(test\)|cfg\(all\(test\b.*|(?:\w+::)*test(?:\(.*)?", re.DOTALL)


@dataclass
class Doc:
    """One documentation comment: consecutive `///` lines, or one block."""

    line: int
    text: str

    @property
    def summary(self) -> str:
        """Return its first paragraph."""
        return " ".join(re.split(r"\n\s*\n", self.text.strip(), maxsplit=1)[0].split())


@dataclass
class Member:
    """A named or positional field of a struct."""

    name: str
    public: bool
    line: int
    doc: Doc | None


@dataclass
class Import:
    """One leaf of a `use` declaration. A glob has the alias `*`, and no name."""

    path: tuple[str, ...]
    alias: str
    line: int
    at: int
    module: tuple[str, ...]
    reexport: bool


@dataclass
class Item:
    """An item, whatever it stands in. `kind` is its keyword; `macro` for `macro_rules!`."""

    kind: str
    name: str
    line: int
    end_line: int
    at: int
    module: tuple[str, ...]
    public: bool = False
    doc: Doc | None = None
    test: bool = False
    owner: Item | None = None
    # In a function's body or in a macro.
    local: bool = False
    fields: list[Member] = field(default_factory=list)
    params: tuple[int, int] = (0, 0)
    # Of an `impl`: the type, and whether it implements a trait for it.
    target: tuple[str, ...] = ()
    of_trait: bool = False
    # Of a module: the value of its `#[path]`, and the tokens of its body if that follows at once.
    path: str | None = None
    body: tuple[int, int] | None = None


class Source:
    """A Rust file, read."""

    def __init__(self, path: str, text: str, test: bool = False) -> None:
        """Read `text`. `path` is only for findings; a `test` file is test code from end to end."""
        self.path, self.test = path, test
        self.length = len(text.splitlines())
        self.kinds: list[str] = []
        self.texts: list[str] = []
        self.lines: list[int] = []
        self.partner: dict[int, int] = {}
        self.docs: dict[int, list[Doc]] = {}
        self.inner_docs: list[Doc] = []
        self.comments: dict[int, str] = {}
        self.items: list[Item] = []
        self.imports: list[Import] = []
        self.use_tokens: set[int] = set()
        self._lex(text)
        self._pair()
        self.test_tokens = self._test_tokens()
        self._items(0, len(self.texts), None, ())

    # Tokens

    def _lex(self, text: str) -> None:
        at, line = 0, 1
        while at < len(text):
            found = TOKEN.match(text, at)
            assert found is not None, "the last alternative matches any character"
            kind, end = found.lastgroup or "", found.end()
            if kind == "hashes" or found["raw"] is not None:
                kind = "str"
                close = text.find('"' + found["hashes"], end)
                end = len(text) if close < 0 else close + 1 + len(found["hashes"])
            elif kind == "block":
                end = block_end(text, at)
            piece = text[at:end]
            if kind in ("line", "block"):
                self._comment(piece, line)
            elif kind != "space":
                self.kinds.append(kind)
                self.texts.append(piece)
                self.lines.append(line)
            line += piece.count("\n")
            at = end

    def _comment(self, piece: str, line: int) -> None:
        for offset, part in enumerate(piece.split("\n")):
            self.comments[line + offset] = self.comments.get(line + offset, "") + part
        body = piece[3:].removesuffix("*/")
        if piece.startswith(("//!", "/*!")):
            add_doc(self.inner_docs, body, line)
        elif re.match(r"///(?!/)|/\*\*(?![*/])", piece):
            add_doc(self.docs.setdefault(len(self.texts), []), body, line)

    def _pair(self) -> None:
        open_ones: list[int] = []
        for at, (kind, text) in enumerate(zip(self.kinds, self.texts, strict=True)):
            if kind != "punct":
                continue
            if text in OPENING:
                open_ones.append(at)
            elif text in CLOSING and open_ones:
                start = open_ones.pop()
                self.partner[start], self.partner[at] = at, start

    def text(self, at: int) -> str:
        """Return the token at `at`; empty beyond the end, and for strings and characters, which are no syntax."""
        return self.texts[at] if 0 <= at < len(self.texts) and self.kinds[at] not in ("str", "char") else ""

    def is_name(self, at: int) -> bool:
        """Tell whether an identifier or keyword is at `at`."""
        return 0 <= at < len(self.texts) and self.kinds[at] == "id"

    def close(self, at: int) -> int:
        """Find the bracket that closes the one at `at`."""
        return self.partner.get(at, len(self.texts))

    def is_test(self, at: int) -> bool:
        """Tell whether the token at `at` is test code."""
        return self.test or at in self.test_tokens

    def code(self) -> Iterator[int]:
        """Yield the tokens that are not test code."""
        return (at for at in range(len(self.texts)) if not self.is_test(at))

    def sequences(self, wanted: tuple[str, ...]) -> Iterator[int]:
        """Find `wanted` outside of test code, token by token, whatever the white space."""
        for at in self.code():
            if self.texts[at] == wanted[0] and tuple(self.texts[at : at + len(wanted)]) == wanted:
                yield at

    def test_lines(self) -> int:
        """Count the lines that are test code."""
        if self.test:
            return self.length
        return sum(last - first + 1 for first, last in self._test_line_ranges())

    def _test_line_ranges(self) -> Iterator[tuple[int, int]]:
        reached = 0
        for start, end in self._test_ranges():
            first, last = self.lines[start], self.lines[min(end, len(self.lines) - 1)]
            # The comment above it belongs to it.
            while first - 1 > reached and first - 1 in self.comments:
                first -= 1
            first = max(first, reached + 1)
            if last >= first:
                yield first, last
                reached = last

    def _test_ranges(self) -> Iterator[tuple[int, int]]:
        for at, text in enumerate(self.texts):
            if text == "#" and self.text(at + 1) == "[" and self.kinds[at] == "punct":
                attribute = "".join(self.texts[at + 2 : self.close(at + 1)])
                if TEST_ATTRIBUTE.fullmatch(attribute):
                    yield at, self._attributed_end(self.close(at + 1) + 1)

    def _test_tokens(self) -> set[int]:
        return {at for start, end in self._test_ranges() for at in range(start, end + 1)}

    def _attributed_end(self, at: int) -> int:
        """Find the last token of what an attribute stands before: an item, a statement or a field."""
        is_item = False
        while at < len(self.texts):
            text = self.text(at)
            is_item = is_item or text in TYPES or text in ("fn", "impl", "mod")
            if text == "{":
                return self.close(at)
            if text in ("(", "["):
                at = self.close(at)
            elif text == ";" or (text == "," and not is_item):
                return at
            elif text and text in CLOSING:
                return at - 1
            at += 1
        return len(self.texts) - 1

    # Items

    def _items(self, at: int, end: int, owner: Item | None, module: tuple[str, ...]) -> None:
        while at < end:
            at = self._item(at, end, owner, module)

    def _item(self, at: int, end: int, owner: Item | None, module: tuple[str, ...]) -> int:
        """Read the item that begins at `at`; return the token behind it."""
        docs, path, at = self._attributes(at)
        if at >= end:
            return end
        line = self.lines[at]
        public, at = self._visibility(at)
        start = at
        while self.text(at) in QUALIFIERS or (at > start and self.kinds[at : at + 1] == ["str"]):
            if self.text(at) == "const" and self.text(at + 1) not in QUALIFIERS | {"fn"}:
                break
            at += 1
        word, name = self.text(at), self.text(at + 1)
        item = Item(word, name, line, line, at, module, public == "pub", docs[0] if docs else None)
        item.owner, item.path, item.test = owner, path, self.is_test(at)
        if word == "use":
            return self._use(at, module, bool(public))
        if word == "impl":
            return self._impl(item, at)
        if word == "{":  # of `extern "C"`
            self._items(at + 1, self.close(at), owner, module)
            return self.close(at) + 1
        if word == "macro_rules" and name == "!":
            item.kind, item.name = "macro", self.text(at + 2)
            return self._finish(item, at + 3)
        if word in TYPES | {"fn", "mod", "type", "const", "static"} and self.is_name(at + 1):
            return self._named(item, at)
        if self.is_name(at) and name == "!":
            return self._statement_end(at + 2) + 1
        return at + 1

    def _named(self, item: Item, at: int) -> int:
        if item.kind == "static" and item.name == "mut":
            item.name = self.text(at + 2)
        behind = self._behind_generics(at + 2)
        if item.kind == "fn":
            item.params = (behind + 1, self.close(behind))
        elif item.kind == "struct":
            self._fields(item, behind)
        return self._finish(item, behind)

    def _finish(self, item: Item, at: int) -> int:
        """Add the item, and what its body holds; return the token behind it."""
        end = self._statement_end(at, item.kind in ("const", "static", "type"))
        item.end_line = self.lines[min(end, len(self.lines) - 1)]
        self.items.append(item)
        if self.text(end) != "}" or item.kind in ("const", "static", "type", "struct", "enum", "union"):
            return end + 1
        item.body = (self.partner.get(end, end) + 1, end)
        if item.kind in ("trait", "impl"):
            self._items(*item.body, item, item.module)
        elif item.kind == "mod":
            self._items(*item.body, None, (*item.module, item.name))
        else:
            self._inside(*item.body, item.module)
        return end + 1

    def _inside(self, at: int, end: int, module: tuple[str, ...]) -> None:
        """Find items among the statements of a body or in a macro."""
        while at < end:
            text, before = self.text(at), self.text(at - 1)
            named = text in TYPES and self.is_name(at + 1) and before in BEFORE_STATEMENT
            other = text in ("use", "impl", "mod", "macro_rules") and before in BEFORE_STATEMENT
            if named or other or (text == "fn" and self.is_name(at + 1)):
                first = len(self.items)
                at = max(at + 1, self._item(at, end, None, module))
                for item in self.items[first:]:
                    item.local = True
            else:
                at += 1

    def _impl(self, item: Item, at: int) -> int:
        start = at = self._behind_generics(at + 1)
        depth = 0
        while at < len(self.texts) and self.text(at) not in ("{", ";"):
            text = self.text(at)
            if text in ("(", "["):
                at = self.close(at)
            elif text == "for" and depth == 0 and self.text(at + 1) != "<":
                item.of_trait, start = True, at + 1
            elif text == "where" and depth == 0:
                break
            depth += (text == "<") - (text == ">")
            at += 1
        names = []
        for index in range(start, at):
            if self.text(index) in ("<", "where"):
                break
            if self.is_name(index) and self.text(index) not in ("dyn", "mut"):
                names.append(self.text(index))
        item.name, item.target = names[-1] if names else "", tuple(names)
        return self._finish(item, at)

    def _fields(self, item: Item, at: int) -> None:
        if self.text(at) == "(":
            places = split(self, at + 1, self.close(at))
            item.fields = [Member(str(n), False, self.lines[first], None) for n, (first, _) in enumerate(places)]
            return
        while at < len(self.texts) and self.text(at) not in ("{", ";"):
            at = self.close(at) + 1 if self.text(at) in ("(", "[") else at + 1
        if self.text(at) != "{":
            return
        for first, _ in split(self, at + 1, self.close(at)):
            docs, _, name = self._attributes(first)
            public, name = self._visibility(name)
            if not self.is_test(name):
                doc = docs[0] if docs else None
                item.fields.append(Member(self.text(name), public == "pub", self.lines[name], doc))

    def _attributes(self, at: int) -> tuple[list[Doc], str | None, int]:
        """Read the documentation and the `#[path]` before an item, and where the item begins."""
        docs, path = list(self.docs.get(at, [])), None
        while self.text(at) == "#" and self.text(at + 1) in ("[", "!"):
            opening = at + 1 + (self.text(at + 1) == "!")
            if self.text(opening + 1) == "path":
                path = self.texts[opening + 3].strip('"')
            elif self.text(opening + 1) == "doc" and self.text(opening + 2) == "=":
                docs.append(Doc(self.lines[at], self.texts[opening + 3].strip('"')))
            at = self.close(opening) + 1
            docs += self.docs.get(at, [])
        return docs, path, at

    def _visibility(self, at: int) -> tuple[str, int]:
        if self.text(at) != "pub":
            return "", at
        if self.text(at + 1) == "(" and self.text(at + 2) in ("crate", "super", "self", "in"):
            return f"pub({self.text(at + 2)})", self.close(at + 1) + 1
        return "pub", at + 1

    def _behind_generics(self, at: int) -> int:
        if self.text(at) != "<":
            return at
        depth = 0
        while at < len(self.texts):
            depth += (self.text(at) == "<") - (self.text(at) == ">")
            at += 1
            if depth == 0:
                break
        return at

    def _statement_end(self, at: int, value: bool = False) -> int:
        """Find the closing brace or semicolon of an item; of a `value`, the semicolon."""
        while at < len(self.texts):
            text = self.text(at)
            if text == ";" or (text == "{" and not value):
                return self.close(at) if text == "{" else at
            at = self.close(at) + 1 if text and text in OPENING else at + 1
        return len(self.texts) - 1

    def _use(self, at: int, module: tuple[str, ...], reexport: bool) -> int:
        end = self._statement_end(at + 1, value=True)
        self.use_tokens.update(range(at, end + 1))
        for path, alias in self._use_tree(at + 1, end, ()):
            self.imports.append(Import(path, alias, self.lines[at], at, module, reexport))
        return end + 1

    def _use_tree(self, at: int, end: int, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
        while at < end:
            text = self.text(at)
            if text == "{":
                for first, last in split(self, at + 1, self.close(at)):
                    yield from self._use_tree(first, last, path)
                return
            if text == "*":
                yield path, "*"
                return
            if text == "as":
                yield path, self.text(at + 1)
                return
            if text != "::" and not (text == "self" and path):
                path = (*path, text.removeprefix("r#"))
            at += 1
        if path:
            yield path, path[-1]


def split(source: Source, at: int, end: int) -> list[tuple[int, int]]:
    """Return the ranges of tokens between the commas of a list; brackets and `<>` are looked over."""
    ranges, start, depth = [], at, 0
    while at < end:
        text = source.text(at)
        if text == "," and depth == 0:
            ranges.append((start, at))
            start = at + 1
        elif text and text in OPENING:
            at = source.close(at)
        depth = max(0, depth + (text == "<") - (text == ">"))
        at += 1
    if start < end:
        ranges.append((start, end))
    return ranges


def add_doc(docs: list[Doc], body: str, line: int) -> None:
    """Add a line to the comment that it continues, or a new comment."""
    if docs and line == docs[-1].line + docs[-1].text.count("\n") + 1:
        docs[-1].text += "\n" + body
    else:
        docs.append(Doc(line, body))


def block_end(text: str, at: int) -> int:
    """Find the end of the block comment at `at`. They nest."""
    depth = 0
    for edge in BLOCK_EDGE.finditer(text, at):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)


def is_test_path(path: str) -> bool:
    """Tell whether a file is test code by where it lies, in a package, or by its name."""
    parts, stem = Path(path).parts, Path(path).stem
    return "tests" in parts[:-1] or stem in ("tests", "test", "testing") or stem.endswith(("_tests", "_test"))
