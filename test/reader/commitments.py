# SPDX-License-Identifier: Apache-2.0
"""Labelled hashes, tree and commitments: docs/evidence.md, sections 5 and 6."""
import hashlib


def be64(number):
    """be64 is an integer as a part of eight bytes."""
    return number.to_bytes(8, "big")


def labelled(label, *parts):
    """labelled is P(label, a, b, ...)."""
    return b"".join(be64(len(p)) + p for p in (label.encode(), *parts))


def sha256(data):
    """sha256 hashes data."""
    return hashlib.sha256(data).digest()


def head_part(head):
    """head_part is a log head as one part of 40 bytes."""
    return be64(head["count"]) + head["digest"]


def leaf(statement):
    """leaf is the leaf hash of a statement."""
    return sha256(b"\0" + labelled("agentd/statement/2", statement))


def included(index, size, path, leaf_hash, root):
    """included walks an inclusion proof as RFC 9162, section 2.1.3.2, says."""
    if index >= size:
        return False
    fn, sn, r = index, size - 1, leaf_hash
    for p in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = sha256(b"\1" + p + r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = sha256(b"\1" + r + p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def _tree(snapshot):
    return snapshot["tree"]["root"], be64(snapshot["tree"]["size"])


def qualifying_data(snapshot, anchor):
    """qualifying_data is what the quote's extraData must be; anchor is a digest or nothing."""
    return sha256(labelled("agentd/quote/1", *_tree(snapshot), anchor))


def batch_message(batch, anchor):
    """batch_message is what the agent key signs."""
    return labelled("agentd/batch/2", *_tree(batch), anchor, be64(batch["time"]),
                    batch["quote"]["attest"], head_part(batch["logHead"]))


def _bound(doc, snapshot):
    return (*_tree(snapshot), be64(snapshot["time"]), doc["agentKey"], doc["ak"],
            snapshot["quote"]["attest"], head_part(snapshot["logHead"]))


def report_data(doc):
    """report_data is what the report must carry."""
    snapshot = doc["anchor"] or doc["batch"]
    return hashlib.sha512(labelled("agentd/report/2", *_bound(doc, snapshot))).digest()


def anchor_digest(doc, snapshot=None):
    """anchor_digest is the digest of the anchor; nothing if there is none."""
    snapshot = snapshot or doc["anchor"]
    if snapshot is None:
        return b""
    return sha256(labelled("agentd/anchor/2", *_bound(doc, snapshot), doc["report"]["bytes"]))


def key_proof_message(said, agent_key):
    """key_proof_message is what the key of the caller signs."""
    caller = said["caller"]
    return labelled("agentd/key-proof/1", said["nonce"], (said["audience"] or "").encode(), agent_key,
                    be64(caller["uid"]), be64(caller["pid"]), be64(caller["started"]))
