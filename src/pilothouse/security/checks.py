"""Is a candidate what it looks like? Checksums, number plans and entropy, so that few findings are false.

Every check takes the text as bytes and the candidate's span, and returns the span of the finding, which may be
shorter, or None.
"""

import ipaddress
import math
from collections import Counter
from collections.abc import Callable

Span = tuple[int, int]
Confirm = Callable[[bytes, int, int], Span | None]

_DIGITS = frozenset(b"0123456789")
_WORD = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
# ISO 13616 lengths by country.
_IBAN = {
    code: int(length)
    for length, codes in {
        "15": "NO", "16": "BE", "18": "DK FI FO GL NL SD", "19": "MK SI", "20": "AT BA EE KZ LT LU XK MN",
        "21": "CH HR LI LV", "22": "BG BH CR DE GB GE IE ME RS VA", "23": "AE GI IL IQ OM SO TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG", "25": "LY PT ST", "26": "IS TR", "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HU LB NI PL SV", "29": "BR EG PS QA UA", "30": "JO KW MU YE", "31": "MT SC",
        "32": "LC", "33": "RU",
    }.items()
    for code in codes.split()
}  # fmt: skip
_FILE_ENDINGS = (b".png", b".jpg", b".jpeg", b".gif", b".svg", b".webp", b".css", b".js", b".ts", b".json")
# What stands where a secret would, in examples, templates and references.
_STAND_INS = (
    b"env://", b"file://", b"vault://", b"${", b"$", b"%", b"os.environ", b"process.env", b"getenv", b"config.",
    b"settings.", b"self.", b"your", b"example", b"changeme", b"placeholder", b"redacted", b"undefined", b"optional",
    b"required", b"secretstr", b"xxxx", b"****", b"....",
)  # fmt: skip


def digits(value: bytes) -> bytes:
    """Only the digits: how a number is compared, however it was grouped."""
    return bytes(c for c in value if c in _DIGITS)


def alphanumeric(value: bytes) -> bytes:
    """Without spaces and marks."""
    return bytes(c for c in value if c in _WORD)


def luhn(number: bytes) -> bool:
    """ISO/IEC 7812-1 check digit."""
    total = 0
    for place, c in enumerate(reversed(number)):
        digit = c - 48
        if place % 2:
            digit = digit * 2 - 9 if digit > 4 else digit * 2
        total += digit
    return total % 10 == 0


def entropy(value: bytes) -> float:
    """Shannon entropy in bits per byte."""
    n = len(value)
    return -sum(k / n * math.log2(k / n) for k in Counter(value).values()) if n else 0.0


def credit_card(data: bytes, start: int, end: int) -> Span | None:
    """13 to 19 digits with a valid check digit; a security code or year behind the number is left out."""
    if _in_longer_number(data, start, end):
        return None
    while end > start:
        number = digits(data[start:end])
        if len(number) < 13:
            return None
        if len(set(number)) > 1 and luhn(number):
            return start, end
        cut = max(data.rfind(b" ", start, end), data.rfind(b"-", start, end))
        end = cut if cut > 0 else start
    return None


def _in_longer_number(data: bytes, start: int, end: int) -> bool:
    """Whether the span is the middle of a decimal number, a date or a longer group of digits."""
    before = start > 1 and data[start - 1] in b".-" and data[start - 2] in _DIGITS
    after = end + 1 < len(data) and data[end] in b".-" and data[end + 1] in _DIGITS
    return before or after


def iban(data: bytes, start: int, end: int) -> Span | None:
    """The country's length, and ISO 7064 mod 97 = 1."""
    want = _IBAN.get(data[start : start + 2].decode("ascii", "replace"))
    if want is None:
        return None
    seen, at = bytearray(), start
    while at < end and len(seen) < want:
        if data[at] != 0x20:
            seen.append(data[at])
        at += 1
    if len(seen) < want or (at < len(data) and data[at] in _WORD):
        return None
    moved = (seen[4:] + seen[:4]).decode("ascii")
    return (start, at) if int("".join(str(int(c, 36)) for c in moved)) % 97 == 1 else None


def ssn(data: bytes, start: int, end: int) -> Span | None:
    """Areas 000, 666 and 9xx, group 00 and serial 0000 were never issued."""
    number = digits(data[start:end])
    area, group, serial = number[:3], number[3:5], number[5:]
    if area in (b"000", b"666") or area[:1] == b"9" or group == b"00" or serial == b"0000":
        return None
    return None if _in_longer_number(data, start, end) else (start, end)


def ipv4(data: bytes, start: int, end: int) -> Span | None:
    """Not loopback, unspecified or broadcast, and not a piece of a longer dotted number such as an OID."""
    if _in_longer_number(data, start, end):
        return None
    if data[max(0, start - 8) : start].lower().endswith((b"version ", b"version=", b"release ")):
        return None
    address = data[start:end]
    return None if address.startswith((b"127.", b"0.")) or address == b"255.255.255.255" else (start, end)


def ipv6(data: bytes, start: int, end: int) -> Span | None:
    """A valid address that holds a digit (C++ and Rust paths hold none) and is not loopback."""
    if end < len(data) and (data[end] in _WORD or (data[end] == 0x3A and data[end + 1 : end + 2].strip())):
        return None  # a colon before a space ends a sentence's part, not the address
    text = data[start:end].decode("ascii")
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    if address.is_loopback or address.is_unspecified or not any(c.isdigit() for c in text):
        return None
    return start, end


def phone(data: bytes, start: int, end: int) -> Span | None:
    """7 to 15 digits (E.164), not all alike, and not the beginning of a longer number or a date."""
    if end < len(data) and (data[end] in _WORD or _in_longer_number(data, start, end)):
        return None
    number = digits(data[start:end])
    if not 7 <= len(number) <= 15 or len(set(number)) < 3:
        return None
    if number[:2] in (b"19", b"20") and data[start + 4 : start + 5] == b"-" and data[start + 7 : start + 8] == b"-":
        return None  # an ISO date
    return start, end


def email(data: bytes, start: int, end: int) -> Span | None:
    """Not a file name (`icon@2x.png`) and not the user that Git servers share."""
    text = data[start:end].lower()
    lead = len(text) - len(text.lstrip(b".'%+-"))
    if text.endswith(_FILE_ENDINGS) or text.startswith(b"git@", lead):
        return None
    return (start + lead, end) if text[lead : lead + 1] != b"@" else None


def _stand_in(value: bytes) -> bool:
    low = value.lower()
    if low.startswith(_STAND_INS) or b"example" in low or len(set(low)) < 4:
        return True
    return any(word in low for word in (b"your_", b"your-", b"_your", b"-your"))


def password_of_url(data: bytes, start: int, end: int) -> Span | None:
    """The password in `scheme://user:password@host`, unless it is a variable."""
    value = data[start:end]
    return None if value.startswith((b"$", b"{", b"%(", b"***")) else (start, end)


def password(data: bytes, start: int, end: int) -> Span | None:
    """A word after `password:` that is not prose: it holds a digit, or a mark or capital within."""
    end = start + len(data[start:end].rstrip(b".!?:&"))
    value = data[start:end]
    if len(value) < 6 or _stand_in(value):
        return None
    mixed = any(c in _DIGITS for c in value) or any(c in b"!#$%^&*+@~|?=_" for c in value)
    return (start, end) if mixed or value[1:].lower() != value[1:] else None


def random_looking(data: bytes, start: int, end: int) -> Span | None:
    """Random characters rather than words: digits and letters with at least 3 bits of entropy a byte."""
    value = data[start:end]
    if _stand_in(value) or not any(c in _DIGITS for c in value) or value.replace(b".", b"").isdigit():
        return None
    return (start, end) if entropy(value) >= 3.0 else None
