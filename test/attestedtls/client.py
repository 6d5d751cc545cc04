#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A client of attested TLS (agentd/1), written from docs/attested-tls.md alone.

It connects, has the server show evidence, checks what binds that to the connection, hands it to a
verifier (a command with further arguments), and sends a line if all of it is accepted. With
--attest it also shows evidence of an agent, if the server asks. It prints one line of JSON, and
ends with 0 if the connection was accepted, otherwise with 2.
"""

import argparse
import base64
import hashlib
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
    "evidence": {"document": (bytes, False)},
    "verdict": {"evidence": (bytes, False), "confirm": (bytes, False)},
    "start": {"confirm": (bytes, True)},
    "refused": {"code": (str, False)},
}
WISH = {"role": (str, False), "nonce": (bytes, False), "audience": (str, True), "freshness": (str, False), "firmwareLog": (bool, True)}


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
        out[name] = unbase64(got) if kind is bytes else got
    if value:
        raise ValueError("unknown members")
    return out


def parse(text, due):
    """Reads the message that is due."""
    try:
        value = strict(text)
        kind = value.pop("type")
        if kind == "refused":
            code = shaped(value, SHAPES[kind])["code"]
            if not CODE.fullmatch(code):
                raise ValueError("not a code")
        elif kind == due:
            out = shaped(value, SHAPES[kind])
            if "verify" in out:
                out["verify"] = shaped(out["verify"], WISH)
                if len(out["verify"]["nonce"]) != 32 or out["verify"]["freshness"] not in ("fresh", "anchored"):
                    raise ValueError("verify is not as it must be")
            if len(out.get("confirm", bytes(32))) != 32:
                raise ValueError("confirm is not of 32 bytes")
    except (ValueError, KeyError, UnicodeDecodeError, RecursionError) as err:
        raise Refused("message") from err
    if kind == "refused":
        raise Refused(code, remote=True)
    if kind != due:
        raise Refused("unexpected")
    return out


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
        """Makes a key and a certificate for this end, and returns its SubjectPublicKeyInfo."""
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
        context.use_privatekey(key)
        context.use_certificate(x)
        return public_key(crypto.dump_certificate(crypto.FILETYPE_ASN1, x))

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

    def receive(self, due):
        """Reads the message that is due."""
        (size,) = struct.unpack(">I", self.exactly(4))
        if not 2 <= size <= (MOST_EVIDENCE if due == "evidence" else MOST):
            raise Refused("frame")
        return parse(self.exactly(size), due)

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


def exchange(c, options):
    """Does the exchange of a client that verifies (section 5)."""
    nonce = secrets.token_bytes(32)
    text = lambda b: base64.b64encode(b).decode()
    wish = {"role": "server", "nonce": text(nonce), "freshness": "fresh" if options.fresh else "anchored"}
    if options.audience:
        wish["audience"] = options.audience
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
    document = c.receive("evidence")["document"]
    judge(c, document, nonce, options)
    confirm = secrets.token_bytes(32)
    c.send("verdict", evidence=text(hashlib.sha256(document).digest()), confirm=text(confirm))
    begin = {}
    if asked:
        shown = Agent(options.attest).evidence(c, asked)
        c.send("evidence", document=text(shown))
        verdict = c.receive("verdict")
        if verdict["evidence"] != hashlib.sha256(shown).digest():
            raise Refused("early-data")
        begin["confirm"] = text(verdict["confirm"])
    c.send("start", **begin)
    c.started = True
    if c.receive("start").get("confirm") != confirm:
        raise Refused("early-data")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--audience", default="")
    p.add_argument("--application", default="")
    p.add_argument("--fresh", action="store_true")
    p.add_argument("--attest", metavar="SOCKET", default="")
    p.add_argument("address")
    p.add_argument("verifier", nargs=argparse.REMAINDER)
    options = p.parse_args()
    signal.alarm(90)  # a server that hangs
    out, c = {}, None
    try:
        c = Connection(options.address, options.attest)
        exchange(c, options)
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
    print(json.dumps(out))
    return 0 if "answer" in out else 2


if __name__ == "__main__":
    sys.exit(main())
