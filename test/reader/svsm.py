# SPDX-License-Identifier: Apache-2.0
"""The manifest of an SVSM's vTPM: docs/evidence.md, section 8."""
import hashlib

import commitments
from strict import Refused, need
from tpm import ECC, RSA, Cursor, Key

REPORT = 1184
MADE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16  # fixedTPM, fixedParent, sensitiveDataOrigin, restricted
DECRYPT, SIGN = 1 << 17, 1 << 18
SERVICES = bytes.fromhex("bb9e8463923d7046a1ff58f9c94b87bb")


def _key(data, use):
    """_key reads a key that a TPM made and that serves one purpose."""
    need(len(data) <= 1024, "a public area that is too long")
    attributes = Key(data).attributes
    need(attributes & MADE == MADE and attributes & (DECRYPT | SIGN) == use, "attributes of another key")


class Manifest:
    """Manifest is a decoded manifest; making one is the check svsm.manifest."""

    def __init__(self, data):
        need(len(data) > REPORT, "no manifest")
        self.report, self.data = data[:REPORT], data[REPORT:]
        self.ak, ek = None, self.data
        if self.data[:2] == b"\0\0":
            c = Cursor(self.data)
            need(c.uint(4) == 1 and c.uint(4) == 2, "another version, or another number of keys")
            ek, self.ak = c.tpm2b(), c.tpm2b()
            c.end()
            _key(self.ak, SIGN)
        _key(ek, DECRYPT)

    def alone(self):
        """alone is the check svsm.manifest-within."""
        need(not any(_like(self.data[i:]) for i in range(1, len(self.data))), "it ends with another manifest")


def _like(data):
    """_like tells what an SVSM may have made as a manifest."""
    c = Cursor(data)
    try:
        if data[:16] == SERVICES and len(data) >= 20:
            return int.from_bytes(data[16:20], "little") == len(data)
        if data[:4] == b"\0\0\0\1":
            c.take(4)
            for _ in range(c.uint(4)):
                c.take(c.uint(2))
            c.end()
            return True
        if len(data) >= 8 and int.from_bytes(data[:2], "big") in (RSA, ECC):
            return Key(data).attributes & (DECRYPT | SIGN) == DECRYPT
    except Refused:
        pass
    return False


def judge(v, manifest, decoded, ak, doc):
    """judge takes the rules about manifest, report data and AK."""
    v.check("svsm.manifest-within", manifest.alone)
    data = hashlib.sha512(commitments.report_data(doc) + manifest.data).digest()
    v.true("binding.report-data", decoded.report_data == data)
    if manifest.ak is not None and ak is not None and ak.public is not None:
        v.true("binding.attestation-key", manifest.ak == doc["ak"])
