"""API keys: minted once, shown once, kept as an HMAC; and the pseudonyms of what clients send us.

A key reads `ph_{env}_{public id, 8}_{32 random bytes in base 62, 43}{CRC-32 of all before it in base 62, 6}`. The
checksum lets a scanner or the edge tell a mistyped key from an unknown one without a look-up.
"""

import hashlib
import hmac
import secrets
import zlib

import msgspec

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import BadRequest, Unauthorized
from pilothouse.domain.principal import Principal
from pilothouse.domain.table import ENVIRONMENTS, KeyEntry, Table
from pilothouse.domain.wires import Authenticate

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID, _SECRET, _CHECK = 8, 43, 6  # characters; 62**43 > 2**256 and 62**6 > 2**32
_CACHE = 4096  # keys remembered per process; more than that and the oldest are looked up again
ANONYMOUS = Principal(key_id="", env="dev", name="anonymous")


class MintedKey(msgspec.Struct, frozen=True):
    """A new key: `plain` is shown once and never kept; `entry` is what the state store keeps."""

    plain: str
    entry: KeyEntry

    def __repr__(self) -> str:
        return f"MintedKey(plain='ph_…', entry={self.entry!r})"


def _base62(value: int, width: int) -> str:
    out = ""
    for _ in range(width):
        value, digit = divmod(value, 62)
        out = _ALPHABET[digit] + out
    return out


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECK)


def _hmac(pepper: bytes, plain: str) -> str:
    return hmac.digest(pepper, plain.encode(), "sha256").hex()


def mint(env: str, name: str, pepper: bytes, clock: Clock, expires_us: int = 0) -> MintedKey:
    """A new key for `env`; `expires_us` in µs since 1970, 0 for never. Raises `BadRequest`."""
    known = next((e for e in ENVIRONMENTS if e == env), None)
    if known is None:
        raise BadRequest(f"no environment “{env}”", hint=f"use one of {', '.join(ENVIRONMENTS)}")
    if expires_us and expires_us <= clock.now_us():
        raise BadRequest("the key would already be expired", hint="give a time in the future, or none")
    public = "".join(secrets.choice(_ALPHABET) for _ in range(_ID))
    body = f"ph_{env}_{public}_{_base62(int.from_bytes(secrets.token_bytes(32), 'big'), _SECRET)}"
    plain = body + _checksum(body)
    entry = KeyEntry(id=public, hmac=_hmac(pepper, plain), env=known, name=name, expires_us=expires_us)
    return MintedKey(plain=plain, entry=entry)


def public_id(text: str) -> str | None:
    """The public id of a key that is well formed (its checksum included), else None."""
    parts = text.split("_")
    if len(parts) != 4 or parts[0] != "ph" or parts[1] not in ENVIRONMENTS or not text.isascii():
        return None
    if len(parts[2]) != _ID or len(parts[3]) != _SECRET + _CHECK or not (parts[2] + parts[3]).isalnum():
        return None
    return parts[2] if _checksum(text[:-_CHECK]) == text[-_CHECK:] else None


def checksum_ok(text: str) -> bool:
    """Whether `text` is a well-formed key; says nothing of whether it was ever minted."""
    return public_id(text) is not None


def _bearer(header: str | None) -> str:
    """The credential of an Authorization header, empty where there is none."""
    if not header:
        return ""
    scheme, _, credential = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized(
            "the Authorization header is not a bearer token",
            hint="send “Authorization: Bearer ph_…”",
            code="malformed_api_key",
        )
    return credential.strip()


def _lookup(plain: str, table: Table, pepper: bytes) -> KeyEntry:
    public = public_id(plain)
    if public is None:
        raise Unauthorized(
            "the API key is malformed: its form or checksum is wrong",
            hint="copy the whole key again (ph_…), or create one with “pilothouse keys create”",
            code="malformed_api_key",
        )
    entry = table.keys.get(public)
    if entry is None or not hmac.compare_digest(_hmac(pepper, plain), entry.hmac):
        raise Unauthorized(
            f"the API key with id {public} is unknown or revoked",
            hint="create one with “pilothouse keys create”",
            code="invalid_api_key",
        )
    return entry


def make_authenticate(pepper: bytes, clock: Clock) -> Authenticate:
    """A function from (Authorization header, table) to the principal; raises `Unauthorized`, never echoes a key.

    Looks a key up once per table: what it remembers is dropped when the table's keys are replaced, so that a
    revoked key fails from the first request on the new table.
    """
    remembered: dict[bytes, tuple[int, Principal]] = {}
    of: dict[str, KeyEntry] | None = None  # the keys of the table that `remembered` holds for

    def authenticate(header: str | None, table: Table) -> Principal:
        nonlocal of
        plain = _bearer(header)
        if not plain:
            if table.anonymous:
                return ANONYMOUS
            raise Unauthorized("no API key was sent", hint="send “Authorization: Bearer ph_…”", code="missing_api_key")
        if of is not table.keys:
            remembered.clear()
            of = table.keys
        digest = hashlib.sha256(plain.encode("utf-8", "surrogatepass")).digest()
        known = remembered.get(digest)
        if known is None:
            entry = _lookup(plain, table, pepper)
            known = entry.expires_us, Principal(key_id=entry.id, env=entry.env, name=entry.name)
            if len(remembered) >= _CACHE:
                del remembered[next(iter(remembered))]
            remembered[digest] = known
        expires_us, principal = known
        if expires_us and clock.now_us() >= expires_us:
            raise Unauthorized(
                f"the API key with id {principal.key_id} has expired",
                hint="create one with “pilothouse keys create”",
                code="expired_api_key",
            )
        return principal

    return authenticate


def pseudonym(salt: bytes, value: str) -> str:
    """A stable stand-in for a user's or session's id: 16 hex characters of HMAC-SHA256; empty stays empty."""
    return hmac.digest(salt, value.encode("utf-8", "surrogatepass"), "sha256").hex()[:16] if value else ""
