# SPDX-License-Identifier: Apache-2.0
"""What goes over the socket: JSON with bytes in base64, read strictly.

A value has a kind: "text", "bytes", "digest" (32 bytes), "secret", "flag", "number",
("integer", most), ("list", kind), or ("object", class in agentd.types).
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, ClassVar, NamedTuple, TypeVar, cast
from urllib.parse import quote, urlencode

from ._errors import BadAnswer
from ._secret import Secret

Kind = Any  # a name, or a tuple of a name and what it is of


class Member(NamedTuple):
    """One member of an object, or one parameter of an operation."""

    python: str
    wire: str
    kind: Kind
    required: bool
    place: str = ""  # "path", "query" or "body"


class Members:
    """An object of the API. MEMBERS says how it is read and written."""

    MEMBERS: ClassVar[tuple[Member, ...]] = ()
    classes: ClassVar[dict[str, type[Members]]] = {}

    def __init_subclass__(cls) -> None:
        Members.classes[cls.__name__] = cls


class Operation(NamedTuple):
    """What an operation is called by, and its limits."""

    name: str
    method: str
    path: str
    socket: str  # "client", "admin" or "both"
    seconds: float  # after which the agent gives up
    limit: int  # bytes of an answer
    members: tuple[Member, ...]


T = TypeVar("T", bound=Members)


class Caller:
    """What the generated methods call."""

    def _raw(self, operation: Operation, values: dict[str, Any], timeout: float | None) -> bytes:
        raise NotImplementedError

    def _answer(self, of: type[T], operation: Operation, values: dict[str, Any], timeout: float | None) -> T:
        raise NotImplementedError


# Requests.


def request(operation: Operation, values: dict[str, Any]) -> tuple[str, bytearray | None]:
    """Returns path with query, and body, of a request."""
    path, query, body = operation.path, {}, {}
    for m in operation.members:
        value = values.get(m.python)
        if value is None:
            if m.required:
                raise TypeError(f"{m.python} is required")
            continue
        encoded = encode(m.kind, value, m.python)
        if m.place == "path":
            path = path.replace("{" + m.wire + "}", quote(str(encoded), safe=""))
        elif m.place == "query":
            query[m.wire] = str(encoded)
        else:
            body[m.wire] = encoded
    if query:
        path += "?" + urlencode(query, quote_via=quote)
    if not any(m.place == "body" for m in operation.members):
        return path, None
    return path, bytearray(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


def encode(kind: Kind, value: Any, where: str) -> Any:
    """Returns a value as JSON has it. It refuses a value of another type."""
    name, of = kind if isinstance(kind, tuple) else (kind, None)
    if name in ("bytes", "digest", "secret"):
        if isinstance(value, Secret) and name == "secret":
            return base64.b64encode(value._held()).decode()
        if isinstance(value, (bytes, bytearray, memoryview)):
            return base64.b64encode(value).decode()
    elif name == "text" and isinstance(value, str):
        return str(value)
    elif name == "flag" and isinstance(value, bool):
        return value
    elif name == "integer" and type(value) is int and 0 <= value <= of:
        return value
    elif name == "list" and isinstance(value, (list, tuple)):
        return [encode(of, v, where) for v in value]
    elif name == "object" and type(value) is Members.classes.get(of):
        pairs = ((m, getattr(value, m.python)) for m in value.MEMBERS)
        return {m.wire: encode(m.kind, v, f"{where}.{m.python}") for m, v in pairs if v is not None}
    # The value itself may be a secret.
    raise TypeError(f"{where} is a {type(value).__name__}, or out of range: want {name} {of or ''}".rstrip())


# Answers.


# Values in an answer. Each takes some hundred bytes of memory, so that lists of empty lists would take
# forty times the size of the answer.
MOST = 1 << 19


def load(octets: bytes | bytearray) -> Any:
    """Returns the JSON of an answer. It refuses members given twice, and numbers that JSON lacks."""
    if sum(octets.count(c) for c in b"[{,") > MOST:
        raise BadAnswer(f"the answer has more than {MOST} values")
    # A JSONDecodeError has the whole text, which may contain a secret. So it must not become the
    # context of the exception that the caller sees.
    try:
        return json.loads(octets.decode(), object_pairs_hook=_once, parse_constant=_refuse)
    except RecursionError:
        why = "it is nested too deep"
    except ValueError as e:  # JSONDecodeError and UnicodeDecodeError, too
        why = e.msg if isinstance(e, json.JSONDecodeError) else "it is not UTF-8, or has a member twice"
    raise BadAnswer(f"the answer is not JSON: {why}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError
    return out


def _refuse(_: str) -> Any:
    raise ValueError


def decode(of: type[T], value: Any) -> T:
    """Returns an object of the API. Members that this version does not know are ignored."""
    return cast(T, _value(("object", of.__name__), value, of.__name__))


def members(of: type[Members], value: Any, where: str) -> dict[str, Any]:
    """Returns the members of an object, by their names in Python."""
    if not isinstance(value, dict):
        raise BadAnswer(f"{where} is not an object")
    out = {}
    for m in of.MEMBERS:
        if m.wire in value:
            out[m.python] = _value(m.kind, value[m.wire], f"{where}.{m.wire}")
        elif m.required:
            raise BadAnswer(f"{where} has no member {m.wire}")
    return out


def _value(kind: Kind, value: Any, where: str) -> Any:
    name, of = kind if isinstance(kind, tuple) else (kind, None)
    if name == "object":
        cls = Members.classes[of]
        return cls(**members(cls, value, where))
    if name == "list" and isinstance(value, list):
        return [_value(of, v, where) for v in value]
    if name == "flag" and isinstance(value, bool):
        return value
    if name == "integer" and type(value) is int and 0 <= value <= of:
        return value
    if name == "number" and type(value) in (int, float):
        return float(value)
    if isinstance(value, str):
        if name == "text" and not any("\ud800" <= c <= "\udfff" for c in value):
            return value
        if name in ("bytes", "digest", "secret"):
            octets = _octets(value)
            if octets is not None and (name != "digest" or len(octets) == 32):
                return Secret(octets) if name == "secret" else octets
    raise BadAnswer(f"{where} is not of kind {name}")


def _octets(text: str) -> bytes | None:
    """Returns the bytes of canonical base64."""
    try:
        octets = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except ValueError:
        return None
    return octets if base64.b64encode(octets).decode() == text else None
