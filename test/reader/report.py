# SPDX-License-Identifier: Apache-2.0
"""The attestation report: docs/evidence.md, section 8."""
import struct

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

import chain
from strict import Refused, need
from tpm import ORDERS

LEAVES = {0: "VCEK", 1: "VLEK"}


class Report:
    """Report is a decoded report; making one is the check report.decode."""

    def __init__(self, data):
        need(len(data) == 1184, "not 1,184 bytes")
        self.data = data
        self.version, = struct.unpack_from("<I", data)
        need(2 <= self.version <= 5, "unknown version")
        reserved = ((0x4C, 0x50), (0x18B if self.version >= 3 else 0x188, 0x1A0), (0x1EB, 0x1EC),
                    (0x1EF, 0x1F0), (0x208 if self.version >= 4 else 0x1F8, 0x2A0))
        for low, high in reserved:
            need(not any(data[low:high]), "a reserved byte")
        self.policy, = struct.unpack_from("<Q", data, 8)
        self.vmpl, self.algorithm = struct.unpack_from("<II", data, 0x30)
        flags, = struct.unpack_from("<I", data, 0x48)
        self.masked, self.signer = flags >> 1 & 1, flags >> 2 & 7
        self.report_data = data[0x50:0x90]
        self.report_id = data[0x140:0x160]
        self.tcb = data[0x180:0x188]
        self.processor = data[0x188:0x18B]
        self.chip = data[0x1A0:0x1E0]

    def verify(self, key):
        """verify is the check report.signature under one key."""
        need(self.algorithm == 1, "unknown algorithm")
        r, s = (int.from_bytes(self.data[at:at + 72], "little") for at in (0x2A0, 0x2A0 + 72))
        need(0 < r < ORDERS[4] and 0 < s < ORDERS[4], "number out of range")
        need(not any(self.data[0x2A0 + 144:]), "bytes after the signature")
        try:
            key.verify(utils.encode_dss_signature(r, s), self.data[:0x2A0], ec.ECDSA(hashes.SHA384()))
        except InvalidSignature as why:
            raise Refused("the signature does not verify") from why

    def product(self):
        """product is that of the processor; None if it is unknown, "" if the report does not say."""
        if self.version < 3:
            return ""
        family, model = self.processor[0], self.processor[1]
        if family == 0x19:
            if model <= 0x0F:
                return "Milan"
            return "Genoa" if 0x10 <= model <= 0x1F or 0xA0 <= model <= 0xAF else None
        return "Turin" if family == 0x1A and model <= 0x1F else None


def revocation(lists, root, names):
    """revocation tells if a list of the root names one of the certificates that it issued."""
    for data in lists:
        try:
            crl = x509.load_der_x509_crl(data)
            need(crl.issuer.public_bytes() == root.subject.public_bytes(), "of another root")
            chain.signed_by(crl, crl.tbs_certlist_bytes, root)
        except (Refused, ValueError):
            continue
        if any(crl.get_revoked_certificate_by_serial_number(c.serial_number) for c in names):
            return True
    return False


def _way(report, leaf, issuer, root, case):
    """_way gives the failed checks for one choice of certificates."""
    failed = set()
    if LEAVES.get(report.signer) != leaf.kind or (report.masked and leaf.kind == "VCEK"):
        failed.add("report.signer")
    # An issuer of another name is a matter of the chain.
    products = {leaf.product, chain.product_of(issuer, leaf.kind) or leaf.product, chain.root_product(root)}
    if report.product() != "":
        products.add(report.product())
    if len(products) != 1 or None in products:
        failed.add("report.product")
    try:
        need(chain.product_of(issuer, leaf.kind), "an issuer of another name")
        chain.check(leaf, issuer, root)
    except Refused:
        failed.add("report.chain")
    for c in (leaf.certificate, issuer, root):
        if not c.not_valid_before <= case["time"] <= c.not_valid_after:
            failed.add("report.validity")
    if revocation(case["revocation"], root, (issuer, root)):
        failed.add("report.revocation")
    if leaf.kind == "VCEK" and any(report.chip) and report.chip != leaf.chip:
        failed.add("report.chip")
    if report.tcb != leaf.tcb:
        failed.add("report.tcb")
    return failed


def judge(report, certificates, case):
    """judge gives the failed checks of report and chain."""
    if report.signer not in LEAVES or (report.signer == 0 and report.masked):
        return {"report.signer"}
    parsed = [c for c in map(chain.load, certificates) if c]
    leaves = []
    for c in parsed:
        try:
            leaves.append(chain.Leaf(c))
        except Refused:
            continue
    issuers = [c for c in parsed if "SEV-" in chain.common_name(c.subject) and chain.authority(c)]
    verified, best = False, None
    for leaf in leaves:
        try:
            report.verify(leaf.certificate.public_key())
        except Refused:
            continue
        verified = True
        for issuer in issuers:
            if issuer.subject.public_bytes() != leaf.certificate.issuer.public_bytes():
                continue
            for root in case["roots"]:
                failed = _way(report, leaf, issuer, root, case)
                if best is None or len(failed) < len(best):
                    best = failed
    if not leaves or (verified and best is None):
        return {"report.certificate"}
    return best if verified else {"report.signature"}
