"""API keys through their public doors."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import BadRequest, Unauthorized
from pilothouse.domain.table import KeyEntry, Table
from pilothouse.security.keys import MintedKey, checksum_ok, make_authenticate, mint, pseudonym, public_id

PEPPER = b"p" * 32


def table(*keys: MintedKey, anonymous: bool = False, revision: int = 1) -> Table:
    entries: dict[str, KeyEntry] = {k.entry.id: k.entry for k in keys}
    return Table(revision=revision, issued_us=1, entries={}, keys=entries, providers={}, anonymous=anonymous)


def refusal(header: str | None, held: Table, pepper: bytes = PEPPER) -> Unauthorized:
    with pytest.raises(Unauthorized) as caught:
        make_authenticate(pepper, FrozenClock())(header, held)
    return caught.value


def test_a_minted_key_has_the_form_that_is_documented() -> None:
    key = mint("prod", "ci", PEPPER, FrozenClock())
    prefix, env, public, rest = key.plain.split("_")
    assert (prefix, env, len(public), len(rest)) == ("ph", "prod", 8, 43 + 6)
    assert key.entry.id == public == public_id(key.plain)
    assert key.plain not in repr(key)
    assert hashlib.sha256(key.plain.encode()).hexdigest() != key.entry.hmac
    assert len(key.entry.hmac) == 64


def test_a_key_opens_its_environment() -> None:
    key = mint("staging", "ci", PEPPER, FrozenClock())
    authenticate = make_authenticate(PEPPER, FrozenClock())
    for header in (f"Bearer {key.plain}", f"bearer  {key.plain} "):
        principal = authenticate(header, table(key))
        assert (principal.key_id, principal.env, principal.name) == (key.entry.id, "staging", "ci")


@given(st.integers(0, 67), st.sampled_from("0aZ_ é"))
def test_any_changed_character_is_caught_without_a_look_up(place: int, other: str) -> None:
    plain = mint("dev", "x", PEPPER, FrozenClock()).plain
    place %= len(plain)
    changed = plain[:place] + other + plain[place + 1 :]
    assert checksum_ok(changed) == (changed == plain)


@given(st.text())
def test_no_text_breaks_the_checksum(text: str) -> None:
    assert checksum_ok(text) is False


def test_each_way_to_fail_says_which_it_is_and_never_the_key() -> None:
    key, other = (mint("prod", n, PEPPER, FrozenClock()) for n in ("a", "b"))
    held = table(key)
    assert refusal(None, held).kind == "missing_api_key"
    assert refusal("", held).kind == "missing_api_key"
    assert refusal("Bearer ", held).kind == "missing_api_key"
    assert refusal("Basic abc", held).kind == "malformed_api_key"
    assert refusal("Bearer sk-something", held).kind == "malformed_api_key"
    assert refusal(f"Bearer {key.plain[:-1]}", held).kind == "malformed_api_key"
    unknown = refusal(f"Bearer {other.plain}", held)
    assert unknown.kind == "invalid_api_key"
    assert other.plain not in str(unknown)
    assert unknown.status == 401


def test_the_same_public_id_with_another_secret_is_refused() -> None:
    key, forged = (mint("prod", n, PEPPER, FrozenClock()) for n in ("a", "b"))
    held = Table(revision=1, issued_us=1, entries={}, keys={forged.entry.id: key.entry}, providers={})
    assert refusal(f"Bearer {forged.plain}", held).kind == "invalid_api_key"


def test_another_pepper_opens_nothing() -> None:
    key = mint("prod", "a", PEPPER, FrozenClock())
    assert refusal(f"Bearer {key.plain}", table(key), b"q" * 32).kind == "invalid_api_key"


def test_a_revoked_key_fails_from_the_first_request_on_the_new_table() -> None:
    key = mint("prod", "a", PEPPER, FrozenClock())
    authenticate = make_authenticate(PEPPER, FrozenClock())
    before, after = table(key), table(revision=2)
    assert authenticate(f"Bearer {key.plain}", before).env == "prod"
    with pytest.raises(Unauthorized) as caught:
        authenticate(f"Bearer {key.plain}", after)
    assert caught.value.kind == "invalid_api_key"
    assert authenticate(f"Bearer {key.plain}", before).env == "prod"


def test_a_key_expires_while_it_is_remembered() -> None:
    clock = FrozenClock()
    key = mint("prod", "a", PEPPER, clock, expires_us=clock.now_us() + 1_000_000)
    authenticate, held = make_authenticate(PEPPER, clock), table(key)
    assert authenticate(f"Bearer {key.plain}", held).env == "prod"
    clock.advance(1.0)
    with pytest.raises(Unauthorized) as caught:
        authenticate(f"Bearer {key.plain}", held)
    assert caught.value.kind == "expired_api_key"


def test_more_keys_than_are_remembered_all_work() -> None:
    keys = [mint("dev", str(i), PEPPER, FrozenClock()) for i in range(200)]
    authenticate, held = make_authenticate(PEPPER, FrozenClock()), table(*keys)
    for _ in range(2):
        assert [authenticate(f"Bearer {k.plain}", held).name for k in keys] == [str(i) for i in range(200)]


def test_without_keys_on_loopback_no_header_is_needed_but_a_wrong_one_is_still_wrong() -> None:
    held = table(anonymous=True)
    assert make_authenticate(PEPPER, FrozenClock())(None, held).env == "dev"
    assert refusal("Bearer nonsense", held).kind == "malformed_api_key"


def test_minting_refuses_an_unknown_environment_and_a_time_that_is_over() -> None:
    with pytest.raises(BadRequest, match="no environment"):
        mint("production", "a", PEPPER, FrozenClock())
    with pytest.raises(BadRequest, match="expired"):
        mint("prod", "a", PEPPER, FrozenClock(), expires_us=1)


def test_pseudonyms_are_stable_and_tell_nothing_of_the_salt() -> None:
    assert pseudonym(b"a", "bob") == pseudonym(b"a", "bob")
    assert len({pseudonym(b"a", "bob"), pseudonym(b"b", "bob"), pseudonym(b"a", "eve")}) == 3
    assert len(pseudonym(b"a", "bob")) == 16
    assert pseudonym(b"a", "") == ""
