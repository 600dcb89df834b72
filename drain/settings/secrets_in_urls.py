"""URLs as logs, errors and `config` show them: user names, passwords and keys are left out."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "(hidden)"

# To the last @: a password may hold any of the characters that end the host's part.
_CREDENTIALS: Final = re.compile(r"^([A-Za-z][\w+.-]*:/{0,3})?.*@", re.DOTALL)


def without_secrets(url: str) -> str:
    """Return a URL, or what was meant to be one, without its credentials and the values of its query.

    >>> without_secrets("https://me:pass@otel.example:4318/v1?key=k1&debug#top")
    'https://(hidden)@otel.example:4318/v1?key=(hidden)&(hidden)'
    """
    url, mark, query = _CREDENTIALS.sub(rf"\1{HIDDEN}@", url).partition("#")[0].partition("?")
    parts = (part.partition("=") for part in query.split("&"))
    return url + (mark and "?" + "&".join(f"{name}={HIDDEN}" if equals else HIDDEN for name, equals, _ in parts))
