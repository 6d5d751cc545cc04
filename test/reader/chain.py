# SPDX-License-Identifier: Apache-2.0
"""AMD's certificates: docs/evidence.md, section 8."""
import warnings

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

import der
from strict import Refused, need

warnings.filterwarnings("ignore")  # serial number 0
BASE = "1.3.6.1.4.1.3704.1."
TCB = {
    "Milan": ("3.1", "3.2", "3.4", "3.5", "3.6", "3.7", "3.3", "3.8"),
    "Turin": ("3.9", "3.1", "3.2", "3.3", "3.5", "3.6", "3.7", "3.8"),
}
TCB["Genoa"] = TCB["Milan"]
UNDERSTOOD = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}


def load(data):
    """load parses one certificate; None if it does not parse."""
    try:
        certificate = x509.load_der_x509_certificate(data)
        list(certificate.extensions)
        certificate.public_key()
        return certificate
    except Exception:  # whatever the parser finds, the certificate is skipped
        return None


def common_name(name):
    """common_name is the one common name."""
    names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return names[0].value if len(names) == 1 else ""


def authority(certificate):
    """authority tells if a certificate is an authority that may sign certificates."""
    try:
        basic = certificate.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS).value
        usage = certificate.extensions.get_extension_for_oid(ExtensionOID.KEY_USAGE).value
    except x509.ExtensionNotFound:
        return False
    return basic.ca and usage.key_cert_sign


class Leaf:
    """Leaf is a VCEK or VLEK; making one refuses what section 8 says counts as missing."""

    def __init__(self, certificate):
        self.certificate = certificate
        self.kind = {"SEV-VCEK": "VCEK", "SEV-VLEK": "VLEK"}.get(common_name(certificate.subject))
        key = certificate.public_key()
        need(certificate.version == x509.Version.v3 and self.kind, "not a VCEK or VLEK")
        need(isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp384r1", "not on P-384")
        own = {}
        for e in certificate.extensions:
            if e.oid.dotted_string.startswith(BASE):
                own[e.oid.dotted_string[len(BASE):]] = e.value.value
            elif e.oid == ExtensionOID.BASIC_CONSTRAINTS:
                need(not e.value.ca, "an authority")
        der.integer(own.get("1", b""))
        text = der.element(own.get("2", b""), 0x16).decode("ascii", "replace")
        self.product = text.split("-")[0]
        need(self.product in TCB, "unknown product")
        last = "4" if self.kind == "VCEK" else "5"
        need(set(own) == {"1", "2", last, *TCB[self.product]}, "other extensions")
        self.tcb = bytes(self._byte(own[name]) for name in TCB[self.product])
        if self.kind == "VLEK":
            der.element(own["5"], 0x16)
            return
        size = 8 if self.product == "Turin" else 64
        raw = own["4"]
        self.chip = raw if len(raw) == size else der.element(raw, 4)
        need(len(self.chip) == size, "chip id of another size")
        self.chip += bytes(64 - size)

    @staticmethod
    def _byte(value):
        number = der.integer(value)
        need(number <= 255, "not from 0 to 255")
        return number


def signed_by(thing, signed, issuer):
    """signed_by verifies RSA-PSS with SHA-384 of a certificate or list."""
    try:
        need(thing.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS, "not RSA-PSS")
        pss = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
        issuer.public_key().verify(thing.signature, signed, pss, hashes.SHA384())
    except InvalidSignature as why:
        raise Refused("the signature does not verify") from why


def check(leaf, issuer, root):
    """check is report.chain for one way from the leaf to a trusted root."""
    for certificate in (leaf.certificate, issuer, root):
        for e in certificate.extensions:
            need(not e.critical or e.oid in UNDERSTOOD, "a critical extension that is not understood")
    for certificate in (issuer, root):
        key = certificate.public_key()
        need(authority(certificate), "not an authority")
        need(isinstance(key, rsa.RSAPublicKey) and key.key_size == 4096, "not RSA of 4,096 bits")
    need(leaf.certificate.issuer.public_bytes() == issuer.subject.public_bytes(), "another issuer")
    need(issuer.issuer.public_bytes() == root.subject.public_bytes(), "another root")
    signed_by(leaf.certificate, leaf.certificate.tbs_certificate_bytes, issuer)
    signed_by(issuer, issuer.tbs_certificate_bytes, root)
    signed_by(root, root.tbs_certificate_bytes, root)


def product_of(issuer, kind):
    """product_of is the product in an issuer's common name, or None."""
    prefix = "SEV-" if kind == "VCEK" else "SEV-VLEK-"
    name = common_name(issuer.subject)
    return name[len(prefix):] if name.startswith(prefix) and name[len(prefix):] in TCB else None


def root_product(root):
    """root_product is the product in a root's common name."""
    name = common_name(root.subject)
    return name[4:] if name.startswith("ARK-") else None
