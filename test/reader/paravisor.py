# SPDX-License-Identifier: Apache-2.0
"""The blob of a paravisor: docs/evidence.md, section 8."""
import base64
import binascii
import hashlib
import json
import struct

from strict import Refused, need
from tpm import RSA

HASHES = {1: hashlib.sha256, 2: hashlib.sha384, 3: hashlib.sha512}
RUNTIME = 1236


def _once(pairs):
    """_once refuses an object that has a member twice."""
    names = [name for name, _ in pairs]
    need(len(set(names)) == len(names), "a member twice")
    return dict(pairs)


def _number(text):
    """_number reads base64url in its canonical form, a number without leading zeros."""
    need(isinstance(text, str), "not a text")
    try:
        value = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as why:
        raise Refused("not base64url") from why
    need(base64.urlsafe_b64encode(value).rstrip(b"=").decode() == text, "another spelling")
    need(value[:1] not in (b"", b"\0"), "a number that is padded")
    return value


class Blob:
    """Blob is a decoded blob; making one is the check paravisor.decode."""

    def __init__(self, data):
        need(RUNTIME <= len(data) <= 8192 and data[:4] == b"HCLA", "not a paravisor's")
        version, size = struct.unpack_from("<II", data, 4)
        rest, inner, kind, algorithm, runtime = struct.unpack_from("<5I", data, 1216)
        need(1 <= version <= 2 and inner == 1 and kind == 2 and algorithm in HASHES, "a number of the header")
        need(not any(data[16:32]), "status or reserved bytes")
        need(len(data) == size == RUNTIME + runtime and rest == 20 + runtime, "a size")
        self.report, text = data[32:1216], data[RUNTIME:]
        self.digest = HASHES[algorithm](text).digest().ljust(64, b"\0")
        try:
            doc = json.loads(text.decode(), object_pairs_hook=_once)
        except (ValueError, RecursionError) as why:
            raise Refused("the runtime data are not JSON") from why
        need(isinstance(doc, dict), "the runtime data are not an object")
        self.keys, said = doc.get("keys") or [], doc.get("user-data") or ""
        need(isinstance(self.keys, list) and all(isinstance(k, dict) for k in self.keys), "keys")
        need(isinstance(said, str) and len(said) in (0, 128), "user-data")
        try:
            self.data = bytes.fromhex(said) or bytes(64)
        except ValueError as why:
            raise Refused("user-data") from why

    def key(self):
        """key is the check paravisor.key; it gives modulus and exponent."""
        named = [k for k in self.keys if k.get("kid") == "HCLAkPub"]
        need(len(named) == 1 and named[0].get("kty") == "RSA", "not one RSA key of that name")
        n, e = _number(named[0].get("n")), _number(named[0].get("e"))
        need(len(e) <= 4, "a number that is too large")
        n, e = int.from_bytes(n, "big"), int.from_bytes(e, "big")
        need(2048 <= n.bit_length() <= 4096 and n % 2 and 65537 <= e < 2 ** 31 and e % 2, "a weak key")
        return n, e


def judge(v, blob, decoded, ak):
    """judge takes the rules about keys and runtime data."""
    v.true("binding.runtime-data", decoded.report_data == blob.digest)
    key = v.check("paravisor.key", blob.key)
    if key is None or ak is None or ak.public is None:
        return
    same = False
    if ak.type == RSA:
        numbers = ak.public.public_numbers()
        same = (numbers.n, numbers.e) == key
    v.true("binding.attestation-key", same)
