# SPDX-License-Identifier: Apache-2.0
"""The firmware's log: docs/evidence.md, section 9."""
from strict import need

SIZES = {0x0004: 20, 0x000B: 32, 0x000C: 48, 0x000D: 64}


class Reader:
    """Reader reads little-endian structures."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(self.at + count <= len(self.data), "cut short")
        self.at += count
        return self.data[self.at - count:self.at]

    def uint(self, size):
        return int.from_bytes(self.take(size), "little")


def _algorithms(data):
    r, known = Reader(data), {}
    need(r.take(16) == b"Spec ID Event03\0", "not a crypto-agile log")
    r.take(8)  # platform class, versions, size of a word
    count = r.uint(4)
    need(1 <= count <= 8, "number of algorithms")
    for _ in range(count):
        algorithm, size = r.uint(2), r.uint(2)
        need(algorithm not in known and 1 <= size <= 64, "an algorithm twice, or its size")
        need(SIZES.get(algorithm, size) == size, "size of a known algorithm")
        known[algorithm] = size
    r.take(r.uint(1))
    need(r.at == len(data), "more in the first event")
    return known


def decode(data):
    """decode reads a whole log: check firmware.decode."""
    r = Reader(data)
    need(r.uint(4) == 0 and r.uint(4) == 3 and r.take(20) == bytes(20), "not the first event")
    known, events, locality, pcr0 = _algorithms(r.take(r.uint(4))), 0, False, False
    while r.at < len(data):
        events += 1
        need(events <= 8192, "too many events")
        pcr, kind, count = r.uint(4), r.uint(4), r.uint(4)
        need(pcr <= 23 and count == len(known), "PCR or number of digests")
        digests = {}
        for _ in range(count):
            algorithm = r.uint(2)
            need(algorithm in known and algorithm not in digests, "an unknown digest, or one twice")
            digests[algorithm] = r.take(known[algorithm])
        body = r.take(r.uint(4))
        if kind == 3 and body[:16] == b"StartupLocality\0" and len(body) == 17 and body[16] <= 4:
            need(not locality and not pcr0, "StartupLocality twice or late")
            locality = True
        pcr0 = pcr0 or (kind != 3 and pcr == 0)
