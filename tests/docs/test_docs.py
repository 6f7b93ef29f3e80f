"""The docs are part of the product: generated pages are current, the map is whole, the dataset fits the docs."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pilothouse.config.app import load
from pilothouse.stats.paired import agresti_min
from pilothouse.stats.proportions import wilson

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DEMO = ROOT / "examples/demo"


def module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = made
    spec.loader.exec_module(made)
    return made


def test_reference_pages_are_written_from_the_code_as_it_is(tmp_path: Path) -> None:
    for path, text in module(DOCS / "generate.py").pages(tmp_path).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: python docs/generate.py"


def test_every_page_is_on_the_map_and_every_entry_exists() -> None:
    named = set(re.findall(r": ([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert named == pages


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8")):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_the_demos_dataset_holds_what_retrieval_finds_today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DEMO))
    retrieval = module(DEMO / "retrieval.py")
    build = module(DEMO / "build_dataset.py")
    index = retrieval.Index(retrieval.sections(DOCS))
    rows = [json.loads(line) for line in (DEMO / "datasets/questions.jsonl").read_text().splitlines()]
    made = [json.loads(line) for line in (DEMO / "datasets/docs-answer.jsonl").read_text().splitlines()]
    assert made == [build.case(row, index) for row in rows], "run python examples/demo/build_dataset.py"
    assert (DEMO / "datasets/index.version").read_text().strip() == index.version


def test_every_labelled_section_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    retrieval = module(DEMO / "retrieval.py")
    known = {section.id for section in retrieval.sections(DOCS)}
    for line in (DEMO / "datasets/questions.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert set(row.get("relevant", [])) <= known, row["id"]


def test_the_demos_datasets_are_as_large_as_their_gates_need() -> None:
    """Few enough that the demo takes two minutes, enough that an equal release passes and a first one is judged."""
    gates = {name: load(DEMO).route(name).gate for name in ("docs-answer", "order-intake")}
    sizes = {}
    for name in gates:
        lines = (DEMO / f"datasets/{name}.jsonl").read_text().splitlines()
        assert len({json.loads(line)["id"] for line in lines}) == len(lines)
        sizes[name] = len(lines)
    compared, first = gates["order-intake"], gates["docs-answer"]
    assert compared is not None and first is not None
    assert agresti_min(0, 0, sizes["order-intake"])[1] > -compared.margin  # nothing changed: within the margin
    assert (
        sizes["docs-answer"] >= 30 and wilson(round(0.4 * sizes["docs-answer"]), sizes["docs-answer"])[0] > first.floor
    )
