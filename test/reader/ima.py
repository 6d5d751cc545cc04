# SPDX-License-Identifier: Apache-2.0
"""The kernel's list of IMA: docs/measurements.md, section 7, and docs/evidence.md, section 9."""
import hashlib

from firmware import Reader
from strict import Refused, need

VIOLATION = bytes(20)


class Differs(Exception):
    """Differs is raised if two lists have different entries with one number."""


def entries(data):
    """entries gives PCR, hash and hashed bytes of each entry: check ima.decode."""
    r = Reader(data)
    while r.at < len(data):
        yield entry(r)


def raw(data):
    """raw gives the bytes of each entry."""
    r = Reader(data)
    while r.at < len(data):
        begin = r.at
        entry(r)
        yield data[begin:r.at]


def entry(r):
    """entry reads one entry."""
    pcr, digest, size = r.uint(4), r.take(20), r.uint(4)
    need(pcr <= 23 and 1 <= size <= 255, "PCR, or the length of the template's name")
    if r.take(size) == b"ima":
        hashed, size = r.take(20), r.uint(4)
        need(1 <= size <= 255, "length of a path")
        path = r.take(size)
        need(b"\0" not in path, "a zero byte in a path")
        hashed += path.ljust(256, b"\0")
    else:
        size = r.uint(4)
        need(1 <= size <= 1 << 20, "length of the data")
        hashed = r.take(size)
    need(digest in (VIOLATION, hashlib.sha1(hashed).digest()), "another hash than that of the data")
    return pcr, digest, hashed


def extended(bank, new, digest, hashed):
    """extended is what a kernel, new or before Linux 5.8, extends a bank with."""
    size = hashlib.new(bank).digest_size
    if digest == VIOLATION:
        return (b"\xff" * (size if new else 20)).ljust(size, b"\0")
    return hashlib.new(bank, hashed).digest() if new else digest.ljust(size, b"\0")


def replayed(data, bank, new):
    """replayed is the value of PCR 10 in a bank after a whole list."""
    value = bytes(hashlib.new(bank).digest_size)
    for pcr, digest, hashed in entries(data):
        if pcr == 10:
            value = hashlib.new(bank, value + extended(bank, new, digest, hashed)).digest()
    return value


def compared(given, own):
    """compared gives the entries of a whole list, and fails if those of another with their numbers differ."""
    read = raw(own["entries"] or b"")
    for number, whole in enumerate(raw(given)):
        if number >= own["start"] and next(read, None) != whole:
            raise Differs
        yield from entries(whole)


def judge(v, own, case, pcrs):
    """judge replays a list, in evidence or from elsewhere, to the values that a quote has of PCR 10."""
    given, known = case["ima-list"], case["known"] and case["known"].ima
    if own is None and given is None:
        return
    quoted = {b["algorithm"]: p["value"] for b in pcrs for p in b["pcrs"] if p["index"] == 10}
    if not quoted:
        v.failed.add("ima.replay")
        return
    values = {new: {bank: bytes(len(value)) for bank, value in quoted.items()} for new in (True, False)}
    if given is None and own["start"]:
        if known is None or own["start"] != known[0] or not quoted.keys() <= known[1].keys():
            v.failed.add("ima.continuation")
            return
        values = {known[2]: {bank: known[1][bank] for bank in quoted}}
    try:
        if given is None:
            read = entries(own["entries"] or b"")
        else:
            read = entries(given) if own is None else compared(given, own)
        while quoted not in values.values():
            pcr, digest, hashed = next(read)
            if pcr != 10:
                continue
            for new, of in values.items():
                for bank in of:
                    of[bank] = hashlib.new(bank, of[bank] + extended(bank, new, digest, hashed)).digest()
    except Differs:
        v.failed.add("ima.continuation")
    except Refused:
        v.failed.add("ima.decode")
    except StopIteration:
        v.failed.add("ima.replay")
