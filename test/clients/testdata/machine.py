# SPDX-License-Identifier: Apache-2.0
"""machine.py: asks a simulated machine by the library in Python, and prints what it found as
JSON. AGENTD_SOCKET and AGENTD_ADMIN_SOCKET name the machine.
"""

import base64
import copy
import json
import multiprocessing
import os
import pickle
import subprocess
import tempfile
import threading

import agentd


def refused(call):
    try:
        call()
    except agentd.AgentdError as e:
        return {"kind": type(e).__name__, "code": e.code, "title": e.title, "hint": e.hint, "text": str(e)}
    return None


def shown(secret):
    "Whatever shows an object by accident."
    texts = [str(secret), repr(secret), f"{secret}", repr([secret]), repr({"s": secret}), "%s" % (secret,)]
    for attempt in (lambda: json.dumps(secret), lambda: pickle.dumps(secret), lambda: copy.deepcopy(secret), lambda: hash(secret), lambda: bytes(secret)):
        try:
            texts.append(repr(attempt()))
        except TypeError as e:
            texts.append(repr(e))
    return "\n".join(texts)


def child(agent, queue):
    queue.put(agent.self().pid)


def signers(folder):
    "Makes a key of each kind by openssl, and yields its public half and a function that signs."
    pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"]
    for name, make, sign in (
        ("ed25519", ["-algorithm", "ed25519"], ["pkeyutl", "-rawin", "-in", "message", "-inkey"]),
        ("p256", ["-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], ["dgst", "-sha256"]),
        ("p384", ["-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"], ["dgst", "-sha384"]),
        ("p521", ["-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"], ["dgst", "-sha512"]),
        ("rsa", ["-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048"], ["dgst", "-sha256", *pss]),
    ):

        def openssl(*args):
            return subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True).stdout

        openssl("genpkey", *make, "-out", name)

        def signature(message, name=name, sign=sign):
            with open(os.path.join(folder, "message"), "wb") as f:
                f.write(message)
            return openssl(*sign, name, "-sign") if name == "ed25519" else openssl(*sign, "-sign", name, "message")

        yield name, openssl("pkey", "-in", name, "-pubout", "-outform", "DER"), signature


def main():
    agent, admin = agentd.Client(), agentd.Admin()
    nonce = bytes(range(32))
    me = agent.self()
    derived = agent.derive("disk", 32)
    agent.seal("token-py", agentd.Secret(b"correct horse battery staple"), associated_data=b"ctx")
    unsealed = agent.unseal("token-py", associated_data=b"ctx")
    signed = agent.sign("host", "ed25519", message=b"message")
    with tempfile.TemporaryDirectory() as folder:
        proven = {
            name: agent.evidence_with_key(nonce, public, sign, freshness="anchored", audience="billing.example")
            for name, public, sign in signers(folder)
        }
    event = agent.emit("model", content=b"weights")
    out = {
        "pid": me.pid == os.getpid(),
        "app": me.app,
        "agentKey": base64.b64encode(me.agent_key).decode(),
        "ready": agent.status(check="now").evidence.ready,
        "evidence": base64.b64encode(agent.evidence(nonce, audience="billing.example", user_data=b"user", signing_key=agentd.SigningKey(label="host", algorithm="ed25519"))).decode(),
        "anchored": base64.b64encode(agent.evidence(nonce, freshness="anchored")).decode(),
        "proven": {name: base64.b64encode(document).decode() for name, document in proven.items()},
        "publicKey": base64.b64encode(signed.public_key).decode(),
        "samePublicKey": agent.public_key("host", "ed25519").public_key == signed.public_key,
        "signature": base64.b64encode(signed.signature).decode(),
        "derived": derived.secret.reveal().hex(),
        "derivedAgain": agent.derive("disk", 32).secret == derived.secret,
        "derivedOther": agent.derive("other", 32).secret == derived.secret,
        "unsealed": unsealed.data.reveal().decode(),
        "shown": "\n".join([shown(derived.secret), repr(derived), str(unsealed), shown(unsealed.data)]),
        "plan": agent.plan(name="token-py").name,
        "event": event.record in [e.record for e in agent.events(domain="model").events],
        "records": agent.log(start=1).start,
        "cel": len(json.loads(agent.log_cel_json(start=1))) > 0,
        "paths": len(json.loads(agent.open_api())["paths"]),
        "metrics": b"agentd_evidence_ready 1" in admin.metrics() and b"agentd_" in agent.metrics(),
        "apps": [a.name for a in admin.apps().apps],
        "measured": admin.measure("billing").name,
        "noSuchApp": refused(lambda: admin.measure("nothing-like-it")),
        "shortNonce": refused(lambda: agent.evidence(b"short")),
        "notSealed": refused(lambda: agent.unseal("nothing-like-it")),
        "wrongContext": refused(lambda: agent.unseal("token-py", associated_data=b"other")),
        "badProof": refused(lambda: agent.evidence(nonce, public_key=signed.public_key, key_proof=bytes(64))),
        "wrongMember": typed(lambda: agent.derive("disk", 32, size=32)),
        "wrongInside": typed(lambda: agent.evidence(nonce, signing_key=agentd.SigningKey(label="host", algorithm="ed25519", size=32))),
        "wrongType": typed(lambda: agent.derive("disk", "32")),
        "nowhere": refused(lambda: agentd.Client("/nowhere/agentd.sock").status()),
        "noTime": refused(lambda: agent.status(timeout=0)),
    }
    agent.discard("token-py")
    out["discarded"] = refused(lambda: agent.unseal("token-py"))["code"]
    derived.secret.wipe()
    out["wiped"] = len(derived.secret)
    with unsealed.data:
        pass
    out["wipedAfterWith"] = len(unsealed.data)
    out["refusedAfterWipe"] = wiped(derived.secret.reveal) and wiped(lambda: agent.seal("token-py", unsealed.data)) and derived.secret != unsealed.data

    document = agentd.unverified(base64.b64decode(out["evidence"]))
    s = document.statement
    out["parsed"] = s.nonce == nonce and s.audience == "billing.example" and s.user_data == b"user" and s.caller.pid == os.getpid()
    out["notParsed"] = refused(lambda: agentd.unverified(b'{"type":"agentd/evidence/2"}'))["code"]

    # A child after fork is another process to the agent. Threads share the client.
    queue = multiprocessing.get_context("fork").SimpleQueue()
    p = multiprocessing.get_context("fork").Process(target=child, args=(agent, queue))
    p.start()
    out["child"] = queue.get() == p.pid != os.getpid()
    p.join()
    seen = []
    threads = [threading.Thread(target=lambda: seen.extend(agent.self().pid for _ in range(20))) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    out["threads"] = len(seen) == 160 and set(seen) == {os.getpid()}
    out["methods"] = [o.name for o in agentd._client.OPERATIONS.values() if not method(o)]
    print(json.dumps(out))


def typed(call):
    try:
        call()
    except TypeError as e:
        return str(e)
    return None


def wiped(call):
    "Reports whether a call refuses a secret that was wiped."
    try:
        call()
    except ValueError:
        return True
    return False


def method(o):
    "Reports whether the clients of its sockets have the operation."
    name = {"openAPI": "open_api", "publicKey": "public_key"}.get(o.name) or "".join("_" + c.lower() if c.isupper() else c for c in o.name).replace("_a_k", "_ak").replace("_t_p_m", "_tpm")
    return all(callable(getattr(c, name, None)) for c, s in ((agentd.Client, "client"), (agentd.Admin, "admin")) if o.socket in (s, "both"))


if __name__ == "__main__":
    main()
