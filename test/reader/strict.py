# SPDX-License-Identifier: Apache-2.0
"""Strict decoding: docs/evidence.md, section 2.

A schema is a tree of Text, Word, Bytes, Int, Bool, List and Obj. It decodes a JSON value and can
spell it again, as the records of the measurement log demand.
"""
import base64
import binascii
import json
import re

SAFE = 2**53 - 1

# The characters that text must not contain, as section 2 lists them.
HIDDEN = """
0000-001F 007F-00A0 00AD 034F 0600-0605 061C 06DD 070F 0890-0891 08E2 115F-1160 1680 17B4-17B5
180B-180F 2000-200F 2028-202F 205F-206F 2800 3000 3164 FE00-FE0F FEFF FFA0 FFF0-FFFB 110BD 110CD
13430-1343F 13441-13442 16FE4 1BCA0-1BCA3 1D159 1D173-1D17A E0000-E0FFF D800-DFFF
"""
_ranges = [part.split("-") for part in HIDDEN.split()]
_hidden = re.compile("[" + "".join(f"\\U{int(r[0], 16):08x}-\\U{int(r[-1], 16):08x}" for r in _ranges) + "]")


class Refused(Exception):
    """Refused is raised for input that breaks a rule; the text says which."""


def need(condition, why):
    """need refuses the input unless condition holds."""
    if not condition:
        raise Refused(why)


class Text:
    """Text is any text of low to high bytes without hidden characters."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def decode(self, value):
        need(isinstance(value, str), "not a text")
        need(not _hidden.search(value), "text with a hidden character")
        need(self.low <= len(value.encode()) <= self.high, "text too short or too long")
        return value

    def spell(self, value):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Word(Text):
    """Word is one of the given words."""

    def __init__(self, *words):
        self.words = words

    def decode(self, value):
        need(isinstance(value, str) and value in self.words, "not one of the given words")
        return value


class Bytes:
    """Bytes is canonical base64 of low to high bytes."""

    def __init__(self, low, high=None):
        self.low, self.high = low, low if high is None else high

    def decode(self, value):
        need(isinstance(value, str), "not a byte string")
        need(len(value) <= (self.high + 2) // 3 * 4, "byte string too long")
        try:
            decoded = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as why:
            raise Refused("not base64") from why
        need(base64.b64encode(decoded).decode() == value, "base64 is not canonical")
        need(self.low <= len(decoded) <= self.high, "byte string too short or too long")
        return decoded

    def spell(self, value):
        return '"' + base64.b64encode(value).decode() + '"'


class Int:
    """Int is an integer from low to high."""

    def __init__(self, low=0, high=SAFE):
        self.low, self.high = low, high

    def decode(self, value):
        need(type(value) is int, "not an integer")
        need(self.low <= value <= self.high, "integer out of range")
        return value

    def spell(self, value):
        return str(value)


class Bool:
    """Bool is true or false."""

    def decode(self, value):
        need(isinstance(value, bool), "not true or false")
        return value

    def spell(self, value):
        return "true" if value else "false"


class List:
    """List is a list of low to high elements."""

    def __init__(self, element, low, high):
        self.element, self.low, self.high = element, low, high

    def decode(self, value):
        need(isinstance(value, list), "not a list")
        need(self.low <= len(value) <= self.high, "list too short or too long")
        return [self.element.decode(v) for v in value]

    def spell(self, value):
        return "[" + ",".join(self.element.spell(v) for v in value) + "]"


class Obj:
    """Obj is an object with exactly these members. A name that ends in "?" may be absent."""

    def __init__(self, **members):
        self.members = members

    def decode(self, value):
        need(isinstance(value, dict), "not an object")
        for name in value:
            need(name in self.members, f"unknown member {name!r}")
        out = {}
        for name, (schema, optional) in self.members.items():
            if name not in value:
                need(optional, f"no member {name}")
                out[name] = None
            elif optional and value[name] in ("", []) and not isinstance(schema, (Int, Bool, Obj, Word)):
                out[name] = None  # empty means absent
            else:
                out[name] = schema.decode(value[name])
        return out

    def spell(self, value):
        parts = []
        for name, (schema, optional) in self.members.items():
            v = value[name]
            if v is None or (optional and v is False):
                continue
            parts.append(f'"{name}":' + schema.spell(v))
        return "{" + ",".join(parts) + "}"


def must(schema):
    """must is a member that has to be present."""
    return schema, False


def may(schema):
    """may is a member that can be absent."""
    return schema, True


def _pairs(pairs):
    out = {}
    for name, value in pairs:
        need(name not in out, f"member {name!r} given twice")
        need(value is not None, f"member {name!r} is null")
        out[name] = value
    return out


def _integer(digits):
    need(digits[0] != "-" and len(digits) <= 16 and int(digits) <= SAFE, "integer out of range")
    return int(digits)


def _never(spelling):
    raise Refused(f"number {spelling[:20]}: not an integer")


def parse(data, limit):
    """parse reads one JSON value of at most limit bytes."""
    need(len(data) <= limit, "document too large")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_pairs, parse_int=_integer,
                          parse_float=_never, parse_constant=_never)
    except (ValueError, RecursionError) as why:
        raise Refused("not JSON in UTF-8") from why
