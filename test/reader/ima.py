# SPDX-License-Identifier: Apache-2.0
"""The kernel's list of IMA: docs/measurements.md, section 7."""
import hashlib

from firmware import Reader
from strict import Refused, need

VIOLATION = bytes(20)


def entries(data):
    """entries gives PCR, hash and hashed bytes of each entry: check ima.decode."""
    r = Reader(data)
    while r.at < len(data):
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
        yield pcr, digest, hashed


def extended(bank, new, digest, hashed):
    """extended is what a kernel, new or before Linux 5.8, extends a bank with."""
    size = hashlib.new(bank).digest_size
    if digest == VIOLATION:
        return (b"\xff" * (size if new else 20)).ljust(size, b"\0")
    return hashlib.new(bank, hashed).digest() if new else digest.ljust(size, b"\0")


def judge(v, data, pcrs):
    """judge replays a list to the values that a quote has of PCR 10."""
    quoted = {b["algorithm"]: p["value"] for b in pcrs for p in b["pcrs"] if p["index"] == 10}
    if not quoted:
        v.failed.add("ima.replay")
        return
    values = {new: {bank: bytes(len(value)) for bank, value in quoted.items()} for new in (True, False)}
    try:
        read = entries(data)
        while quoted not in values.values():
            pcr, digest, hashed = next(read)
            if pcr != 10:
                continue
            for new, of in values.items():
                for bank in of:
                    of[bank] = hashlib.new(bank, of[bank] + extended(bank, new, digest, hashed)).digest()
    except Refused:
        v.failed.add("ima.decode")
    except StopIteration:
        v.failed.add("ima.replay")
