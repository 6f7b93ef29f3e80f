"""What people write, read strictly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.config.quantities import number, seconds, share, size_bytes, usd


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", 0.5),
        ("2s", 2.0),
        ("10m", 600.0),
        ("10 min", 600.0),
        ("1h", 3600.0),
        ("30d", 2_592_000.0),
        ("1.5s", 1.5),
    ],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["2", 2, "2 weeks", "-1s", "", "s", "1s2"])
def test_a_duration_without_a_clear_unit_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("3pp", 0.03), ("+25%", 0.25), ("25 %", 0.25), (0.25, 0.25), ("-5%", -0.05)]
)
def test_shares(text: object, expected: float) -> None:
    assert share(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["3", 3, "3 percent", None, True])
def test_a_share_without_a_unit_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        share(text)


def test_sizes_and_money() -> None:
    assert size_bytes("16MiB") == 16 * 2**20
    assert size_bytes("500kB") == 500_000
    assert usd("0.05 USD") == pytest.approx(0.05)
    for parse, text in ((size_bytes, "16"), (usd, "0.05"), (usd, "5 EUR")):
        with pytest.raises(ValueError, match="is not a"):
            parse(text)


def test_thresholds_take_any_of_them() -> None:
    assert number("800ms") == pytest.approx(800.0)
    assert number("5%") == pytest.approx(0.05)
    assert number("0.01 USD") == pytest.approx(0.01)
    assert number(3) == 3.0
    with pytest.raises(ValueError, match="is not a number"):
        number("soon")


@given(st.integers(min_value=0, max_value=10**6))
def test_a_duration_in_ms_and_in_s_agree(ms: int) -> None:
    assert seconds(f"{ms}ms") == pytest.approx(seconds(f"{ms / 1000:.3f}s"))
