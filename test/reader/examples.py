# SPDX-License-Identifier: Apache-2.0
"""The worked example of docs/evidence.md, section 12, and the log and the list of docs/measurements.md."""
import re

import cases
import commitments
import document
import ima
import keys
import log


def _block(text, name):
    """_block gives the fenced text between the marks of an example."""
    found = re.search(f"<!-- {name}: begin -->\n```\n(.*?)\n```\n<!-- {name}: end -->", text, re.S)
    return found.group(1) if found else ""


def _values(block):
    """_values reads "name, then an indented value" as a dictionary."""
    out, name = {}, None
    for line in block.splitlines():
        if line.startswith("    "):
            out[name] = line.strip()
        else:
            name = line
    return out


def _page(root, name):
    return cases.read(f"{root}/docs/{name}").decode()


def _worked_values(doc, said):
    """_worked_values computes what the page has, from the document alone."""
    batch, anchor = doc["batch"], commitments.anchor_digest(doc, doc["batch"])
    message = commitments.batch_message(batch, b"")
    proof = commitments.key_proof_message(said, doc["agentKey"])
    return {
        "key proof message": proof.hex(),
        "key proof": said["keyProof"].hex(),
        "statement": doc["statement"].decode(),
        "leaf": commitments.leaf(doc["statement"]).hex(),
        "left neighbour": commitments.leaf(b"left neighbour").hex(),
        "right neighbour": commitments.leaf(b"right neighbour").hex(),
        "root": batch["tree"]["root"].hex(),
        "inclusion path": " ".join(p.hex() for p in doc["inclusion"]["path"]),
        "log head": commitments.head_part({"count": 1, "digest": commitments.sha256(
            commitments.labelled("agentd/log/1", bytes(32), b"first record"))}).hex(),
        "qualifying data": commitments.qualifying_data(batch, b"").hex(),
        "TPMS_ATTEST": batch["quote"]["attest"].hex(),
        "batch message": message.hex(),
        "agent key": doc["agentKey"].hex(),
        "agent signature": doc["agentSignature"].hex(),
        "report data": commitments.report_data(doc).hex(),
        "anchor digest": anchor.hex(),
        "qualifying data on that anchor": commitments.qualifying_data(batch, anchor).hex(),
    }


def worked(root):
    """worked gives what is wrong with the worked example."""
    doc = document.document(cases.read(root + "/evidence/testdata/worked-example.json"))
    said = document.statement(doc["statement"])
    mine, wrong = _worked_values(doc, said), []
    page = _values(_block(_page(root, "evidence.md"), "worked example"))
    for name in sorted(set(mine) | set(page)):
        if mine.get(name) != page.get(name):
            wrong.append(f"worked example, {name}: reader {mine.get(name)}, page {page.get(name)}")
    keys.ed25519_key(doc["agentKey"])
    keys.ed25519_verify(doc["agentKey"], doc["agentSignature"], bytes.fromhex(mine["batch message"]))
    keys.key_proof(said["publicKey"], said["keyProof"], bytes.fromhex(mine["key proof message"]))
    tree, inclusion = doc["batch"]["tree"], doc["inclusion"]
    if not commitments.included(inclusion["index"], tree["size"], inclusion["path"],
                                commitments.leaf(doc["statement"]), tree["root"]):
        wrong.append("worked example: the statement is not in the tree")
    return wrong


def log_example(root):
    """log_example gives what is wrong with the log of measurements.md."""
    page, wrong = _page(root, "measurements.md"), []
    state = log.replay(cases.read(root + "/pcr/testdata/example.cel"), log.State())
    values = _block(page, "final values").split()
    for bank, value in zip(values[::2], values[1::2]):
        mine = state.values[state.pcr][bank].hex()
        if mine != value:
            wrong.append(f"example.cel: {bank}: reader {mine}, page {value}")
    heads = re.findall(r"^log head (\d+), ([0-9a-f]{64})$", page, re.M)
    for count, digest in heads:
        if state.snapshots[int(count)][0]["digest"].hex() != digest:
            wrong.append(f"example.cel: log head {count}: another digest than the page")
    if not values or not heads:
        wrong.append("measurements.md: no example was found")
    return wrong


def ima_example(root):
    """ima_example gives what is wrong with the list of IMA of measurements.md."""
    page, wrong = _values(_block(_page(root, "measurements.md"), "list of IMA")), []
    data = b"".join(bytes.fromhex(value) for name, value in page.items() if name.startswith("entry "))
    banks = {name: name.split()[0] for name in page if not name.startswith("entry ")}
    for name, bank in banks.items():
        mine = ima.replayed(data, bank, "before" not in name).hex()
        if mine != page[name]:
            wrong.append(f"list of IMA: {name}: reader {mine}, page {page[name]}")
    if len(banks) < 5 or not data:
        wrong.append("measurements.md: no list of IMA was found")
    return wrong
