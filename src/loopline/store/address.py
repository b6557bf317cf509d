"""Addresses that may be shown: a password in a URL never reaches a message, a log or a page."""

from __future__ import annotations

import re

_USER_PART = re.compile(r"(://[^/@:\s]*):[^@/\s]*@")
_LOOSE_USER_PART = re.compile(r"(://[^:/\s]*):.*@")
_QUERY = re.compile(r"([?&](?:password|passwd|pwd|token|secret|key|sslpassword)=)[^&\s]*", re.I)


def shown(url: str) -> str:
    """`url` with passwords and tokens blanked.

    >>> shown("postgresql://ann:se:cr/et@db/x?password=y")
    'postgresql://ann:***@db/x?password=***'
    >>> shown("/data/store")
    '/data/store'
    """
    text = _USER_PART.sub(r"\1:***@", url)
    text = _LOOSE_USER_PART.sub(r"\1:***@", text)
    return _QUERY.sub(r"\1***", text)
