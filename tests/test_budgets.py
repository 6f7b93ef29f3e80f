"""The budgets of the house: what keeps the tree small enough to hold in one mind. Changed only in a decision note."""

import ast
import graphlib
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import LONG

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "pilothouse"
MODULES = sorted(SRC.rglob("*.py"))
MODULE_LINES = 400
FUNCTION_LINES = 60
PARAMETERS = 7
COMPLEXITY = 10
JS_FILE_LINES = 400
JS_LINES = 4_000
INSTALL_MB = 300
BROAD_EXCEPTS = ("request boundary", "background loop", "plugin call")
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def shown(file: Path) -> str:
    return str(file.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions inside it."""
    stack: list[ast.AST] = list(ast.iter_child_nodes(function))
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, Function | ast.Lambda):
            stack.extend(ast.iter_child_nodes(node))


def complexity(function: Function) -> int:
    return 1 + sum(isinstance(node, BRANCHES) for node in own_nodes(function))


@pytest.mark.parametrize("file", MODULES, ids=shown)
def test_a_module_fits_a_mind(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= MODULE_LINES, f"{shown(file)} is over {MODULE_LINES} lines: split it by noun"
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{shown(file)} has no module docstring"
    for function in functions(tree):
        where = f"{shown(file)}:{function.lineno} {function.name}"
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        assert lines <= FUNCTION_LINES, f"{where} has {lines} lines"
        arguments = function.args
        count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
        count -= bool(arguments.args and arguments.args[0].arg in ("self", "cls"))
        if not shown(file).startswith("src/pilothouse/cli/"):  # a verb's options are its parameters
            assert count <= PARAMETERS, f"{where} takes {count} parameters"
        assert complexity(function) <= COMPLEXITY, f"{where} has complexity {complexity(function)}"


@pytest.mark.parametrize("file", MODULES, ids=shown)
def test_imports_stand_at_the_top(file: Path) -> None:
    if shown(file).startswith("src/pilothouse/cli/"):
        return
    lines = file.read_text().splitlines()
    for function in functions(ast.parse(file.read_text())):
        for node in own_nodes(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                line = lines[node.lineno - 1]
                assert "optional extra" in line, f"{shown(file)}:{node.lineno} imports inside a function"


@pytest.mark.parametrize("file", MODULES, ids=shown)
def test_broad_excepts_stand_only_where_named(file: Path) -> None:
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if re.search(r"except\s+(Base)?Exception\b|except\s*:", line):
            assert any(place in line for place in BROAD_EXCEPTS), (
                f"{shown(file)}:{number}: catch what you expect, or name one of {BROAD_EXCEPTS}"
            )


def test_no_import_cycles() -> None:
    names = {
        ".".join(file.relative_to(SRC.parent).with_suffix("").parts).removesuffix(".__init__"): file for file in MODULES
    }
    graph: dict[str, set[str]] = {}
    for name, file in names.items():
        graph[name] = set()
        for node in ast.parse(file.read_text()).body:
            targets: list[str] = []
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                targets = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            graph[name] |= {target for target in targets if target in names and target != name}
    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_scripts_stay_small() -> None:
    own = [file for file in SRC.rglob("*.js") if "vendor" not in file.parts]
    sizes = {shown(file): len(file.read_text().splitlines()) for file in own}
    assert all(lines <= JS_FILE_LINES for lines in sizes.values()), sizes
    assert sum(sizes.values()) <= JS_LINES, sizes


def test_import_brings_in_nothing_else() -> None:
    """`import pilothouse` is quick because it loads no module but its own (measured in docs/benchmarks.md)."""
    code = "import sys; before = set(sys.modules); import pilothouse; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["pilothouse"]


def core_distributions() -> set[str]:
    """The names of everything that `pip install pilothouse` brings, extras apart."""
    found: set[str] = set()
    queue = ["pilothouse"]
    while queue:
        name = queue.pop()
        for requirement in importlib.metadata.requires(name) or []:
            head, _, marker = requirement.partition(";")
            wanted = re.split(r"[\s<>=!~\[(]", head.strip(), maxsplit=1)[0].lower().replace("_", "-")
            if "extra ==" in marker or wanted in found:
                continue
            try:
                importlib.metadata.distribution(wanted)
            except importlib.metadata.PackageNotFoundError:
                continue  # for another platform or Python
            found.add(wanted)
            queue.append(wanted)
    return found


def test_the_core_install_is_small() -> None:
    sizes = {
        name: sum(
            Path(str(entry.locate())).stat().st_size
            for entry in importlib.metadata.files(name) or []
            if Path(str(entry.locate())).is_file() and not str(entry).endswith(".pyc")
        )
        / 1e6
        for name in core_distributions()
    }
    biggest = sorted(sizes.items(), key=lambda pair: -pair[1])[:8]
    assert sum(sizes.values()) < INSTALL_MB, f"{sum(sizes.values()):.0f} MB: {biggest}"


def test_the_tree_names_no_catch_all() -> None:
    banned = {"utils", "helpers", "manager", "common", "misc"}
    assert not [shown(file) for file in MODULES if file.stem in banned or file.stem.startswith("base_")]


def test_the_files_that_begin_first_are_there() -> None:
    assert len(set(LONG)) == len(LONG)
    assert [name for name in LONG if not (ROOT / "tests" / name).is_file()] == []
