"""`store:` names a ClickHouse by its address, and the password by reference alone."""

from pathlib import Path

import pytest

from pilothouse.config.section import parse
from pilothouse.config.store import StoreConfig, read_store
from pilothouse.domain.errors import ConfigError


def read(text: str) -> StoreConfig:
    top = parse(text, Path("/app/pilothouse.yaml"))
    found = read_store(top)
    top.close()
    return found


def test_nothing_is_duckdb_and_an_address_is_clickhouse() -> None:
    assert read("") == StoreConfig()
    found = read('store: {telemetry: "clickhouses://me@host/db", password: file://secret}')
    assert found == StoreConfig(telemetry="clickhouses://me@host/db", password="file:///app/secret")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("store: {telemetry: duckdb.file}", "no address such as clickhouse://"),
        ('store: {telemetry: "clickhouse://me:secret@host/db"}', "named by reference"),
        ('store: {telemetry: "clickhouse://host/db", password: secret}', "named by reference"),
        ("store: {password: env://P}", "'telemetry' is missing"),
        ('store: {telemetry: "clickhouse://host/db", paswort: env://P}', "did you mean 'password'"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert said in str(caught.value)
    assert "pilothouse.yaml:1" in str(caught.value)
