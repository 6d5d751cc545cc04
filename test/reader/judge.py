# SPDX-License-Identifier: Apache-2.0
"""The steps of docs/evidence.md, section 10. judge gives the names of all checks that fail."""
import commitments
import document
import firmware
import history
import ima
import keys
import paravisor
import report
import svsm
import tpm
from strict import Refused


class Verdict:
    """Verdict collects the checks that fail."""

    def __init__(self):
        self.failed = set()

    def check(self, name, function, *args):
        """check runs one check; it gives the result, or None if the check fails."""
        try:
            return function(*args)
        except Refused:
            self.failed.add(name)
            return None

    def true(self, name, condition):
        """true fails the check unless condition holds."""
        if not condition:
            self.failed.add(name)


def _statement(v, said, doc, case):
    v.true("statement.nonce", said["nonce"] == case["nonce"])
    v.true("statement.audience", said["audience"] == case["audience"])
    for name, member in (("public-key", "publicKey"), ("user-data", "userData")):
        if case[name] is not None:
            v.true("statement." + name, said[member] == case[name])
    if said["keyProof"] is not None:
        message = commitments.key_proof_message(said, doc["agentKey"])
        v.check("statement.key-proof", keys.key_proof, said["publicKey"], said["keyProof"], message)
    v.true("statement.freshness", said["freshness"] == "anchored" or doc["anchor"] is None)


def _quote(v, prefix, snapshot, key, anchor):
    """_quote checks one quote, and gives its fields if they can be read."""
    if key is not None and key.public is not None:
        signature = v.check(prefix + "signature-encoding", tpm.decode_signature, key, snapshot["quote"]["signature"])
        if signature is not None:
            v.check(prefix + "signature", tpm.verify, key, signature, snapshot["quote"]["attest"])
    broken, q = tpm.quote(snapshot["quote"]["attest"])
    if broken:
        v.failed.add(prefix + broken)
        return None
    before = len(v.failed)
    v.check(prefix + "selection", tpm.selected, q, snapshot["pcrs"])
    if key is not None and key.public is not None and len(v.failed) == before:
        v.true(prefix + "pcr-digest", q["digest"] == tpm.pcr_digest(key, snapshot["pcrs"]))
    v.true(prefix + "qualifying-data", q["extra"] == commitments.qualifying_data(snapshot, anchor))
    return q


def _key(v, doc):
    key = v.check("ak.decode", tpm.Key, doc["ak"])
    if key is not None:
        v.check("ak.attributes", key.check_attributes)
        v.check("ak.algorithm", key.check_algorithm)
    return key


def _anchor(v, doc, q, old):
    v.true("anchor.guest-clock", doc["batch"]["time"] >= doc["anchor"]["time"])
    if q is None or old is None:
        return
    if q["signer"] != old["signer"]:
        v.failed.add("anchor.signer")  # another key shifts counts and clock: they are not compared
        return
    v.true("anchor.reset-count", q["reset"] == old["reset"])
    v.true("anchor.restart-count", q["restart"] == old["restart"])
    v.true("anchor.clock", q["clock"] >= old["clock"])


def _report(v, doc, case, key):
    kind, data, blob = doc["report"]["kind"], doc["report"]["bytes"], None
    around = {"azure-hcl": ("paravisor.decode", paravisor.Blob), "sev-snp-svsm": ("svsm.manifest", svsm.Manifest)}
    if kind != "sev-snp" and kind not in around:
        v.failed.add("report.kind")
        return None
    if kind in around:
        blob = v.check(around[kind][0], around[kind][1], data)
        if blob is None:
            return None
        data = blob.report
    decoded = v.check("report.decode", report.Report, data)
    if decoded is None:
        return None
    v.failed |= report.judge(decoded, (doc["certificates"] or []) + case["certificates"], case)
    if kind == "sev-snp-svsm":
        svsm.judge(v, blob, decoded, key, doc)
    else:
        said = decoded.report_data
        if blob is not None:
            paravisor.judge(v, blob, decoded, key)
            said = blob.data
        v.true("binding.report-data", said == commitments.report_data(doc))
    v.true("policy.debug", not decoded.policy >> 19 & 1)
    v.true("policy.migration-agent", not decoded.policy >> 18 & 1)
    v.true("policy.guest-reserved", decoded.policy >> 17 & 1 and not decoded.policy >> 26)
    v.true("policy.vmpl", decoded.vmpl == 0)
    return decoded


def judge(data, case):
    """judge takes the steps of section 10, and gives the names of the checks that fail."""
    v = Verdict()
    doc = v.check("evidence.decode", document.document, data)
    if doc is None:
        return v.failed
    said = v.check("statement.decode", document.statement, doc["statement"])
    if said is not None:
        _statement(v, said, doc, case)
    tree, batch = doc["batch"]["tree"], doc["batch"]
    v.true("batch.inclusion", commitments.included(
        doc["inclusion"]["index"], tree["size"], doc["inclusion"]["path"] or [],
        commitments.leaf(doc["statement"]), tree["root"]))
    anchor = commitments.anchor_digest(doc)
    count = len(v.failed)
    v.check("batch.agent-key", keys.ed25519_key, doc["agentKey"])
    if len(v.failed) == count:
        v.check("batch.agent-signature", keys.ed25519_verify, doc["agentKey"], doc["agentSignature"],
                commitments.batch_message(batch, anchor))
    key = _key(v, doc)
    q = _quote(v, "quote.", batch, key, anchor)
    if doc["anchor"] is not None:
        _anchor(v, doc, q, _quote(v, "anchor.", doc["anchor"], key, b""))
    decoded = _report(v, doc, case, key)
    if doc["log"] is not None:
        history.judge(v, doc, said, case, key, q, decoded)
    if doc["firmwareLog"] is not None:
        v.check("firmware.decode", firmware.decode, doc["firmwareLog"])
    if q is not None and "quote.selection" not in v.failed:
        ima.judge(v, doc["ima"], case, batch["pcrs"])
    return v.failed
