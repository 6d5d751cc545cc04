#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A client of attested TLS (agentd/1), written from docs/attested-tls.md alone.

It connects, has the server show evidence, checks what binds that to the connection, hands it to a
verifier (a command with further arguments), and sends a line if all of it is accepted. With
--attest it also shows evidence of an agent, if the server asks. With --continue N it connects N
times more, and offers to continue the evidence of the first connection. It prints one line of JSON,
and ends with 0 if all connections were accepted, otherwise with 2.
"""

import argparse
import base64
import functools
import hashlib
import hmac
import http.client
import json
import os
import re
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

from OpenSSL import SSL, crypto

LABEL = b"agentd/attested-tls/1"
MOST, MOST_EVIDENCE = 65536, 50335744
CODE = re.compile(r"[a-z-]{1,32}")


class Refused(Exception):
    """The connection is refused, by this end or by the other."""

    def __init__(self, code, remote=False):
        super().__init__(code)
        self.code, self.remote = code, remote


# Messages, section 4: name of each member, its type, and whether it may be absent.
SHAPES = {
    "hello": {"application": (str, True), "attests": (bool, True), "verify": (dict, True)},
    "evidence": {"document": (bytes, False), "session": (bytes, True), "secret": (bytes, True)},
    "continued": {"session": (bytes, False), "evidence": (bytes, False), "salt": (bytes, False), "proof": (bytes, False)},
    "verdict": {"evidence": (bytes, False), "confirm": (bytes, False)},
    "start": {"confirm": (bytes, True)},
    "refused": {"code": (str, False)},
}
WISH = {"role": (str, False), "nonce": (bytes, False), "audience": (str, True), "freshness": (str, False), "firmwareLog": (bool, True), "continue": (list, True)}
OFFER = {"session": (bytes, False), "evidence": (bytes, False)}
SIZES = {"nonce": 32, "confirm": 32, "session": 16, "secret": 32, "salt": 32, "proof": 32, "evidence": 32}
LONGEST = {"application": 64, "audience": 256}


def unique(pairs):
    """Refuses members that are there twice."""
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a member is there twice")
    return out


def unbase64(text):
    """Decodes canonical base64."""
    out = base64.b64decode(text, validate=True)
    if base64.b64encode(out).decode() != text:
        raise ValueError("not canonical base64")
    return out


def strict(text):
    """Reads one JSON object."""
    value = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def shaped(value, shape):
    """Checks the members of an object, and decodes byte strings."""
    out = {}
    for name, (kind, optional) in shape.items():
        if name not in value:
            if not optional:
                raise ValueError(f"{name} is missing")
            continue
        got = value.pop(name)
        if not isinstance(got, str if kind is bytes else kind):
            raise ValueError(f"{name} is of another type")
        out[name] = got = unbase64(got) if kind is bytes else got
        if kind is bytes and len(got) != SIZES.get(name, len(got)) or got in (False, "", b""):
            raise ValueError(f"{name} is not as it must be")
        if kind is str and len(got.encode()) > LONGEST.get(name, len(got.encode())):
            raise ValueError(f"{name} is too long")
    if value:
        raise ValueError("unknown members")
    return out


def wished(value):
    """Checks what an end wants."""
    out = shaped(value, WISH)
    if out["freshness"] not in ("fresh", "anchored") or out["role"] not in ("client", "server"):
        raise ValueError("verify is not as it must be")
    if "continue" in out:
        if len(out["continue"]) > 4 or out["freshness"] == "fresh":
            raise ValueError("verify.continue is not as it must be")
        out["continue"] = [shaped(offer, OFFER) for offer in out["continue"]]
    return out


def parse(text, due):
    """Reads a message of one of the types that are due, and returns which, and what it says."""
    try:
        value = strict(text)
        kind = value.pop("type")
        if kind == "refused":
            code = shaped(value, SHAPES[kind])["code"]
            if not CODE.fullmatch(code):
                raise ValueError("not a code")
            raise Refused(code, remote=True)
        if kind not in due:
            raise Refused("unexpected")
        if kind != "evidence" and len(text) > MOST:
            raise Refused("frame")
        out = shaped(value, SHAPES[kind])
        if "verify" in out:
            out["verify"] = wished(out["verify"])
        if ("session" in out) != ("secret" in out) and kind == "evidence":
            raise ValueError("a session without a secret, or the other way round")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise Refused("message") from err
    return kind, out


def preimage(label, *parts):
    """The labelled encoding of evidence.md, section 5."""
    return b"".join(struct.pack(">Q", len(p)) + p for p in (label, *parts))


def user_data(role, exporter):
    """The user data of evidence of an end in this role."""
    role = role.encode()
    return LABEL + b"\0" + role + b"\0" + hashlib.sha256(preimage(LABEL, role, exporter)).digest()


def misbound(got, role, exporter):
    """The code for user data that is not what it must be."""
    want = user_data(role, exporter)
    if got == want:
        return None
    if len(got) != len(want) or not got.startswith(LABEL + b"\0"):
        return "user-data"
    return "exporter" if got.startswith(want[:29]) else "role"


def element(b, at):
    """Where the content of a DER element begins, and where it ends."""
    size, begin = b[at + 1], at + 2
    if size & 0x80:
        n = size & 0x7F
        size, begin = int.from_bytes(b[begin:begin + n], "big"), begin + n
    return begin, begin + size


def public_key(der):
    """The SubjectPublicKeyInfo of a certificate, byte for byte: the 7th element of its first part."""
    at, _ = element(der, element(der, 0)[0])
    for _ in range(6):  # version, serial number, algorithm, issuer, validity, subject
        _, at = element(der, at)
    return der[at:element(der, at)[1]]


class Connection:
    """The frames of a connection."""

    def __init__(self, address, attests):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_alpn_protos([b"agentd/1"])
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        self.started = False  # what this end sends is application data
        self.own = self.certify(context) if attests else None
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.socket.settimeout(None)
        self.tls = SSL.Connection(context, self.socket)
        self.tls.set_connect_state()
        self.tls.set_tlsext_host_name(b"server.example")
        try:
            self.tls.do_handshake()
        except SSL.Error as err:
            raise Refused("tls") from err
        if self.tls.get_protocol_version_name() != "TLSv1.3":
            raise Refused("tls")
        if self.tls.get_alpn_proto_negotiated() != b"agentd/1":
            raise Refused("alpn")
        self.exporter = self.tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        self.key = public_key(crypto.dump_certificate(crypto.FILETYPE_ASN1, self.tls.get_peer_certificate()))

    @staticmethod
    def certify(context):
        """Gives this end its key and its certificate, and returns its SubjectPublicKeyInfo."""
        key, x = Connection.own_pair()
        context.use_privatekey(key)
        context.use_certificate(x)
        return public_key(crypto.dump_certificate(crypto.FILETYPE_ASN1, x))

    @staticmethod
    @functools.cache
    def own_pair():
        """Makes a key and a certificate, once."""
        key = crypto.PKey()
        key.generate_key(crypto.TYPE_RSA, 2048)
        x = crypto.X509()
        x.set_version(2)
        x.set_serial_number(secrets.randbits(100))
        x.get_subject().CN = "client"
        x.set_issuer(x.get_subject())
        x.gmtime_adj_notBefore(-3600)
        x.gmtime_adj_notAfter(3600)
        x.set_pubkey(key)
        x.sign(key, "sha256")
        return key, x

    def send(self, kind, **members):
        """Sends a message."""
        text = json.dumps({"type": kind, **members}).encode()
        try:
            self.tls.sendall(struct.pack(">I", len(text)) + text)
        except SSL.Error as err:
            raise Refused("truncated") from err

    def exactly(self, n):
        """Reads that many bytes, as they arrive."""
        parts = []
        while n > 0:
            try:
                parts.append(self.tls.recv(min(n, 65536)))
            except SSL.Error as err:
                raise Refused("truncated") from err
            n -= len(parts[-1])
        return b"".join(parts)

    def receive(self, *due):
        """Reads a message of one of these types. If there are several, it also returns which."""
        (size,) = struct.unpack(">I", self.exactly(4))
        if not 2 <= size <= (MOST_EVIDENCE if "evidence" in due else MOST):
            raise Refused("frame")
        kind, out = parse(self.exactly(size), due)
        return (kind, out) if len(due) > 1 else out

    def line(self, text):
        """Sends application data, and returns what comes back, up to the end of a line."""
        self.tls.sendall(text)
        out = b""
        while not out.endswith(b"\n"):
            out += self.exactly(1)
        return out


def judge(c, document, nonce, options):
    """Checks the evidence of the server (section 7)."""
    try:
        statement = strict(unbase64(strict(document)["statement"]))
        got = {n: unbase64(statement[n]) if n in statement else b"" for n in ("nonce", "publicKey", "userData")}
    except (ValueError, KeyError, TypeError) as err:
        raise Refused("forged") from err
    if got["nonce"] != nonce:
        raise Refused("nonce")
    if statement.get("audience", "") != options.audience:
        raise Refused("audience")
    if got["publicKey"] != c.key:
        raise Refused("key")
    code = misbound(got["userData"], "server", c.exporter)
    if code:
        raise Refused(code)
    if options.fresh and "anchor" in strict(document):
        raise Refused("freshness")
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "evidence.json")
        with open(file, "wb") as f:
            f.write(document)
        command = options.verifier + ["--nonce", nonce.hex(), "--user-data", got["userData"].hex()]
        if options.audience:
            command += ["--audience", options.audience]
        done = subprocess.run(command + [file], stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise Refused({2: "forged", 3: "collateral", 4: "revoked", 5: "policy"}.get(done.returncode, "forged"))


class Agent(http.client.HTTPConnection):
    """The agent of this machine, on its socket."""

    def __init__(self, path):
        super().__init__("agentd", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)

    def evidence(self, c, wish):
        """Evidence of this end for the wish of the server."""
        text = lambda b: base64.b64encode(b).decode()
        body = {"nonce": text(wish["nonce"]), "userData": text(user_data("client", c.exporter)), "publicKey": text(c.own), "freshness": wish["freshness"]}
        if wish.get("audience"):
            body["audience"] = wish["audience"]
        if wish.get("firmwareLog"):
            body["firmwareLog"] = True
        self.request("POST", "/v1/evidence", json.dumps(body), {"Content-Type": "application/json"})
        answer = self.getresponse()
        if answer.status != 200:
            raise Refused("agent")
        return answer.read()


def proof(secret, role, exporter, wish, key, m):
    """The proof of an end in this role (section 5)."""
    parts = (role, exporter, wish["nonce"], wish.get("audience", "").encode(), key, m["session"], m["evidence"], m["salt"])
    return hmac.new(secret, preimage(LABEL + b"/continued", *parts), hashlib.sha256).digest()


class Memory:
    """What this client remembers of accepted evidence (section 5), under one policy."""

    def __init__(self, most):
        self.most, self.known = most, []  # newest first

    def offers(self, c):
        """What may be continued on this connection."""
        now = time.time()
        self.known = [k for k in self.known if 0 <= now - k["asked"] < self.most][:4]
        return [k for k in self.known if k["key"] == c.key]

    def learn(self, c, asked, document, shown):
        """Remembers evidence that was accepted, if the other end wants to be known again."""
        if "secret" in shown:
            digest = hashlib.sha256(document).digest()
            self.known.insert(0, {"key": c.key, "asked": asked, "evidence": digest, "session": shown["session"], "secret": shown["secret"]})

    def check(self, c, wish, offered, shown):
        """Checks the proof of an end that continues."""
        found = [k for k in offered if (k["session"], k["evidence"]) == (shown["session"], shown["evidence"])]
        if not found:
            raise Refused("continued")
        if not hmac.compare_digest(proof(found[0]["secret"], b"server", c.exporter, wish, c.key, shown), shown["proof"]):
            self.known.remove(found[0])
            raise Refused("continued")
        if not 0 <= time.time() - found[0]["asked"] < self.most:  # time passed while the other end answered
            raise Refused("continued")


class Sessions:
    """By what this end is known again: the name of this process, and a secret for each document."""

    name, secrets = secrets.token_bytes(16), {}

    def answer(self, c, wish, agent):
        """The message that answers the wish of a server, and what the verdict on it names."""
        for offer in wish.get("continue", []):
            if offer["session"] == self.name and offer["evidence"] in self.secrets:
                m = {**offer, "salt": secrets.token_bytes(32)}
                m["proof"] = proof(self.secrets[offer["evidence"]], b"client", c.exporter, wish, c.own, m)
                return "continued", m, m["proof"]
        document = Agent(agent).evidence(c, wish)
        m = {"document": document}
        if "continue" in wish:
            m["session"], m["secret"] = self.name, secrets.token_bytes(32)
            self.secrets[hashlib.sha256(document).digest()] = m["secret"]
        return "evidence", m, document


SESSIONS = Sessions()


def exchange(c, options, memory):
    """Does the exchange of a client that verifies (section 5). Reports whether it continued."""
    nonce, asked_at = secrets.token_bytes(32), time.time()
    text = lambda b: base64.b64encode(b).decode()
    wish = {"role": "server", "nonce": text(nonce), "freshness": "fresh" if options.fresh else "anchored"}
    if options.audience:
        wish["audience"] = options.audience
    offered = []
    if memory:
        offered = memory.offers(c)
        wish["continue"] = [{n: text(k[n]) for n in OFFER} for k in offered]
    own = {"verify": wish}
    if options.attest:
        own["attests"] = True
    if options.application:
        own["application"] = options.application
    c.send("hello", **own)
    theirs = c.receive("hello")
    if "attests" in theirs:
        raise Refused("message")
    if theirs.get("application", "") != options.application:
        raise Refused("application")
    asked = theirs.get("verify")
    if asked:
        if asked["role"] != "client":
            raise Refused("role")
        if asked["nonce"] == nonce:
            raise Refused("nonce")
        if not options.attest:
            raise Refused("not-attested")
    kind, shown = c.receive("evidence", "continued")
    if kind == "continued":
        (memory or Memory(0)).check(c, {"nonce": nonce, "audience": options.audience}, offered, shown)
        answer = shown["proof"]
    else:
        if "secret" in shown and not memory:
            raise Refused("continued")
        answer = shown["document"]
        judge(c, answer, nonce, options)
    confirm = secrets.token_bytes(32)
    c.send("verdict", evidence=text(hashlib.sha256(answer).digest()), confirm=text(confirm))
    begin = {}
    if asked:
        own_kind, members, own_answer = SESSIONS.answer(c, asked, options.attest)
        c.send(own_kind, **{n: text(b) for n, b in members.items()})
        verdict = c.receive("verdict")
        if verdict["evidence"] != hashlib.sha256(own_answer).digest():
            raise Refused("early-data")
        begin["confirm"] = text(verdict["confirm"])
    c.send("start", **begin)
    c.started = True
    if c.receive("start").get("confirm") != confirm:
        raise Refused("early-data")
    if kind == "evidence" and memory:
        memory.learn(c, asked_at, answer, shown)
    return kind == "continued"


def connect(options, memory):
    """Connects once, and returns what came of it, and whether the connection continued another."""
    out, c, continued = {}, None, False
    try:
        c = Connection(options.address, options.attest)
        continued = exchange(c, options, memory)
        out["answer"] = c.line(b"hello\n").decode()
    except Refused as err:
        out = {"code": err.code, "remote": err.remote}
        if c and not c.started and not err.remote and err.code not in ("tls", "alpn", "truncated"):
            try:
                c.send("refused", code=err.code)
            except Refused:
                pass
    if c:
        try:
            c.tls.shutdown()
        except SSL.Error:
            pass
        c.socket.close()
    return out, continued


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--audience", default="")
    p.add_argument("--application", default="")
    p.add_argument("--fresh", action="store_true")
    p.add_argument("--continue", metavar="N", type=int, dest="again")
    p.add_argument("--attest", metavar="SOCKET", default="")
    p.add_argument("address")
    p.add_argument("verifier", nargs=argparse.REMAINDER)
    options = p.parse_args()
    signal.alarm(90)  # a server that hangs
    memory = None if options.again is None else Memory(600)
    out, _ = connect(options, memory)
    for _ in range(options.again or 0):
        if "answer" in out:
            before = out.get("continued", [])
            out, continued = connect(options, memory)
            out["continued"] = before + [continued]
    print(json.dumps(out))
    return 0 if "answer" in out else 2


if __name__ == "__main__":
    sys.exit(main())
