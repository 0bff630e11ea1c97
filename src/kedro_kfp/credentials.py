"""What looks like a credential: the name of a variable or key, and a user and password inside a URL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_NAME = re.compile(
    r"(?i)password|passwd|passphrase|"
    r"(^|_)(secrets?|token|credentials?|(access|account)_key(_id)?|api_?key|private_?key|auth)(_|$)"
)
_KNOWN = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\beyJ[\w-]+\.[\w-]+\.|"
    r"\b(gh[pousr]_|hf_|glpat-|xox[abp]-|sk-)[\w-]{16,}|"
    r"(?i:(password|passwd|secret|token|(access|account|api)_?key)\s*[=:]\s*\S)"
)
# up to the last @, for a secret may hold slashes and more
_IN_URL = re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^\s/@:]*:[^\s@]*@")
_VALUE = re.compile(r'("(?P<key>[^"\\]+)"\s*:\s*)"(?:[^"\\]|\\.)*"')


def is_secret_name(name: str) -> bool:
    """Whether a variable or key of that name would hold a credential."""
    return bool(_NAME.search(name))


def passwords(tree: Any, where: str = "") -> Iterator[str]:
    """Dotted places in a tree of dictionaries and lists, at which a URL carries a user and a password."""
    if isinstance(tree, str) and _IN_URL.search(tree):
        yield where
    elif isinstance(tree, Mapping | list | tuple):
        for key, one in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from passwords(one, f"{where}.{key}" if where else str(key))


def holds_credential(value: str) -> bool:
    """Whether a value has the form of a credential: a URL or text with a password, a private key, a known token."""
    return bool(_IN_URL.search(value) or _KNOWN.search(value))


def redacted(text: str) -> str:
    """The text with stars for passwords in URLs, and for JSON texts under a key that is called like a credential."""
    told = _IN_URL.sub(r"\1***@", text)
    return _VALUE.sub(lambda found: found[1] + '"***"' if is_secret_name(found["key"]) else found[0], told)
