"""Who may use the control plane: a bearer token for programs, a one-time link or the admin password for people.

A person's session is a signed cookie; its CSRF token is derived from it, so that neither needs a table. What must be
remembered (links not yet used, sessions ended early) is one small file in the secret directory.
"""

import base64
import hashlib
import hmac
import secrets
import threading
from pathlib import Path

import msgspec

from pilothouse.domain.change import Actor
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import StateError, StoreError, Unauthorized
from pilothouse.security.files import Secrets
from pilothouse.server.datadir import write_private

SESSION_S = 12 * 3600
LINK_S = 24 * 3600  # how long an unused one-time link stays good
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 64 << 20}  # 32 MiB and about 0.1 s a guess
_GUESSES, _GUESS_WINDOW_US = 5, 60_000_000  # wrong passwords a minute, from everywhere together


class Session(msgspec.Struct, frozen=True):
    """A signed-in person; `csrf` must come back with every change they ask for."""

    actor: Actor
    csrf: str


class _Remembered(msgspec.Struct):
    """`links`: hash of an unused one-time token → its end; `ended`: signed-out session → its natural end."""

    links: dict[str, int] = {}
    ended: dict[str, int] = {}


class _Claims(msgspec.Struct, array_like=True):
    actor: str
    until_us: int
    nonce: str


class Gate:
    """Decides who a caller is. Thread-safe."""

    def __init__(self, folder: Path, secret: Secrets, clock: Clock, port: int) -> None:
        self.cookie = f"pilothouse_{port}"  # cookies ignore ports: two installations on one host stay apart
        self._password = folder / "admin_password"
        self._file = folder / "sessions.json"
        self._secret = secret
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: list[int] = []
        self._remembered = _remembered(self._file)

    # --- programs

    def bearer(self, header: str | None) -> bool:
        """Whether an Authorization header carries the admin token."""
        scheme, _, token = (header or "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(
            token.strip().encode(), self._secret.admin_token.encode()
        )

    # --- people

    @property
    def password_set(self) -> bool:
        """Whether people can sign in with a password."""
        return self._password.exists()

    def issue_link(self) -> str:
        """A token that signs one person in, once, within `LINK_S`."""
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._remembered.links[_digest(token)] = self._clock.now_us() + LINK_S * 1_000_000
            self._save()
        return token

    def open_link(self, token: str) -> str | None:
        """Use up a one-time token: the cookie's value, or None where it is unknown, too old or used."""
        with self._lock:
            until = self._remembered.links.pop(_digest(token), 0)
            if until:
                self._save()
        now = self._clock.now_us()
        return self._cookie_value(now) if until > now else None

    def sign_in(self, credential: str) -> str | None:
        """The cookie's value for a one-time token or the admin password; None where it is neither.

        Raises StateError after too many wrong ones.
        """
        now = self._clock.now_us()
        if (value := self.open_link(credential)) is not None:
            return value
        with self._lock:
            self._wrong = [at for at in self._wrong if at > now - _GUESS_WINDOW_US]
            if len(self._wrong) >= _GUESSES:
                raise StateError("too many wrong sign-ins", hint="wait a minute", code="too_many_attempts")
            self._wrong.append(now)
        if not check_password(self._password, credential):
            return None
        with self._lock:
            self._wrong.clear()
        return self._cookie_value(now)

    def passing(self) -> str:
        """A cookie's value for one request of a program that showed the admin token; never sent to anybody."""
        return self._cookie_value(self._clock.now_us())

    def session(self, cookies: dict[str, str]) -> Session | None:
        """The session of a request's cookies; None where there is none, it has ended or is forged."""
        value = cookies.get(self.cookie, "")
        claims = self._claims(value)
        if claims is None or claims.until_us <= self._clock.now_us() or claims.nonce in self._remembered.ended:
            return None
        kind, _, name = claims.actor.partition(":")
        return Session(actor=Actor(type=kind, id=name), csrf=self._sign("csrf", value))

    @staticmethod
    def check_csrf_token(expected: str, shown: str) -> bool:
        """Whether `shown` is the session's own CSRF token."""
        return hmac.compare_digest(expected.encode(), shown.encode())

    def sign_out(self, cookies: dict[str, str]) -> str:
        """End the session of these cookies everywhere; the cookie's name, to be deleted."""
        claims = self._claims(cookies.get(self.cookie, ""))
        if claims is not None:
            with self._lock:
                self._remembered.ended[claims.nonce] = claims.until_us
                self._save()
        return self.cookie

    # --- signatures

    def _cookie_value(self, now_us: int) -> str:
        claims = _Claims(actor="person:admin", until_us=now_us + SESSION_S * 1_000_000, nonce=secrets.token_hex(16))
        body = base64.urlsafe_b64encode(msgspec.json.encode(claims)).decode().rstrip("=")
        return f"{body}.{self._sign('session', body)}"

    def _claims(self, value: str) -> _Claims | None:
        body, _, signature = value.partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign("session", body).encode()):
            return None
        return msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=_Claims)

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.digest(self._secret.session_key, f"{purpose}:{text}".encode(), "sha256").hex()

    def _save(self) -> None:
        now = self._clock.now_us()
        kept = self._remembered
        kept.links = {key: until for key, until in kept.links.items() if until > now}
        kept.ended = {key: until for key, until in kept.ended.items() if until > now}
        write_private(self._file, kept)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _remembered(path: Path) -> _Remembered:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Remembered)
    except FileNotFoundError:
        return _Remembered()
    except (OSError, msgspec.DecodeError) as error:
        raise StoreError(
            f"the sessions file cannot be read: {error}", where=str(path), hint="delete it: everybody signs in again"
        ) from error


def set_password(folder: Path, password: str) -> None:
    """Keep the admin password as a salted scrypt hash; Unauthorized where it is too short to guard anything."""
    if len(password) < 12:
        raise Unauthorized("the admin password is shorter than 12 characters", hint="choose a longer one")
    salt = secrets.token_bytes(16)
    write_private(folder / "admin_password", {"salt": salt.hex(), "scrypt": _scrypt(password, salt).hex()})


def check_password(path: Path, password: str) -> bool:
    """Whether `password` is the one kept at `path`; False where none is kept."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return False
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(kept["salt"])), bytes.fromhex(kept["scrypt"]))


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, dklen=32, **_SCRYPT)
