# SPDX-License-Identifier: Apache-2.0
"""Files of the corpus, and what a verifier knew before: docs/evidence.md, section 13."""
import base64
import datetime
import functools
import glob
import hashlib
import json
import os
import re

from cryptography import x509

import log
from strict import need

LIMIT = 64 << 20


def read(path):
    """read gives at most LIMIT bytes of a file."""
    with open(path, "rb") as f:
        return f.read(LIMIT)


def pem(path):
    """pem gives the certificates of a PEM file, in DER."""
    blocks = re.findall(b"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", read(path), re.S)
    return [base64.b64decode(b"".join(b.splitlines()[1:-1])) for b in blocks]


@functools.cache
def amd_roots(top):
    """amd_roots gives AMD's roots. Each must be in the table of section 8."""
    page = read(top + "/docs/evidence.md").decode()
    roots = [r for product in ("milan", "genoa", "turin") for r in pem(f"{top}/verify/snp/roots/{product}.pem")[:1]]
    for root in roots:
        need(f"| `{hashlib.sha256(root).hexdigest()}` |" in page, "a root that the page does not list")
    return roots


def instant(text):
    """instant reads a time of RFC 3339 in UTC."""
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")


def fresh(time, nonce, roots):
    """fresh is a verifier that knows a nonce and roots only."""
    return {
        "time": instant(time), "nonce": nonce, "audience": None, "public-key": None, "user-data": None,
        "roots": [x509.load_der_x509_certificate(r) for r in roots],
        "certificates": [], "revocation": [], "known": None, "ima-list": None,
    }


def known_state(text):
    """known_state is what a verifier kept of a log."""
    kept = json.loads(text)
    state = log.State()
    state.head = {"count": kept["head"]["count"], "digest": base64.b64decode(kept["head"]["digest"])}
    state.time, state.pcr = kept["time"], kept["pcr"]
    for part in [kept, kept.get("events")]:
        if part is not None:
            state.values[part["pcr"]] = {v["bank"]: base64.b64decode(v["value"]) for v in part["values"]}
    state.events_pcr = kept["events"]["pcr"] if "events" in kept else None
    said = any(e["last"] == state.head["count"] - 1 for e in kept.get("emitted") or [])
    state.last = state.pcr_of("app-event" if said else "")
    state.agent_key = base64.b64decode(kept.get("agentKey", ""))
    state.stopped, state.full = kept.get("stopped", False), kept.get("full", False)
    state.report_id = bytes.fromhex(kept.get("reportID", "")) or bytes(32)
    state.ak_name, state.reset_count = bytes.fromhex(kept.get("akName", "")), kept.get("resetCount", 0)
    state.coverage.declarations = {d["app"]: base64.b64decode(d["digest"]) for d in kept.get("declarations") or []}
    state.snapshots = {}
    state.keep()
    state.ima = kept.get("ima")
    if state.ima is not None:
        values = {v["bank"]: base64.b64decode(v["value"]) for v in state.ima["values"]}
        state.ima = (state.ima["next"], values, not state.ima.get("paddedSHA1", False))
    return state


def of_policy(name):
    """of_policy tells if a check depends on the policy, which this reader does not look at."""
    return name.startswith("policy.") or name == "report.revocation-list"


def folder(path):
    """folder reads a case as agentd-conformance hands it out (docs/conformance.md)."""
    def given(name):
        file = os.path.join(path, name)
        return read(file) if os.path.exists(file) else None

    top = os.path.dirname(os.path.abspath(__file__)) + "/../.."
    roots = pem(path + "/roots.pem") if given("roots.pem") is not None else amd_roots(top)
    case = fresh(given("time").decode(), given("nonce"), roots)
    case["audience"] = (given("audience") or b"").decode() or None
    case["public-key"], case["user-data"] = given("public-key"), given("user-data")
    case["certificates"] = pem(path + "/certificates.pem") if given("certificates.pem") is not None else []
    case["revocation"] = [read(f) for f in sorted(glob.glob(path + "/revocation-*.crl"))]
    case["ima-list"] = given("ima-list")
    if given("known-log.json") is not None:
        case["known"] = known_state(given("known-log.json"))
    return case, given("evidence")


def load(path, folder):
    """load reads a case: its head, and the verifier and the document that it describes."""
    text, _, evidence = read(path).partition(b"\n--- evidence\n")
    text = text.split(b"\n--- policy", 1)[0].decode()
    head = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        value = value.strip()
        head.setdefault(key, []).append(value)
    roots = pem(folder + "/root.pem") if head["root"] == ["test"] else amd_roots(folder + "/../../..")
    nonce = bytes.fromhex(head.get("nonce", [""])[0].removeprefix("0x"))
    case = fresh(head["time"][0], nonce, roots)
    case["audience"] = head.get("audience", [None])[0]
    for name in ("public-key", "user-data"):
        if name in head:
            case[name] = bytes.fromhex(head[name][0].removeprefix("0x"))
    if "certificates" in head:
        case["certificates"] = pem(folder + "/certificates.pem")
    case["revocation"] = [base64.b64decode(r) for r in head.get("revocation", [])]
    if "ima-list" in head:
        case["ima-list"] = base64.b64decode(head["ima-list"][0])
    if "log-state" in head:
        case["known"] = known_state(base64.b64decode(head["log-state"][0]))
    return head, case, evidence

