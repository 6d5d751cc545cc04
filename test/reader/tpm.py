# SPDX-License-Identifier: Apache-2.0
"""Attestation key and quote: docs/evidence.md, section 7."""
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from strict import Refused, need

ALGORITHMS = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
HASHES = {"sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}
RSA, ECC, NULL, RSASSA, RSAPSS, ECDSA = 0x0001, 0x0023, 0x0010, 0x0014, 0x0016, 0x0018
CURVES = {3: (ec.SECP256R1, 32), 4: (ec.SECP384R1, 48)}
ORDERS = {
    3: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    4: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}
SET = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18  # fixedTPM ... sign
CLEAR = 1 << 11 | 1 << 17 | 1 << 19  # encryptedDuplication, decrypt, x509sign


class Cursor:
    """Cursor reads big-endian structures of a TPM."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(self.at + count <= len(self.data), "structure cut short")
        self.at += count
        return self.data[self.at - count:self.at]

    def uint(self, size):
        return int.from_bytes(self.take(size), "big")

    def tpm2b(self, limit=2048):
        size = self.uint(2)
        need(size <= limit, "TPM2B too long")
        return self.take(size)

    def end(self):
        need(self.at == len(self.data), "bytes are left over")


class Key:
    """Key is a TPMT_PUBLIC; making one is the check ak.decode."""

    def __init__(self, data):
        c = Cursor(data)
        self.type, self.name_alg, self.attributes = c.uint(2), c.uint(2), c.uint(4)
        need(self.type in (RSA, ECC), "not an RSA or ECC key")
        c.tpm2b(64)  # authPolicy
        if (symmetric := c.uint(2)) != NULL:
            c.take(4)
            need(symmetric in (0x0006, 0x0013, 0x0026), "unknown symmetric algorithm")
        self.scheme = c.uint(2)
        self.hash = c.uint(2) if self.scheme != NULL else None
        if self.scheme == 0x001A:  # ECDAA has a count besides
            c.take(2)
        need(self.scheme in (NULL, RSASSA, RSAPSS, ECDSA, 0x0015, 0x0017, 0x001A, 0x001B, 0x001C), "unknown scheme")
        if self.type == RSA:
            self.bits, self.exponent = c.uint(2), c.uint(4) or 65537
            self.modulus = c.tpm2b(512)
        else:
            self.curve = c.uint(2)
            if c.uint(2) != NULL:
                c.take(2)
            self.x, self.y = c.tpm2b(128), c.tpm2b(128)
        c.end()
        self.data, self.public, self.size = data, None, 0

    def check_attributes(self):
        """check_attributes is the check ak.attributes."""
        need(self.attributes & SET == SET and self.attributes & CLEAR == 0, "attributes of another key")

    def check_algorithm(self):
        """check_algorithm is the check ak.algorithm."""
        for algorithm in (self.name_alg, self.hash):
            need(ALGORITHMS.get(algorithm) in HASHES, "not SHA-256, SHA-384 or SHA-512")
        try:
            if self.type == ECC:
                need(self.scheme == ECDSA and self.curve in CURVES, "not ECDSA on P-256 or P-384")
                curve, self.size = CURVES[self.curve]
                need(len(self.x) <= self.size and len(self.y) <= self.size, "coordinate too long")
                x, y = int.from_bytes(self.x, "big"), int.from_bytes(self.y, "big")
                self.public = ec.EllipticCurvePublicNumbers(x, y, curve()).public_key()
                return
            need(self.scheme in (RSASSA, RSAPSS), "not RSASSA or RSAPSS")
            n = int.from_bytes(self.modulus, "big")
            need(2048 <= self.bits <= 4096 and n.bit_length() == self.bits, "not a modulus of keyBits")
            need(len(self.modulus) == (self.bits + 7) // 8, "leading zeros")
            need(65537 <= self.exponent < 2**31 and self.exponent & 1, "not an exponent that is accepted")
            self.public, self.size = rsa.RSAPublicNumbers(self.exponent, n).public_key(), len(self.modulus)
        except ValueError as why:
            raise Refused("not a public key") from why

    def name(self):
        """name is the TPM's name of the key."""
        h = hashlib.new(ALGORITHMS[self.name_alg], self.data).digest()
        return self.name_alg.to_bytes(2, "big") + h


def quote(attest):
    """quote decodes TPMS_ATTEST; it gives the first broken rule, or None, and the fields."""
    q = {}
    try:
        c = Cursor(attest)
        if c.uint(4) != 0xFF544347:
            return "magic", None
        if c.uint(2) != 0x8018:
            return "type", None
        q["signer"], q["extra"] = c.tpm2b(), c.tpm2b()
        q["clock"], q["reset"], q["restart"] = c.uint(8), c.uint(4), c.uint(4)
        need(c.uint(1) in (0, 1), "safe")
        c.take(8)
        count = c.uint(4)
        need(count <= 16, "too many banks")
        q["selection"] = [(c.uint(2), c.take(c.uint(1))) for _ in range(count)]
        q["digest"] = c.tpm2b()
    except Refused:
        return "decode", None
    if c.at != len(attest):
        return "trailing", None
    return None, q


def selected(q, pcrs):
    """selected compares the selection with the values: check quote.selection."""
    wanted, seen = [], set()
    for algorithm, bitmap in q["selection"]:
        name = ALGORITHMS.get(algorithm)
        need(name and name not in seen and len(bitmap) == 3 and any(bitmap), "a bank that is not accepted")
        seen.add(name)
        wanted.append((name, [n for n in range(24) if bitmap[n // 8] >> n % 8 & 1]))
    need(seen - {"sha1"}, "no bank stronger than SHA-1")
    need(wanted == [(b["algorithm"], [p["index"] for p in b["pcrs"]]) for b in pcrs], "other PCRs")


def pcr_digest(key, pcrs):
    """pcr_digest is what the quote's digest must be."""
    values = b"".join(p["value"] for b in pcrs for p in b["pcrs"])
    return hashlib.new(ALGORITHMS[key.hash], values).digest()


def decode_signature(key, data):
    """decode_signature is the check quote.signature-encoding."""
    c = Cursor(data)
    need((c.uint(2), c.uint(2)) == (key.scheme, key.hash), "scheme or hash of another key")
    if key.type == RSA:
        signature = c.tpm2b()
        c.end()
        need(len(signature) == key.size, "not as long as the modulus")
        return signature
    numbers = []
    for raw in (c.tpm2b(), c.tpm2b()):
        n = int.from_bytes(raw, "big")
        need(0 < n < ORDERS[key.curve], "number out of range")
        need(len(raw) == key.size or (len(raw) < key.size and raw[0]), "a padded number")
        numbers.append(n)
    c.end()
    return utils.encode_dss_signature(*numbers)


def verify(key, signature, attest):
    """verify is the check quote.signature."""
    h = HASHES[ALGORITHMS[key.hash]]()
    try:
        if key.type == ECC:
            key.public.verify(signature, attest, ec.ECDSA(h))
        elif key.scheme == RSASSA:
            key.public.verify(signature, attest, padding.PKCS1v15(), h)
        else:
            key.public.verify(signature, attest, padding.PSS(padding.MGF1(h), padding.PSS.AUTO), h)
    except InvalidSignature as why:
        raise Refused("the signature does not verify") from why
