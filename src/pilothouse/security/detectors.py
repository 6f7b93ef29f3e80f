"""What redaction and the scan look for: one row per kind of finding, most specific first.

Patterns are RE2 over bytes (UTF-8 read as Latin-1: they match ASCII only, so that every offset is a character's). RE2
has no look-behind, so a pattern that needs a boundary on its left spells it outside its one group, which is then the
finding. `confirm` narrows a candidate to the finding, or rejects it.

One automaton over all patterns says whether a text needs any work: 4 µs for a clean kilobyte, so that no prefilter by
keyword is needed. A second one says which patterns to run.
"""

import hmac
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import re2

from pilothouse.domain.errors import PilothouseError
from pilothouse.security import checks, national
from pilothouse.security.checks import Confirm, Span

_MEMORY = 32 << 20  # bytes per automaton: enough that it is not thrown away and rebuilt on long texts
_CANDIDATES = 20_000  # in one text; more is not prose but numbers without end, and would hold up the process


class Detector(msgspec.Struct, frozen=True):
    """`rule` is the row's stable name, `kind` the class that it counts under; `normalise` makes equals equal."""

    rule: str
    kind: str
    pattern: bytes
    confirm: Confirm | None = None
    normalise: Callable[[bytes], bytes] = bytes
    secret: bool = True

    def digest(self, salt: bytes, value: bytes) -> str:
        """64 hex characters that stand for `value` wherever it is found by any detector of this class."""
        return hmac.digest(salt, self.kind.encode() + b":" + self.normalise(value), "sha256").hex()


class Finding(msgspec.Struct, frozen=True):
    """Bytes `start` to `end` of the text are what `detector` looks for."""

    start: int
    end: int
    detector: Detector


def _token(rule: str, pattern: bytes, confirm: Confirm | None = None) -> Detector:
    return Detector(rule, "api_key", pattern, confirm)


def _personal(rule: str, kind: str, pattern: bytes, confirm: Confirm, normalise: Callable[[bytes], bytes]) -> Detector:
    return Detector(rule, kind, pattern, confirm, normalise, secret=False)


_PEM = rb"[A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
_LATIN = rb"[\xc3-\xca][\x80-\xbf]"  # letters with marks, as UTF-8
_TO_VALUE = rb"""\s*["']?\s*(?:[:=]|=>|:=)\s*["']?"""  # from a name to its value, in JSON, YAML, env files and code
_WORD = rb"""[^\s"'`,;(){}<>\[\]\\]"""
_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rb"(?:" + _OCTET + rb"\.){3}" + _OCTET
_H16 = rb"[0-9A-Fa-f]{1,4}"

_PHONE_NAMED = (
    r"(?i)(?:\b(?:t(?:e|é)l(?:(?:e|é)phone|efon[aoe]?|éfono)?|phone|mobil(?:e|nummer|telefon)?|cell|celular"
    r"|m(?:o|ó)vil|portable|rufnummer|fax|handy|whatsapp|call(?: (?:me|us))?(?: (?:at|on))?)"
    r"|電話|携帯|手机|手機|电话|联系方式)(?:[ _-]?(?:number|no|nr|is|番号|号码|號碼|号))?"
    r"[\"']?(?:[ .:=#]|：|は){0,3}[\"']?(\(?[0-9][0-9 ().-]{5,16}[0-9])\b"
).encode()

_PROVIDERS = (
    _token("pilothouse-key", rb"\bph_(?:dev|staging|prod)_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}\b"),
    _token("anthropic-key", rb"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    _token("openai-key", rb"\bsk-[A-Za-z0-9_-]{20,}", checks.random_looking),
    _token("aws-access-key", rb"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"),
    _token(
        "aws-secret-key",
        rb"(?i)\baws[a-z_. -]{0,20}(?:secret|key)[a-z_. -]{0,20}" + _TO_VALUE + rb"([A-Za-z0-9/+]{40})\b",
        checks.random_looking,
    ),
    _token(
        "aws-secret-key",
        rb"\b(?:AKIA|ASIA)[A-Z2-7]{16}[^A-Za-z0-9/+]{1,12}([A-Za-z0-9/+]{40})\b",
        checks.random_looking,
    ),
    _token("github-token", rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})"),
    _token("gitlab-token", rb"\bgl(?:pat|rt|cbt|ptt|dt|ft|oas|soat|imt|agent)-[A-Za-z0-9_.-]{20,}"),
    _token("slack-token", rb"\bxox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}|\bxapp-[0-9]-[A-Za-z0-9-]{10,}"),
    _token("slack-webhook", rb"\bhooks\.slack\.com/services/([A-Za-z0-9/]{20,})"),
    _token("google-key", rb"\bAIza[A-Za-z0-9_-]{35}|\bya29\.[A-Za-z0-9_-]{20,}|\bGOCSPX-[A-Za-z0-9_-]{28}"),
    _token("stripe-key", rb"\b[sr]k_(?:live|test)_[A-Za-z0-9]{10,}|\bwhsec_[A-Za-z0-9+/=]{20,}"),
    _token("npm-token", rb"\bnpm_[A-Za-z0-9]{36}\b"),
    _token("pypi-token", rb"\bpypi-[A-Za-z0-9_-]{50,}"),
    _token("huggingface-token", rb"\bhf_[A-Za-z0-9]{30,}\b"),
    _token(
        "model-provider-key",
        rb"\bgsk_[A-Za-z0-9]{40,}|\bxai-[A-Za-z0-9]{40,}|\bpplx-[A-Za-z0-9]{40,}|\br8_[A-Za-z0-9]{37,}",
    ),
    _token("sendgrid-key", rb"\bSG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}"),
    _token("digitalocean-token", rb"\bdo[por]_v1_[a-f0-9]{64}\b"),
    _token("telegram-token", rb"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}\b"),
    _token("langsmith-key", rb"\blsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}\b"),
    _token("twilio-key", rb"\bSK[a-f0-9]{32}\b"),
    _token("mailgun-key", rb"\bkey-[a-f0-9]{32}\b"),
    _token("databricks-token", rb"\bdapi[a-f0-9]{32}(?:-[0-9])?\b"),
    _token("shopify-token", rb"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b"),
    _token("square-token", rb"\bsq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,43}"),
    _token("atlassian-token", rb"\bATATT3[A-Za-z0-9_=-]{50,}"),
    _token("linear-key", rb"\blin_(?:api|oauth)_[A-Za-z0-9]{32,}\b"),
    _token("notion-token", rb"\bntn_[A-Za-z0-9]{40,}\b|\bsecret_[A-Za-z0-9]{43}\b"),
    _token("vault-token", rb"\bhv[sbr]\.[A-Za-z0-9_-]{24,}"),
    _token("grafana-token", rb"\bgl(?:sa|c)_[A-Za-z0-9+/]{32,}(?:_[a-f0-9]{8})?={0,2}"),
    _token("new-relic-key", rb"\bNRAK-[A-Z0-9]{27}\b"),
    _token("postman-key", rb"\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}\b"),
    _token("supabase-token", rb"\bsbp_[a-f0-9]{40}\b"),
    _token("terraform-token", rb"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}"),
    _token("doppler-token", rb"\bdp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9_.-]{40,}"),
    _token("age-key", rb"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b"),
)

_NAMED = (
    Detector("jwt", "jwt", rb"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"),
    Detector(
        "bearer-token",
        "bearer_token",
        rb"(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/-]{12,}=*)",
        checks.random_looking,
    ),
    Detector(
        "password",
        "credential",
        rb"(?i)(?:passwords?|passwd|pwd|passphrase|passcode)(?:"
        + _TO_VALUE
        + rb"""|["']?\s+(?:is|was|are)\s*:?\s*["']?)("""
        + _WORD
        + rb"{6,})",
        checks.password,
    ),
    Detector(
        "credential",
        "credential",
        rb"(?i)(?:secret|(?:api|access|private|account|encryption|signing)[_ -]?key|token|credential)[a-z_-]{0,12}"
        + _TO_VALUE
        + rb"("
        + _WORD
        + rb"{12,})",
        checks.random_looking,
    ),
)

_SAID = rb"""["']? ?(?:is|[:=#])? ?["']?"""
_NATIONAL = (
    ("uk-nino", rb"\b[ABCEGHJ-PRSTW-Z][ABCEGHJ-NPRSTW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]\b", national.nino),
    ("es-dni", rb"\b(?:[0-9]{8}|[XYZ]-?[0-9]{7})-?[A-HJ-NP-TV-Z]\b", national.dni),
    (
        "fr-nir",
        rb"\b[12] ?[0-9]{2} ?(?:0[1-9]|1[0-2]|[2-4][0-9]) ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}\b",
        national.nir,
    ),
    (
        "it-codice-fiscale",
        rb"\b[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-7][0-9][A-Z][0-9]{3}[A-Z]\b",
        national.codice_fiscale,
    ),
    ("br-cpf", rb"\b[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}\b", national.cpf),
    ("br-cpf", rb"(?i)\bcpf[\"']?(?: n[.o]*)? ?[:=#]? ?[\"']?([0-9]{11})\b", national.cpf),
    (
        "cn-resident",
        rb"\b[1-9][0-9]{5}(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx]\b",
        national.resident,
    ),
    ("pl-pesel", rb"(?i)\bpesel[\"']?(?: nr)? ?[:=#]? ?[\"']?([0-9]{11})\b", national.pesel),
    (
        "ca-sin",
        rb"(?i)\b(?:sin|social insurance(?: (?:number|no\.?))?)"
        + _SAID
        + rb"([1-9][0-9]{2}[ -]?[0-9]{3}[ -]?[0-9]{3})\b",
        national.sin,
    ),
)

_PERSONAL = (
    _personal(
        "email",
        "email",
        rb"((?:[A-Za-z0-9._%+'-]|" + _LATIN + rb")+(?:@|%40)(?:(?:[A-Za-z0-9-]|" + _LATIN + rb")+\.)+[A-Za-z]{2,24})\b",
        checks.email,
        lambda value: value.lower().replace(b"%40", b"@"),
    ),
    _personal(
        "iban",
        "iban",
        rb"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
        checks.iban,
        checks.alphanumeric,
    ),
    *(_personal(rule, "national_id", pattern, confirm, checks.alphanumeric) for rule, pattern, confirm in _NATIONAL),
    _personal(
        "credit-card",
        "credit_card",
        rb"(?:^|[^0-9A-Za-z_.])((?:[456][0-9]{3}|2[2-7][0-9]{2}|35[0-9]{2})[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{1,4}"
        rb"(?:[ -]?[0-9]{1,3})?|3[0-9]{3}[ -]?[0-9]{6}[ -]?[0-9]{4,5})\b",
        checks.credit_card,
        checks.digits,
    ),
    _personal("us-ssn", "ssn", rb"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", checks.ssn, checks.digits),
    _personal(
        "us-ssn",
        "ssn",
        rb"(?i)\b(?:ssn|social[ _-]security(?:[ _-](?:number|no\.?))?)[\"']?\s*(?:is|[:=#])?\s*[\"']?"
        rb"([0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{4})\b",
        checks.ssn,
        checks.digits,
    ),
    _personal(
        "ipv6",
        "ip",
        rb"(?:^|[^0-9A-Za-z:.])((?:" + _H16 + rb":){7}" + _H16 + rb"|(?:" + _H16 + rb":){1,6}(?::" + _H16 + rb"){1,6}"
        rb"|::(?:[Ff]{4}:)?" + _IPV4 + rb"|(?:" + _H16 + rb":){2,7}:)",
        checks.ipv6,
        bytes.lower,
    ),
    _personal("ipv4", "ip", rb"\b" + _IPV4 + rb"\b", checks.ipv4, bytes),
    _personal(
        "phone-international",
        "phone",
        rb"(?:^|[^0-9A-Za-z+.])((?:\+|00)[1-9][0-9]{0,2}[ ./-]?(?:\([0-9]{1,4}\)[ ./-]?)?[0-9]{1,5}"
        rb"(?:[ ./-]?[0-9]{2,5}){1,5})\b",
        checks.phone,
        checks.digits,
    ),
    _personal(
        "phone-france",
        "phone",
        rb"(?:^|[^0-9A-Za-z+.-])(0[1-9](?:(?: [0-9]{2}){4}|(?:\.[0-9]{2}){4}|(?:-[0-9]{2}){4}))\b",
        checks.phone,
        checks.digits,
    ),
    _personal(
        "phone-nanp",
        "phone",
        rb"(?:^|[^0-9A-Za-z+.-])((?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4})\b",
        checks.phone,
        checks.digits,
    ),
    _personal(
        "phone-named",
        "phone",
        _PHONE_NAMED,
        checks.phone,
        checks.digits,
    ),
)

DETECTORS: tuple[Detector, ...] = (
    Detector(
        "private-key",
        "private_key",
        rb"-----BEGIN " + _PEM + rb"(?:[A-Za-z0-9+/=\s:,.\\()]|-[A-Za-z0-9])*(?:-----END " + _PEM + rb")?",
    ),
    Detector(
        "connection-string",
        "connection_string",
        rb"\b[A-Za-z][A-Za-z0-9+.-]*:\\?/\\?/[^\s:/@\"'<>\\]*:([^\s@/\"'<>\\]+)@",
        checks.password_of_url,
    ),
    *_PROVIDERS,
    *_NAMED,
    *_PERSONAL,
)  # the order is the precedence where findings overlap
SECRETS = tuple(d for d in DETECTORS if d.secret)


def _compiled(pattern: bytes, options: Any) -> Any:
    return re2.compile(pattern, options)


_GROUP = re.compile(rb"(\\.|\[\^?(?:\\.|[^\]\\])*\])|\((?!\?)", re.DOTALL)  # in a class a parenthesis is itself


def _without_groups(pattern: bytes) -> bytes:
    """The pattern as a branch of an alternation: its flags scoped to it, its groups not captured."""
    flags, body = (b"(?i:", pattern[4:]) if pattern.startswith(b"(?i)") else (b"(?:", pattern)
    return flags + _GROUP.sub(lambda m: m[1] or b"(?:", body) + b")"


class Detectors:
    """Some rows of the table, compiled."""

    def __init__(self, rows: tuple[Detector, ...] = DETECTORS) -> None:
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.log_errors = False
        options.max_mem = _MEMORY
        self._rows = rows
        self._each = [_compiled(row.pattern, options) for row in rows]
        self._any = _compiled(b"|".join(_without_groups(row.pattern) for row in rows), options)
        self._which = re2.Set.SearchSet(options)
        for row in rows:
            self._which.Add(row.pattern)
        self._which.Compile()

    def suspects(self, data: bytes) -> bool:
        """Whether any pattern matches: cheap, and never wrong about a clean text."""
        return self._any.search(data) is not None

    def find(self, data: bytes, held: Iterable[Span] = ()) -> list[Finding]:
        """All findings outside of `held`, in order of their start, none overlapping. Raises `PilothouseError`."""
        if not self.suspects(data):
            return []
        # The set gives up with an empty answer when it runs out of memory: then every pattern is run.
        which = self._which.Match(data) or range(len(self._rows))
        found: list[Finding] = []
        taken = bytearray(len(data))  # 1 where a finding of a more specific row is, or a held span
        for start, end in held:
            taken[start:end] = b"\1" * (end - start)
        budget = _CANDIDATES
        for index in sorted(which):
            for start, end in self._spans(index, data):
                budget -= 1
                if budget < 0:
                    raise PilothouseError("redaction gave up: too many candidates in one text", code="redaction_failed")
                if start >= 0 and taken.find(1, start, end) < 0:
                    found.append(Finding(start, end, self._rows[index]))
                    taken[start:end] = b"\1" * (end - start)
        found.sort(key=lambda f: f.start)
        return found

    def _spans(self, index: int, data: bytes) -> Iterator[tuple[int, int]]:
        """Confirmed spans of one pattern; (-1, -1) for each rejected candidate, so that the caller can count."""
        pattern, confirm, at = self._each[index], self._rows[index].confirm, 0
        group = 1 if pattern.groups else 0
        while (match := pattern.search(data, at)) is not None:
            start, end = match.span(group)
            span = confirm(data, start, end) if confirm is not None else (start, end)
            if span is None:
                at = _resume(data, start, end)
                yield -1, -1
            else:
                at = max(span[1], at + 1)
                yield span


def _resume(data: bytes, start: int, end: int) -> int:
    """Where to look next after a rejected candidate: behind its first mark, since a finding may begin there."""
    for at in range(start + 1, end):
        if data[at] in b" -.:/\n":
            return at
    return max(end, start + 1)
