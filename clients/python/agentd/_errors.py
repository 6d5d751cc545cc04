# SPDX-License-Identifier: Apache-2.0
"""The exceptions. All are an AgentdError, with `code`, `title` and `hint`.

Those of the library itself have codes that the agent does not use: `unreachable`, `timed-out`,
`bad-answer`.
"""

from __future__ import annotations

from typing import Any

from .codes import KNOWN


class AgentdError(Exception):
    """Something that was asked of the agent failed."""

    code: str = ""  # what programs act on
    title: str = ""  # the same for each error with this code
    hint: str = ""  # what to do, for people

    def __init__(self, detail: str, hint: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if hint is not None:
            self.hint = hint

    def __str__(self) -> str:
        return f"{self.detail} ({self.hint})" if self.hint else self.detail


class Unreachable(AgentdError):
    """No connection to the agent, or it broke before an answer came."""

    code = "unreachable"
    title = "Agent cannot be reached"


class TimedOut(AgentdError, TimeoutError):
    """The time for the call was over before the answer was complete."""

    code = "timed-out"
    title = "No answer in time"
    hint = "give the call more time; evidence can take more than a minute when the host delays reports"


class BadAnswer(AgentdError):
    """What came is not an answer of agentd: too long, cut off, or of another form."""

    code = "bad-answer"
    title = "Not an answer of agentd"
    hint = "is another program listening on this socket?"


class Problem(AgentdError):
    """A refusal of the agent (RFC 9457). Its subclasses say what kind of refusal."""

    def __init__(self, members: dict[str, Any]) -> None:
        self.code = members["code"]
        _, known, hint = KNOWN.get(self.code, ("", "", ""))
        self.title = known or members["title"]
        self.status: int = members["status"]
        self.type: str = members["type"]
        self.where: str | None = members.get("where")  # JSON Pointer, or name of the parameter at fault
        self.offset: int | None = members.get("offset")  # byte of the body near which reading ended
        self.retry_after: int | None = members.get("retry_after")  # seconds
        super().__init__(members.get("detail") or self.title, hint)

    def __str__(self) -> str:
        where = f" at {self.where}" if self.where else ""
        return f"{self.code}{where}: {super().__str__()}"


class Misuse(Problem):
    """The request is at fault, or the failure has no other kind."""


class NotPermitted(Problem):
    """Not allowed to this caller."""


class Unavailable(Problem):
    """Agent or device is not available now. If `retry_after` is set, the same request may succeed then."""


class Sealed(Problem):
    """A sealed secret cannot be opened as the machine is."""


class Forged(Problem):
    """A signature or binding is broken."""


_CLASSES = {c.__name__: c for c in (Misuse, NotPermitted, Unavailable, Sealed, Forged)}


def problem(members: dict[str, Any]) -> Problem:
    """Returns the exception of a refusal. A code of a later version has the class of its status."""
    name = KNOWN.get(members["code"], ("", "", ""))[0]
    if not name:
        status = members["status"]
        name = "NotPermitted" if status == 403 else "Unavailable" if status == 429 or status >= 500 else "Misuse"
    return _CLASSES[name](members)
