"""The scan for secrets that are written out."""

import random
from pathlib import Path

import pytest

from pilothouse.domain.errors import StoreError
from pilothouse.security.scan import plain_secret, scan_files, scan_text

ALNUM = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
KEY = "sk-proj-" + "".join(random.Random(1).choices(ALNUM, k=40))

CLEAN = """
providers:
  openai: {kind: openai, key: env://OPENAI_API_KEY}
  other:
    key: file://secrets/other
    token: ${OTHER_TOKEN}
    password: <your password>
    secret: vault://kv/other#key
routes:
  docs:
    params: {max_tokens: 400, temperature: 0.2}
    system: prompts/docs.md          # key: what matters
"""


def test_references_templates_and_numbers_are_clean() -> None:
    assert scan_text(CLEAN) == []


def test_a_providers_key_is_found_with_its_line_and_without_itself() -> None:
    (hit,) = scan_text(f"a: 1\nb: 2\nmail: {KEY}\n", "pilothouse.yaml")
    assert (hit.file, hit.line, hit.rule) == ("pilothouse.yaml", 3, "openai-key")
    assert KEY not in repr(hit)


@pytest.mark.parametrize(
    "line",
    ["key: abcd1234efgh", "  api_key: 'abcd1234efgh'", '"token": "abcd1234efgh",', "export DB_PASSWORD=abcd1234efgh"],
)
def test_a_plain_value_behind_a_secrets_name_is_found(line: str) -> None:
    assert [hit.line for hit in scan_text(f"\n{line}\n")] == [2]


def test_a_config_value_is_judged_by_its_name() -> None:
    assert plain_secret("key", "abcd1234efgh")
    assert not plain_secret("key", "env://NAME")
    assert not plain_secret("model", "gpt-5-mini-2026")


def test_directories_are_walked_and_binaries_skipped(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "a.md").write_text(f"Use {KEY} please")
    (tmp_path / "model.bin").write_bytes(b"\0" + KEY.encode())
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text(KEY)
    hits = scan_files([tmp_path])
    assert [(Path(h.file).name, h.line, h.rule) for h in hits] == [("a.md", 1, "openai-key")]


def test_a_file_that_was_not_read_is_no_clean_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot scan"):
        scan_files([tmp_path / "gone.yaml"])
