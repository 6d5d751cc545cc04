# SPDX-License-Identifier: Apache-2.0
"""Ed25519 keys and the proof of possession: docs/evidence.md, section 6."""
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from strict import need

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P
L = 2**252 + 27742317777372353535851937790883648493
Z = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
SMALL = {0, 1, P - 1, Z, P - Z}
CURVES = {"secp256r1": hashes.SHA256, "secp384r1": hashes.SHA384, "secp521r1": hashes.SHA512}


def ed25519_key(key):
    """ed25519_key refuses an encoding that is not of a point, has another, or is of small order."""
    y = int.from_bytes(key, "little") & (2**255 - 1)
    need(y < P, "y is not reduced")
    need(y not in SMALL, "a point of small order")
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    need(pow(x2, (P - 1) // 2, P) == 1, "not a point of the curve")


def ed25519_verify(key, signature, message):
    """ed25519_verify verifies as RFC 8032, section 5.1.7, without the factor 8."""
    need(len(signature) == 64 and int.from_bytes(signature[32:], "little") < L, "S is not reduced")
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        need(False, "the Ed25519 signature does not verify")


def _rsa(key, proof, message):
    n, e = key.public_numbers().n, key.public_numbers().e
    need(2048 <= n.bit_length() <= 4096 and n & 1, "not an RSA key of 2,048 to 4,096 bits")
    need(65537 <= e < 2**31 and e & 1, "not an exponent that is accepted")
    need(len(proof) == (n.bit_length() + 7) // 8, "not as long as the modulus")
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    key.verify(proof, message, pss, hashes.SHA256())


def _ecdsa(key, proof, message):
    need(key.curve.name in CURVES, "not a curve that is accepted")
    r, s = utils.decode_dss_signature(proof)
    need(utils.encode_dss_signature(r, s) == proof, "not the one DER encoding")
    key.verify(proof, message, ec.ECDSA(CURVES[key.curve.name]()))


def key_proof(public_key, proof, message):
    """key_proof verifies a proof of possession: check statement.key-proof."""
    try:
        key = serialization.load_der_public_key(public_key)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        need(False, "not a SubjectPublicKeyInfo of a known kind")
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    need(spki == public_key, "not exactly one SubjectPublicKeyInfo")
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            ed25519_key(public_key[-32:])
            ed25519_verify(public_key[-32:], proof, message)
        elif isinstance(key, rsa.RSAPublicKey):
            _rsa(key, proof, message)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            _ecdsa(key, proof, message)
        else:
            need(False, "not a key of a known kind")
    except (InvalidSignature, ValueError):
        need(False, "the proof does not verify")
