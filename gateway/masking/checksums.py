"""What the form of a value can't say: checksums and randomness; pure functions on text."""

from collections import Counter
from math import log2
from typing import Final

_IBAN_LENGTHS: Final = {
    code: int(length)
    for length, codes in {
        "15": "NO", "16": "BE", "18": "DK FI FO GL NL SD", "19": "MK SI",
        "20": "AT BA EE KZ LT LU MN XK", "21": "CH HR LI LV", "22": "BG BH CR DE GB GE IE ME RS VA",
        "23": "AE GI IL IQ OM SO TL", "24": "AD CZ ES MD PK RO SA SE SK TN VG", "25": "LY PT ST",
        "26": "IS TR", "27": "BI DJ FR GR IT MC MR SM", "28": "AL AZ BY CY DO GT HU LB NI PL SV",
        "29": "BR EG PS QA UA", "30": "JO KW MU YE", "31": "MT SC", "32": "LC", "33": "RU",
    }.items()
    for code in codes.split()
}  # fmt: skip
"""Characters of an IBAN by country; source: the registry that SWIFT keeps for ISO 13616."""


def luhn(text: str) -> int:
    """Return the length of `text` if its digits pass the Luhn check (ISO/IEC 7812-1), else 0."""
    digits = [int(character) for character in text if character in "0123456789"]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    is_valid = len(digits) > 1 and (sum(digits[::-2]) + sum(doubled)) % 10 == 0
    return len(text) if is_valid else 0


def iban(text: str) -> int:
    """Return how far an IBAN with a valid check (ISO 13616, modulo 97) reaches in `text`, or 0."""
    size = _IBAN_LENGTHS.get(text[:2], 0)
    places = [place for place, character in enumerate(text) if character != " "][:size]
    if not size or len(places) < size:
        return 0
    characters = "".join(text[place] for place in places)
    if not (characters.isascii() and characters.isalnum()):
        return 0
    number = int("".join(str(int(character, 36)) for character in characters[4:] + characters[:4]))
    return places[-1] + 1 if number % 97 == 1 else 0


CHECKS: Final = {"luhn": luhn, "iban": iban}
"""By name: how many characters of a match are valid; 0 if it is none."""


def entropy(text: str) -> float:
    """Return the bits per character of `text`, from how often each occurs in it (Shannon)."""
    size = len(text)
    return -sum(n / size * log2(n / size) for n in Counter(text).values())
