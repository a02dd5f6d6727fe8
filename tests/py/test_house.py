"""The counter of the house (`ci/house.py`), on small samples."""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

CI = Path(__file__).resolve().parents[2] / "ci"
sys.path.insert(0, str(CI))

from crates import circles  # noqa: E402
from house import exceeded, is_third_person, rows, table  # noqa: E402
from rust_items import Source, split  # noqa: E402

pytestmark = [pytest.mark.one_driver, pytest.mark.own(reason="no server runs")]

WORKSPACE = """
[workspace]
members = [".", "crates/*"]
[package]
name = "outer"
[lib]
path = "src/lib.rs"
"""
LONG = "    work();\n" * 60


ITEMS = """//! A file.

/// A thing.
/// More.
#[derive(Debug)]
pub struct Thing<'a, T: Fn() -> u8>
where
    T: X,
{
    /// A field.
    pub a: Map<u8, T>,
    pub(super) b: &'a [u8; 2],
}
struct Pair(u8, (u8, u8));
impl<T> fmt::Display for Thing<'_, T> { fn fmt(&self) {} }
impl<T> Thing<'_, T> where T: X {
    pub const unsafe extern "C" fn new(a: u8) -> Self { struct Inner; }
}
pub(crate) trait Does { type Out; fn done(&self); }
"""
TESTS = """fn a() {}

/// Tests.
#[cfg(test)]
mod tests {
    fn b() {}
}
struct S {
    #[cfg(test)]
    c: u8,
    d: u8,
}
#[cfg(all(test, x))]
fn e() {}
#[cfg(not(test))]
fn f() {}
#[cfg(test)]
use g::h;
"""
UNSAFE = """// SAFETY: a.
unsafe impl Send for A {}
unsafe impl Sync for A {}
fn f() {
    // SAFETY: b,
    // and more.
    #[allow(x)]
    let c = g(
        1,
        unsafe { h() },
    );
    let d = unsafe { h() };
    match d {
        // SAFETY: e.
        1 => unsafe { h() },
        _ => unsafe { h() },
    }
}
unsafe fn i() {}
#[cfg(test)]
fn j() { unsafe { h() } }
"""
DOCUMENTED = """//! What it is.

/// A thing.
pub struct A {
    pub b: u8,
    c: u8,
}
impl A {
    /// Sends `b`.
    pub fn d() {}
    /// So it goes.
    fn e() {}
    pub(super) fn f() {}
}
pub type G = u8;
#[cfg(test)]
/// Who.
fn h() {}
"""


@pytest.fixture
def tree(tmp_path):
    """Writes a workspace of two packages; a test adds its files."""

    def write(**files: str) -> Path:
        samples = {
            "Cargo.toml": WORKSPACE,
            "src/lib.rs": "",
            "crates/inner/Cargo.toml": '[package]\nname = "inner"\n',
            "crates/inner/src/lib.rs": "",
            "python/rgunicorn/__init__.py": '"""The package."""\n',
        } | files
        for path, text in samples.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(dedent(text))
        return tmp_path

    return lambda files: write(**files)


def lexed(text: str) -> list[str]:
    return Source("x.rs", text).texts


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ('a // "unsafe\nb', ["a", "b"]),
        ("a /* x /* y */ unsafe */ b", ["a", "b"]),
        (r'f("a \" {", b"\\")', ["f", "(", r'"a \" {"', ",", r'b"\\"', ")"]),
        ('r#"a " b"# r"\\" br##""#"##', ['r#"a " b"#', 'r"\\"', 'br##""#"##']),
        (r"'a' '\'' b'{' '\u{20ac}' '\\'", ["'a'", r"'\''", "b'{'", r"'\u{20ac}'", r"'\\'"]),
        ("fn f<'a>(x: &'a str)", ["fn", "f", "<", "'a", ">", "(", "x", ":", "&", "'a", "str", ")"]),
        ("r#type 1..2 1.5e-3 x.0", ["r#type", "1", "..", "2", "1.5e-3", "x", ".", "0"]),
        ("a::b->c=>d..=e", ["a", "::", "b", "->", "c", "=>", "d", "..=", "e"]),
    ],
)
def test_tokens(text, tokens):
    assert lexed(text) == tokens


def test_items_have_what_was_written_about_them():
    source = Source("x.rs", ITEMS)
    items = {item.name: item for item in source.items if item.kind != "impl"}
    assert " ".join(items) == "Thing Pair fmt new Inner Does Out done"
    thing = items["Thing"]
    assert (thing.public, thing.line, thing.end_line, thing.doc.text) == (True, 6, 13, " A thing.\n More.")
    assert [(member.name, member.public, bool(member.doc)) for member in thing.fields] == [
        ("a", True, True),
        ("b", False, False),
    ]
    assert len(items["Pair"].fields) == 2
    assert (items["fmt"].owner.of_trait, items["fmt"].owner.target) == (True, ("Thing",))
    assert (items["new"].owner.of_trait, items["new"].owner.target) == (False, ("Thing",))
    assert (items["Inner"].local, items["new"].local) == (True, False)
    assert not items["Does"].public
    assert items["done"].owner is items["Does"]
    assert [doc.summary for doc in source.inner_docs] == ["A file."]


def test_imports_are_taken_apart():
    source = Source("x.rs", "pub use a::{self, b::{C as D, e::*}};\nuse {f, super::g};\nfn h() { use crate::i; }\n")
    assert [(use.path, use.alias, use.reexport) for use in source.imports] == [
        (("a",), "a", True),
        (("a", "b", "C"), "D", True),
        (("a", "b", "e"), "*", True),
        (("f",), "f", False),
        (("super", "g"), "g", False),
        (("crate", "i"), "i", False),
    ]


def test_test_code_is_told_from_the_rest():
    source = Source("x.rs", TESTS)
    names = {source.texts[at] for at in source.code()}
    assert names & set("abcdefgh") == {"a", "d", "f"}
    assert source.test_lines() == 5 + 2 + 2 + 2
    assert [member.name for item in source.items for member in item.fields] == ["d"]


def test_lists_are_split_at_their_own_commas():
    source = Source("x.rs", "a: Map<u8, u8>, (b, c): (u8, u8), d: impl Fn(u8, u8) -> u8,")
    assert len(split(source, 0, len(source.texts))) == 3


def test_methods_are_those_of_the_type_that_is_meant(tree):
    root = tree({
        "src/lib.rs": "mod a;\nmod b;\n",
        "src/a/mod.rs": "mod more;\nmod state;\npub use state::State;\n",
        "src/a/state.rs": "pub struct State { x: u8, y: u8 }\nimpl State { fn one() {} #[cfg(test)] fn no() {} }\n",
        "src/a/more.rs": "use super::State;\nimpl State { fn two() {} }\nimpl Clone for State { fn clone() {} }\n",
        "src/b.rs": "pub struct State { x: u8 }\nimpl State { fn one() {} }\n",
        "crates/inner/src/lib.rs": "pub struct State { x: u8, y: u8, z: u8 }\n",
    })  # fmt: skip
    found = rows(root)
    assert [str(finding) for finding in found["methods"].findings] == [
        "src/a/state.rs:1: State: 2 methods, 2 fields, 2 files",
        "src/b.rs:1: State: 1 methods, 1 fields, 1 files",
    ]
    assert (found["methods"].figure, found["methods"].crates) == (2, {"outer": 2, "inner": 0})
    assert (found["fields"].figure, found["fields"].crates) == (3, {"outer": 2, "inner": 3})
    assert (found["homonyms"].figure, found["homonyms"].crates) == (1, {"outer": 1, "inner": 0})
    assert len(found["homonyms"].findings) == 2
    assert (found["homonyms_workspace"].figure, len(found["homonyms_workspace"].findings)) == (1, 3)


def test_circles_go_through_reexports_and_not_through_folders(tree):
    root = tree({
        "src/lib.rs": "mod a;\npub mod b;\npub use a::One;\npub use inner::deep;\nfn f() { b::B }\n",
        "src/a/mod.rs": "mod one;\nmod three;\nmod two;\npub use one::One;\npub use two::Two;\n",
        "src/a/one.rs": "use super::Two;\npub struct One;\n",
        "src/a/two.rs": "pub struct Two;\nfn f() { crate::One::new() }\n",
        "src/a/three.rs": "use super::One;\nfn f() {}\n#[cfg(test)]\nuse crate::b::B;\n",
        "src/b.rs": "use crate::a;\nuse crate::deep::Thing;\npub struct B;\nfn f(x: a::Two) { a::three::f() }\n",
    })  # fmt: skip
    row = rows(root)["rust_circles"]
    assert (row.figure, row.crates) == (2, {"outer": 2, "inner": 0})
    assert [str(finding) for finding in row.findings] == [
        "src/a/one.rs:1: needs src/a/two.rs",
        "src/a/two.rs:2: needs src/a/one.rs",
    ]


def test_circles_of_a_graph():
    graph = {"a": "b", "b": "ca", "c": "d", "d": "c", "e": "a"}
    assert circles({node: dict.fromkeys(needs, 1) for node, needs in graph.items()}) == [["a", "b"], ["c", "d"]]


def test_circles_of_python_count_late_imports_and_not_those_of_types(tree):
    root = tree({
        "python/rgunicorn/a.py": '"""A."""\nfrom .b import x\nfrom . import c\n',
        "python/rgunicorn/b.py": '"""B."""\ndef late():\n    import rgunicorn.a\n',
        "python/rgunicorn/c.py": '''\
            """C."""
            from typing import TYPE_CHECKING
            if TYPE_CHECKING:
                from rgunicorn import a
            ''',
    })  # fmt: skip
    row = rows(root)["python_circles"]
    assert (row.figure, [finding.path[-4:] for finding in row.findings]) == (2, ["a.py", "b.py"])


def test_sizes(tree):
    root = tree({
        "src/lib.rs": f"fn long() {{\n{LONG}}}\nfn fits() {{\n{LONG[24:]}}}\n#[test]\nfn test() {{\n{LONG}}}\n",
        "src/tests/more.rs": "x\n" * 7,
        "tests/whole.rs": "x\n" * 5,
    })  # fmt: skip
    found = rows(root)
    assert [str(finding) for finding in found["long_functions"].findings] == ["src/lib.rs:1: long: 62 lines"]
    assert found["longest_function"].figure == 62
    assert found["lines"].figure == 62 + 60
    assert found["lines"].details[0] == "outer: 122 and 75 of tests; median file 185, longest 185"


def test_unsafe_code_needs_its_reason_above(tree):
    root = tree({
        "src/lib.rs": UNSAFE,
        "crates/inner/src/lib.rs": 'fn f() { x.unwrap(); y.expect("so"); expect(1); z.unwrap_or(1) } // .unwrap()\n',
    })  # fmt: skip
    found = rows(root)
    assert found["unsafe"].crates == {"outer": 6, "inner": 0}
    assert [finding.line for finding in found["safety"].findings] == [3, 12, 16]
    assert (found["expects"].crates["inner"], found["unwraps"].figure) == (1, 1)


def test_documentation(tree):
    root = tree({
        "src/lib.rs": DOCUMENTED,
        "python/rgunicorn/a.py": '''\
            """It."""
            class A:
                """Something."""
                def b(self): pass
                def _c(self): pass
            ''',
    })  # fmt: skip
    found = rows(root)
    assert [finding.text for finding in found["rust_docs"].findings] == ["field A.b", "type G"]
    assert found["rust_docs"].note.endswith("50.0 % of 4")
    assert [finding.text for finding in found["summaries"].findings] == ["What it is.", "So it goes."]
    assert [finding.text for finding in found["not_verbs"].findings] == ["So it goes."]
    assert [finding.text for finding in found["python_docs"].findings] == ["A.b"]
    assert [str(finding) for finding in found["python_summaries"].findings] == ["python/rgunicorn/a.py:1: It."]


@pytest.mark.parametrize(
    ("summary", "verb"),
    [
        ("Returns it.", True),
        ("Records the start.", True),
        ("Records that were dropped.", False),
        ("This is it.", False),
        ("The end.", False),
        ("`x` of it.", False),
    ],
)
def test_verbs(summary, verb):
    assert is_third_person(summary) is verb


def test_signatures_and_modes(tree):
    root = tree({
        "src/lib.rs": """\
            mod wsgi;
            fn a((b, c): (u8, u8), d: &'a mut (u8, u8), e: Vec<(u8, u8)>, f: (u8,), g: ()) {}
            impl X for Y { fn h(i: (u8, u8)) {} }
            fn j() -> PyResult<Result<u8, u8>> { k.is_thread() }
            """,
        "src/wsgi/mod.rs": """\
            mod link;
            fn a() {
                self
                    .pause; self.pauses; pause();
                // Link::A
                Link::A.is_thread();
            }
            """,
        "src/wsgi/link.rs": "fn is_thread() {}\n",
    })  # fmt: skip
    found = rows(root)
    assert [finding.line for finding in found["tuple_parameters"].findings] == [2, 2]
    assert found["nested_results"].figure == 1
    assert [finding.line for finding in found["mode_questions"].findings] == [3, 4, 6]


def test_limits(tree):
    found = rows(tree({"src/lib.rs": "fn f() { a.unwrap(); b.unwrap() }\n"}))
    assert exceeded(found, ["unwraps=2", "unwraps:outer=2", "unwraps:inner=0"]) == []
    assert exceeded(found, ["unwraps=1"]) == ["unwraps is 2, and may be 1: see ci/house.py --list unwraps"]
    assert len(exceeded(found, ["unwraps:outer=0", "unwraps=0"])) == 2
    for wrong in ("nothing=1", "unwraps", "unwraps=x", "unwraps:other=1"):
        with pytest.raises(ValueError, match="no such"):
            exceeded(found, [wrong])
    assert len(table(found).splitlines()) >= len(found)


def test_the_command(tree):
    root = tree({"src/lib.rs": "fn f() { a.unwrap() }\n"})

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, CI / "house.py", "--root", root, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("--list", "unwraps").stdout == "src/lib.rs:1: unwrap(\n"
    assert json.loads(run("--json").stdout)["unwraps"]["crates"] == {"outer": 1, "inner": 0}
    assert (run("--max", "unwraps=1").returncode, run("--max", "unwraps=0").returncode) == (0, 1)
    assert (run("--max", "x=0").returncode, run("--list", "x").returncode) == (2, 2)


def test_this_tree_can_be_counted():
    found = rows(CI.parent)
    assert all(found[row].figure > 0 for row in ("unsafe", "methods", "lines"))
