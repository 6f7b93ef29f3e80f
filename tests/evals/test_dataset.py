from pathlib import Path

import pytest

from pilothouse.domain.errors import ConfigError
from pilothouse.evals.dataset import load


def written(folder: Path, *lines: str) -> Path:
    path = folder / "cases.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_cases_come_in_the_files_order_with_their_lines(tmp_path: Path) -> None:
    path = written(tmp_path, '{"id": "b", "input": "two"}', "", '{"id": "a", "variables": {"x": 1}, "must_pass": true}')
    dataset = load(path)
    assert [case.id for case in dataset.cases] == ["b", "a"]
    assert dataset.cases[1].must_pass
    assert dataset.at("a") == f"{path}:3"


def test_the_hash_is_of_the_content_not_of_the_bytes(tmp_path: Path) -> None:
    one = load(written(tmp_path, '{"id": "a", "input": "x", "target": {"k": 1, "l": 2}}')).hash
    same = load(written(tmp_path, "", '{"target":{"l":2,"k":1},   "input":"x","id":"a"}')).hash
    other = load(written(tmp_path, '{"id": "a", "input": "y", "target": {"k": 1, "l": 2}}')).hash
    assert one == same != other


def test_a_line_separator_inside_a_string_ends_no_line(tmp_path: Path) -> None:
    assert load(written(tmp_path, '{"id": "a", "input": "x\u2028y"}')).cases[0].input == "x\u2028y"


@pytest.mark.parametrize(
    ("lines", "line", "said"),
    [
        (['{"id": "a", "input": "x"}', '{"id": "a", "input": "y"}'], 2, "two cases have the id 'a'.*first at line 1"),
        (['{"id": "a", "imput": "x"}'], 1, "no 'imput'.*did you mean 'input'"),
        (['{"id": "a", "zzz": "x"}'], 1, "no 'zzz'.*a case has id, task"),
        (["", '{"id": "a", "input": "x"'], 2, "not a line of JSON"),
        (['["a"]'], 1, "keys and values"),
        (['{"id": "a", "input": 3}'], 1, "not a case: Expected `str`, got `int`"),
        (['{"input": "x"}'], 1, "not a case.*id"),
        (['{"id": " ", "input": "x"}'], 1, "needs an id"),
        (['{"id": "a"}'], 1, "nothing to send"),
        (['{"id": "a", "input": "x", "retrieved": [{"text": "y"}]}'], 1, "needs an `id`"),
    ],
)
def test_what_is_no_case_is_named_with_file_and_line(tmp_path: Path, lines: list[str], line: int, said: str) -> None:
    path = written(tmp_path, *lines)
    with pytest.raises(ConfigError, match=said) as caught:
        load(path)
    assert caught.value.where == f"{path}:{line}"


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(ConfigError, match="UTF-8"):
        load(tmp_path / "latin.jsonl")
    with pytest.raises(ConfigError, match="no case"):
        load(written(tmp_path, ""))
