"""The page on APIs says what the wires say."""

import re
from pathlib import Path

from pilothouse.gateway.apis.named import APIS, PATHS
from pilothouse.providers.registry import KINDS

PAGE = (Path(__file__).resolve().parents[2] / "docs/apis.md").read_text(encoding="utf-8")
NAMES = ("chat", "messages", "responses", "embeddings", "moderations", "any")


def test_the_table_of_kinds_is_what_the_wires_speak() -> None:
    rows = re.findall(r"^\| `([\w.-]+)` \|((?: (?:native|translated|refused) \|){6})$", PAGE, flags=re.MULTILINE)
    said = {kind: tuple(cells.replace("|", " ").split()) for kind, cells in rows}
    for name, kind in KINDS.items():
        other = {api: "translated" if APIS[api].translates else "refused" for api in NAMES}
        assert said[name] == tuple("native" if api in kind.wire.native else other[api] for api in NAMES), name


def test_every_path_of_an_api_is_on_the_page() -> None:
    assert all(f"`POST {path}`" in PAGE for path in PATHS if path.startswith("/v1/"))
