"""`store:` names places, never a password."""

import re
from pathlib import Path

import pytest

from pilothouse.config.app import load
from pilothouse.config.store import StoreConfig
from pilothouse.domain.errors import ConfigError

DOCS = Path(__file__).resolve().parents[2] / "docs"


def read(folder: Path, text: str) -> StoreConfig:
    (folder / "pilothouse.yaml").write_text(text)
    return load(folder).store


def test_without_it_state_is_in_a_file(tmp_path):
    assert read(tmp_path, "") == StoreConfig()


def test_the_page_says_how(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "hosts.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert read(tmp_path, block) == StoreConfig(
        state="postgresql://pilothouse@db.internal/pilothouse", state_password="env://PILOTHOUSE_DB_PASSWORD"
    )


def test_a_password_file_is_found_from_anywhere_and_postgres_is_postgresql(tmp_path):
    found = read(tmp_path, "store: {state: 'postgres://h/d?sslmode=require', state_password: file://pw}")
    assert found == StoreConfig(state="postgresql://h/d?sslmode=require", state_password=f"file://{tmp_path}/pw")


def test_an_address_is_clickhouse(tmp_path):
    found = read(tmp_path, "store: {telemetry: 'clickhouses://me@host/db', telemetry_password: file://pw}")
    assert found == StoreConfig(telemetry="clickhouses://me@host/db", telemetry_password=f"file://{tmp_path}/pw")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{state: 'postgresql://u:hunter2@h/d'}", "the password does not belong here"),
        ("{state: 'postgresql://u@h/d?password=hunter2'}", "the password does not belong here"),
        ("{state: 'mysql://u@h/d'}", "not an address such as"),
        ("{state: 'postgresql://u@h'}", "not an address such as"),
        ("{state: 'postgresql:///d'}", "not an address such as"),
        ("{state: 'postgresql://u@h/d', state_password: hunter2}", "named by reference"),
        ("{stat: x}", "did you mean 'state'"),
        ("{telemetry: duckdb.file}", "not an address such as clickhouse://"),
        ("{telemetry: 'clickhouse://me:hunter2@host/db'}", "the password does not belong here"),
        ("{telemetry: 'clickhouse://host/db', telemetry_password: hunter2}", "named by reference"),
    ],
)
def test_what_is_wrong_is_named_and_no_password_is_shown(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said) as raised:
        read(tmp_path, f"store: {text}")
    assert "hunter2" not in str(raised.value)
