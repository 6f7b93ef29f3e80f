"""AWS Signature Version 4 for one request. Source: AWS IAM User Guide, "Create a signed AWS API request"."""

import hashlib
import hmac
import urllib.parse
from datetime import UTC, datetime

import msgspec

_ALGORITHM = "AWS4-HMAC-SHA256"


class Credentials(msgspec.Struct, frozen=True):
    """An access key; `token` of temporary ones."""

    access_key: str
    secret_key: str
    token: str = ""


class Scope(msgspec.Struct, frozen=True):
    """What a signature is for."""

    region: str
    service: str


class Signable(msgspec.Struct, frozen=True):
    """The request. `headers` are signed beside host, date and token."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes


def signed(request: Signable, keys: Credentials, scope: Scope, now_us: int) -> list[tuple[str, str]]:
    """The headers to add: date, token, authorization."""
    moment = datetime.fromtimestamp(now_us / 1e6, UTC)
    stamp, day = moment.strftime("%Y%m%dT%H%M%SZ"), moment.strftime("%Y%m%d")
    parts = urllib.parse.urlsplit(request.url)
    added = [("x-amz-date", stamp)]
    if keys.token:
        added.append(("x-amz-security-token", keys.token))
    covered = sorted(
        (name.lower(), " ".join(value.split())) for name, value in [("host", _host(parts)), *request.headers, *added]
    )
    names = ";".join(name for name, _ in covered)
    canonical = "\n".join(
        [
            request.method,
            _path(parts.path),
            _query(parts.query),
            *(f"{name}:{value}" for name, value in covered),
            "",
            names,
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    reach = f"{day}/{scope.region}/{scope.service}/aws4_request"
    text = "\n".join([_ALGORITHM, stamp, reach, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + keys.secret_key.encode()
    for word in (day, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    value = f"{_ALGORITHM} Credential={keys.access_key}/{reach}, SignedHeaders={names}, Signature={signature}"
    return [*added, ("authorization", value)]


def _host(parts: urllib.parse.SplitResult) -> str:
    port = parts.port
    usual = port is None or (parts.scheme, port) in (("https", 443), ("http", 80))
    return (parts.hostname or "") if usual else f"{parts.hostname}:{port}"


def _path(path: str) -> str:
    """The path as it is sent, percent-encoded once more, as every service but S3 wants it."""
    return urllib.parse.quote(path or "/", safe="/-_.~")


def _query(query: str) -> str:
    pairs = sorted(
        (urllib.parse.quote(name, safe="-_.~"), urllib.parse.quote(value, safe="-_.~"))
        for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True)
    )
    return "&".join(f"{name}={value}" for name, value in pairs)
