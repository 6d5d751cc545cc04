# SPDX-License-Identifier: Apache-2.0
"Bytes that are not shown by accident."

from __future__ import annotations

import hmac
from typing import Any, NoReturn

Octets = bytes | bytearray | memoryview


class Secret:
    """Secret bytes. `reveal` returns them. Text, logs, JSON, copies and pickles do not have them.

    `wipe` overwrites this copy, and so does the end of a `with` block. Python may have made others
    on the way, which a program cannot overwrite. What was wiped is refused, so that no program takes
    it for an empty key.
    """

    __slots__ = ("_bytes", "_wiped")
    __hash__ = None  # type: ignore[assignment]  # a dictionary would compare them in other time

    def __init__(self, octets: Octets) -> None:
        self._bytes, self._wiped = bytearray(octets), False

    def _held(self) -> bytearray:
        if self._wiped:
            raise ValueError("this Secret was wiped")
        return self._bytes

    def reveal(self) -> bytes:
        """Returns the bytes. What the caller makes of them is the caller's to hide. It raises a
        ValueError if the secret was wiped.
        """
        return bytes(self._held())

    def wipe(self) -> None:
        """Overwrites the bytes, and forgets them."""
        self._wiped = True
        self._bytes[:] = bytes(len(self._bytes))
        self._bytes.clear()

    def __len__(self) -> int:
        return len(self._bytes)

    def __repr__(self) -> str:
        return f"<Secret of {len(self._bytes)} bytes>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        if self._wiped or other._wiped:
            return False
        return hmac.compare_digest(self._bytes, other._bytes)

    def __enter__(self) -> Secret:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __reduce_ex__(self, _: Any) -> NoReturn:
        raise TypeError("a Secret is neither copied nor pickled: use reveal()")
