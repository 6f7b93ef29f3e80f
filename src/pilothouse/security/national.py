"""Numbers that a state gives to a person: each check follows its country's rule, so that few findings are false.

As in `checks`: the text as bytes and the candidate's span give the span of the finding, or None.
"""

from pilothouse.security.checks import Span, alphanumeric, digits, luhn

_DNI = b"TRWAGMYFPDXBNJZSQVHLCKE"
_RESIDENT = b"10X98765432"
_PESEL = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)
_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_NINO_NEVER = (b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ")


def nino(data: bytes, start: int, end: int) -> Span | None:
    """United Kingdom: some prefixes were never given."""
    prefix = data[start : start + 2]
    return None if prefix in _NINO_NEVER else (start, end)


def dni(data: bytes, start: int, end: int) -> Span | None:
    """Spain, DNI and NIE: the letter is the number modulo 23."""
    value = alphanumeric(data[start:end])
    number = value[:-1].translate(bytes.maketrans(b"XYZ", b"012"))
    return (start, end) if _DNI[int(number) % 23] == value[-1] else None


def nir(data: bytes, start: int, end: int) -> Span | None:
    """France: the last two digits are 97 less the number modulo 97. Corsica counts as 19 and 18."""
    value = alphanumeric(data[start:end]).replace(b"2A", b"19").replace(b"2B", b"18")
    return (start, end) if value.isdigit() and 97 - int(value[:13]) % 97 == int(value[13:]) else None


def codice_fiscale(data: bytes, start: int, end: int) -> Span | None:
    """Italy: the last letter is the sum of the others by their places."""
    total = 0
    for place, c in enumerate(data[start : end - 1].upper()):
        rank = c - 48 if c < 58 else c - 65
        total += rank if place % 2 else _ODD[rank]
    return (start, end) if total % 26 == data[end - 1 : end].upper()[0] - 65 else None


def cpf(data: bytes, start: int, end: int) -> Span | None:
    """Brazil: two check digits modulo 11."""
    number = digits(data[start:end])
    if len(set(number)) == 1:
        return None
    for length in (9, 10):
        rest = sum((c - 48) * (length + 1 - place) for place, c in enumerate(number[:length])) % 11
        if number[length] - 48 != (0 if rest < 2 else 11 - rest):
            return None
    return start, end


def resident(data: bytes, start: int, end: int) -> Span | None:
    """China (GB 11643): ISO 7064 mod 11-2 over 17 digits, a date of birth among them."""
    value = data[start:end].upper()
    rest = sum((c - 48) * pow(2, 17 - place, 11) for place, c in enumerate(value[:17])) % 11
    return (start, end) if _RESIDENT[rest] == value[17] else None


def pesel(data: bytes, start: int, end: int) -> Span | None:
    """Poland: a weighted check digit."""
    number = digits(data[start:end])
    total = sum((c - 48) * weight for c, weight in zip(number, _PESEL, strict=False))
    return (start, end) if (-total) % 10 == number[10] - 48 else None


def sin(data: bytes, start: int, end: int) -> Span | None:
    """Canada: Luhn's check digit."""
    number = digits(data[start:end])
    return (start, end) if luhn(number) and len(set(number)) > 1 else None
