"""pilothouse.yaml: what is right is read, what is wrong is named with file, line and a suggestion."""

from pathlib import Path

import pytest

from pilothouse.config.app import load
from pilothouse.domain.errors import ConfigError
from pilothouse.domain.manifest import PARTS
from pilothouse.domain.provider_kinds import PROVIDER_KINDS

YAML = """\
providers:
  openai: {kind: openai, key: env://OPENAI_API_KEY, key_owner: ana, rotate: 90d, rotated: "2026-10-01"}
  fake: {kind: scripted, script: fake.yaml}
people:
  ana: {name: Ana, notify: ["json://localhost:9/hook"]}
  ben: {name: Ben}
prices:
  fake/m-2026-01-01: {input: 0.15 USD, output: 0.60 USD}
routes:
  answer:
    app: docs
    owner: ana
    backup: ben
    tier: high
    system: system.md
    prompt: prompt.md
    model: openai/gpt-5-mini-2026-08-07
    params: {temperature: 0.2, max_tokens: 400}
    schema: schema.json
    tools: tools.json
    index: {name: docs, version: "7"}
    policy:
      timeout: {connect: 2s, first_token: 5s, idle: 10s, total: 30s}
      retry: {attempts: 3, on: [rate_limit, timeout], backoff: 100ms}
      fallback:
        - {model: fake/m-2026-01-01, on: [error]}
        - {static: "Later.", outcome: escalated}
      invalid: [repair, fallback, error]
      log: {mode: redacted}
    gate: {dataset: cases.jsonl, scorers: [schema, contains], margin: 3pp}
    checks:
      T7.1: {warn: +25%, fail: +60%, fallback: cheaper_model}
rules:
  - {name: errors, metric: error.rate, route: answer, threshold: 5%, window: 5m, owner: ana,
     actions: [rollback, {notify: "log://"}]}
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "pilothouse.yaml").write_text(YAML)
    (tmp_path / "fake.yaml").write_text("rules: []\n")
    (tmp_path / "system.md").write_text("You answer from the documents.\n")
    (tmp_path / "prompt.md").write_text(
        "---\nversion: v3\nvariables: [question, documents]\n---\n{{ documents }}\n{{ question }}\n"
    )
    (tmp_path / "schema.json").write_text('{"type": "object", "properties": {"answer": {"type": "string"}}}')
    (tmp_path / "tools.json").write_text('[{"type": "function", "function": {"name": "search", "parameters": {}}}]')
    (tmp_path / "cases.jsonl").write_text('{"id": "1", "input": "hi"}\n')
    return tmp_path


def edit(app: Path, old: str, new: str) -> None:
    file = app / "pilothouse.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_a_whole_file_is_read(app: Path) -> None:
    config = load(app)
    route = config.route("answer")
    assert str(route.manifest.model) == "openai/gpt-5-mini-2026-08-07"
    assert route.manifest.prompt is not None
    assert route.manifest.prompt.variables == ("question", "documents")
    assert route.manifest.prompt.version == "v3"
    assert route.manifest.policy.timeout.first_token == 5.0
    assert route.manifest.policy.retry.attempts == 3
    assert [step.outcome for step in route.manifest.policy.fallback] == ["fallback", "escalated"]
    assert route.manifest.index is not None
    assert route.manifest.index.version == "7"
    assert route.gate is not None
    assert route.gate.margin == pytest.approx(0.03)
    assert route.checks["T7.1"].warn == pytest.approx(0.25)
    assert config.rules[0].threshold == pytest.approx(0.05)
    assert config.rules[0].actions[1].argument == "log://"
    assert config.prices["fake/m-2026-01-01"].output == pytest.approx(0.60)
    assert set(route.manifest.hashes()) == set(PARTS)


def test_equal_files_have_equal_hashes_and_a_changed_prompt_changes_one(app: Path) -> None:
    before = load(app).route("answer").manifest.hashes()
    assert load(app).route("answer").manifest.hashes() == before
    (app / "prompt.md").write_text("---\nversion: v4\nvariables: [question, documents]\n---\nNew {{ question }}\n")
    after = load(app).route("answer").manifest.hashes()
    assert {part for part in PARTS if after[part] != before[part]} == {"prompt"}


@pytest.mark.parametrize(
    ("old", "new", "message", "line"),
    [
        ("    tier: high", "    teir: high", "unknown key 'teir'", 14),
        ("tier: high", "tier: hihg", "did you mean 'high'", 14),
        ("connect: 2s", "connect: 2", "is not a duration", 23),
        ("margin: 3pp", "margin: 3", "is not a share", 30),
        ("owner: ana\n    backup", "owner: eve\n    backup", "'eve' is not in `people`", 12),
        ("model: openai/gpt-5-mini-2026-08-07", "model: gpt-5", "is not `provider/model`", 17),
        ("key: env://OPENAI_API_KEY", "key: sk-123", "never written here", 2),
        ("prompt: prompt.md", "prompt: promt.md", "there is no file promt.md", 16),
        ("scorers: [schema, contains]", "scorers: [schema, contain]", "did you mean 'contains'", 30),
        ('actions: [rollback, {notify: "log://"}]', "actions: []", "without an action", 34),
        ("owner: ana,\n     actions", "actions", "'owner' is missing", 34),
        ("{kind: scripted, script: fake.yaml}", "{kind: scripted}", "needs `script:`", 3),
        ("  ben: {name: Ben}", "  ana: {name: Ben}", "stands twice", 6),
        ("rules:\n", "rules: [\n", "not YAML", 34),
    ],
)
def test_what_is_wrong_is_named_with_its_line(app: Path, old: str, new: str, message: str, line: int) -> None:
    edit(app, old, new)
    with pytest.raises(ConfigError) as caught:
        load(app)
    assert message in str(caught.value)
    assert caught.value.where.endswith(f"pilothouse.yaml:{line}")


def test_unknown_provider_is_named(app: Path) -> None:
    edit(app, "model: fake/m-2026-01-01, on", "model: other/m, on")
    with pytest.raises(ConfigError, match="uses the provider 'other'"):
        load(app)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("schema.json", "{", "not JSON"),
        ("schema.json", '{"type": "objekt"}', "not a usable JSON Schema"),
        ("schema.json", "[]", "must be an object"),
        ("tools.json", '[{"type": "function"}]', "tool 0 has no function.name"),
        ("prompt.md", "{{ question", "does not parse"),
        ("prompt.md", "---\nvariables: [question]\n---\n{{ documents }}", "front matter does not declare"),
    ],
)
def test_a_wrong_part_is_named(app: Path, file: str, text: str, message: str) -> None:
    (app / file).write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(app)
    assert file in caught.value.where


def test_no_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pilothouse init"):
        load(tmp_path)


def test_index_version_from_a_file(app: Path) -> None:
    (app / "index.version").write_text("2026-11-20\n")
    edit(app, '{name: docs, version: "7"}', '{name: docs, version: "file://index.version"}')
    index = load(app).route("answer").manifest.index
    assert index is not None
    assert index.version == "2026-11-20"


def test_a_relative_secret_file_is_found_from_anywhere(app: Path) -> None:
    edit(app, "env://OPENAI_API_KEY", "file://keys/openai")
    assert load(app).providers["openai"].key == f"file://{app}/keys/openai"


def only_provider(folder: Path, text: str) -> Path:
    (folder / "pilothouse.yaml").write_text(f"providers:\n  p: {text}\n")
    return folder


def test_a_kind_knows_its_address_and_its_options(tmp_path: Path) -> None:
    for kind in PROVIDER_KINDS.values():
        if kind.base_url and not kind.options:
            read = load(only_provider(tmp_path, f"{{kind: {kind.name}}}")).providers["p"]
            assert read.base_url == kind.base_url and read.options == {}
    keys = "access_key: env://ID, secret_key: file://keys/aws"
    aws = load(only_provider(tmp_path, f"{{kind: bedrock, region: eu-west-1, {keys}}}")).providers["p"]
    assert aws.base_url == "https://bedrock-runtime.eu-west-1.amazonaws.com"
    assert aws.options == {"region": "eu-west-1", "access_key": "env://ID", "secret_key": f"file://{tmp_path}/keys/aws"}
    azure = "{kind: azure-openai, base_url: 'https://x.openai.azure.com', api_version: '2024-10-21'}"
    assert load(only_provider(tmp_path, azure)).providers["p"].options == {"api_version": "2024-10-21"}


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        ("{kind: antropic}", "did you mean 'anthropic'"),
        ("{kind: azure-openai}", "needs `base_url:`"),
        ("{kind: openai, base_url: api.example}", "is not a web address"),
        ("{kind: openai, region: x}", "unknown key 'region'"),
        ("{kind: bedrock, key: env://K}", "needs `region:`"),
        ("{kind: bedrock, region: x}", "needs `access_key` and `secret_key`, or `key`"),
        ("{kind: bedrock, region: x, access_key: env://A}", "needs `access_key` and `secret_key`, or `key`"),
        ("{kind: bedrock, region: x, key: env://K, access_key: env://A}", "not both"),
        ("{kind: bedrock, region: x, access_key: AKIA123, secret_key: env://B}", "never written here"),
    ],
)
def test_a_wrong_provider_is_explained(tmp_path: Path, provider: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(only_provider(tmp_path, provider))
    assert message in str(caught.value) and ":2" in caught.value.where


def test_a_second_backend_gets_its_secrets_by_reference(app: Path) -> None:
    edit(
        app,
        "rules:\n",
        "forward: {endpoint: 'https://o.example', headers: {authorization: file://t, x-team: a}}\nrules:\n",
    )
    found = load(app).forward
    assert found is not None
    assert found.endpoint == "https://o.example/v1/traces"
    assert found.headers == {"authorization": f"file://{app / 't'}", "x-team": "a"}
    assert not found.content
    edit(app, "file://t", "Bearer sk-1")
    with pytest.raises(ConfigError, match="by reference"):
        load(app)
    edit(app, "Bearer sk-1", "env://T")
    edit(app, "https://o.example", "o.example")
    with pytest.raises(ConfigError, match="http"):
        load(app)


def test_spans_of_no_route_have_a_log_mode(app: Path) -> None:
    assert load(app).spans_log == "redacted"
    file = app / "pilothouse.yaml"
    file.write_text(YAML + "spans: {log: {mode: metadata}}\n")
    assert load(app).spans_log == "metadata"
    file.write_text(YAML + "spans: {log: {mode: some}}\n")
    with pytest.raises(ConfigError, match="mode"):
        load(app)
