"""Addresses (URLs) of photos, in the place of paths."""

import re
from pathlib import Path
from typing import Any

SCHEMES = ("http", "https")
"""Schemes of addresses that are downloaded."""

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)

NOT_ALLOWED = "an address: to download photos, add --allow-url (in Python: allow_url=True)"


class Address(type(Path())):  # type: ignore[misc]  # the system's kind of path
    """The address of a photo, where a path is expected: results and records name it unchanged.

    A plain path would make one slash of two.

    Example:
        >>> str(Address("https://example.org//a/b.jpg?size=2")), str(Path("https://example.org/a"))
        ('https://example.org//a/b.jpg?size=2', 'https:/example.org/a')
    """

    __slots__ = ("url",)

    def __new__(cls, url: str) -> "Address":
        """Make the address of a text."""
        made: Address = super().__new__(cls, url)
        made.url = url
        return made

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> Any:
        return Address, (self.url,)


def scheme_of(name: str) -> str | None:
    """Return the scheme of an address in lower case; None for a path.

    Example:
        >>> scheme_of("HTTPS://example.org/a.jpg"), scheme_of("C:/a.jpg"), scheme_of("a.jpg")
        ('https', None, None)
    """
    found = _ADDRESS.match(name)
    return found[1].lower() if found else None


def refusal(name: str, *, allowed: bool) -> str | None:
    """Return why an address is not downloaded; None if it is.

    Args:
        name: An address.
        allowed: Whether the user asked for downloads.
    """
    scheme = scheme_of(name)
    if scheme not in SCHEMES:
        return f"an address of {scheme}://, which is not read; only http:// and https:// are"
    return None if allowed else NOT_ALLOWED
