"""What of a value may be said aloud: nothing secret, nobody's address, no number of a card."""

import re
from collections.abc import Mapping
from functools import lru_cache

SECRET_NAME = re.compile(
    r"secret|token|authorization|password|cookie|signature|credential|key|cvv|cvc|card_?number|iban|phone",
    re.IGNORECASE,
)
EMAIL = re.compile(
    r"[^\s@\"'<>()\[\]{},;:=&?#]{1,64}(?:@|%40)[^\s@\"'<>()\[\]{},;:=&?#/]+",
    re.IGNORECASE,
)
SIGN_IN = re.compile(r"(://)[^/?#\s]*@")
TELLTALE = re.compile("token|secret|key|password|signature|authorization|sig=|bearer|basic|whsec_")
# What stands between a name and its value in a query, a header, a line of a log, and JSON, which may be a text in JSON.
IS = r"[\\\"']{0,2}\s?[:=]\s?[\\\"']{0,2}"
SCHEME = r"(?:(?:bearer|basic|digest|token|apikey)\s+)?"
NAMED = re.compile(
    rf"((?:token|secret|key|password|signature|[?&;#]sig){IS}|authorization{IS}{SCHEME})[^&#\s\"'<>]+", re.IGNORECASE
)
CREDENTIAL = re.compile(r"((?i:bearer)\s+|(?i:basic)\s+(?=[a-z+/]*[A-Z0-9=])|whsec_)[^\s\"'<>,]+")
CLIENT_SECRET = re.compile(r"(inv_[0-9a-z]{26}(?:\.|%2[Ee]))[0-9a-f]{40}")

# As they are printed: without gaps, in fours, or in 4, 6 and 4 or 5. What is part of a longer word is an id.
CARD = re.compile(
    r"(?<![0-9A-Za-z])[2-6](?:\d{12,18}|\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{3}([ -])\d{6}\2\d{4,5})(?![0-9A-Za-z])"
)
SHORTEST_CARD = 13
LEAST_CARD, MOST_CARD = 10 ** (SHORTEST_CARD - 1), 10**19
DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def shown(name: str, value: object) -> object:
    """What may be said of it: nothing under a secret's name, and no text without what is secret in it."""
    if is_secret(name):
        return "[redacted]"
    if isinstance(value, str):
        return cleared(value)
    if isinstance(value, Mapping):
        return {key: shown(str(key), held) for key, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(name, held) for held in value]
    if isinstance(value, int) and LEAST_CARD <= value < MOST_CARD:
        return value if cleared(str(value)).isdigit() else "[card]"
    return value


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    return SECRET_NAME.search(name) is not None


def cleared(text: str) -> str:
    """Most texts hold none of it, and a look for a few words or characters tells so."""
    if "://" in text and "@" in text:
        text = SIGN_IN.sub(r"\1[redacted]@", text)
    if TELLTALE.search(text.lower()):
        text = NAMED.sub(r"\1[redacted]", CREDENTIAL.sub(r"\1[redacted]", text))
    if "inv_" in text:
        text = CLIENT_SECRET.sub(r"\1[redacted]", text)
    if "@" in text or "%40" in text:
        text = EMAIL.sub("[email]", text)
    if len(text) >= SHORTEST_CARD:
        text = CARD.sub(lambda found: "[card]" if adds_up(found[0]) else found[0], text)
    return text


def adds_up(number: str) -> bool:
    """By Luhn's sum, which the number of a card is made to fulfil (ISO/IEC 7812-1)."""
    digits = [int(digit) for digit in number if digit.isdigit()]
    return (sum(digits[-1::-2]) + sum(DOUBLED[digit] for digit in digits[-2::-2])) % 10 == 0
