# SPDX-License-Identifier: Apache-2.0
"""The document and the statement: docs/evidence.md, sections 3 and 4."""
import re

from strict import Bool, Bytes, Int, List, Obj, Text, Word, may, must, need, parse

SIZES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
DIGEST = Bytes(32)
HEAD = Obj(count=must(Int()), digest=must(DIGEST))

PCR = Obj(index=must(Int(0, 23)), value=must(Bytes(20, 64)))
BANK = Obj(algorithm=must(Word(*SIZES)), pcrs=must(List(PCR, 1, 24)))
SNAPSHOT = Obj(
    tree=must(Obj(root=must(DIGEST), size=must(Int(1, 4096)))),
    time=must(Int()),
    logHead=must(HEAD),
    quote=must(Obj(attest=must(Bytes(1, 2048)), signature=must(Bytes(1, 2048)))),
    pcrs=must(List(BANK, 1, 4)),
)
DOCUMENT = Obj(
    type=must(Word("agentd/evidence/2")),
    statement=must(Bytes(1, 65536)),
    inclusion=must(Obj(index=must(Int()), path=may(List(DIGEST, 0, 12)))),
    batch=must(SNAPSHOT),
    agentSignature=must(Bytes(64)),
    anchor=may(SNAPSHOT),
    report=must(Obj(kind=must(Text(1, 64)), bytes=must(Bytes(1, 4096)))),
    agentKey=must(Bytes(32)),
    ak=must(Bytes(1, 1024)),
    log=may(Obj(start=must(Int()), previous=may(DIGEST), records=may(Bytes(0, 16 << 20)))),
    firmwareLog=may(Bytes(0, 1 << 20)),
    ima=may(Obj(start=must(Int()), entries=may(Bytes(0, 8 << 20)))),
    certificates=may(List(Bytes(1, 16384), 0, 16)),
)
EXECUTABLE = Obj(
    state=must(Word("file", "replaced", "memfd", "unreadable")),
    path=may(Text(0, 4096)),
    digest=may(DIGEST),
    covered=may(Bool()),
)
CONTAINER = Obj(
    engine=must(Word("podman", "docker", "containerd", "cri-o")), id=must(Text(1, 128)),
    started=must(Int()), root=must(DIGEST), image=may(DIGEST),
)
CALLER = Obj(
    uid=must(Int(0, 2**32 - 2)),
    gid=must(Int(0, 2**32 - 2)),
    pid=must(Int(1, 2**31 - 1)),
    started=must(Int()),
    unitStarted=may(Int()),
    unit=may(Text(0, 256)),
    invocation=may(Bytes(16)),
    app=may(Text(0, 256)),
    method=must(Word("pidfd", "start-time")),
    container=may(CONTAINER),
    executable=may(EXECUTABLE),
)
STATEMENT = Obj(
    type=must(Word("agentd/statement/2")),
    nonce=must(Bytes(16, 64)),
    audience=may(Text(0, 256)),
    userData=may(Bytes(0, 4096)),
    publicKey=may(Bytes(0, 8192)),
    keyProof=may(Bytes(0, 1024)),
    freshness=must(Word("fresh", "anchored")),
    salt=must(Bytes(16, 64)),
    caller=must(CALLER),
)


def container_id(text):
    """container_id refuses what is not the id of a container."""
    need(re.fullmatch("[A-Za-z0-9_][A-Za-z0-9_.-]*", text), "not the id of a container")


def _snapshot(snapshot):
    head = snapshot["logHead"]
    need((head["count"] == 0) == (head["digest"] == bytes(32)), "the head is zero, or its count")
    for bank in snapshot["pcrs"]:
        last = -1
        for pcr in bank["pcrs"]:
            need(pcr["index"] > last, "indices of PCRs do not rise")
            need(len(pcr["value"]) == SIZES[bank["algorithm"]], "a PCR of another size")
            last = pcr["index"]


def document(data):
    """document decodes the whole document: check evidence.decode."""
    doc = DOCUMENT.decode(parse(data, 36 << 20))
    _snapshot(doc["batch"])
    if doc["anchor"] is not None:
        _snapshot(doc["anchor"])
    if doc["log"] is not None:
        log = doc["log"]
        log["previous"] = log["previous"] or bytes(32)
        log["records"] = log["records"] or b""
        need((log["start"] == 0) == (log["previous"] == bytes(32)), "previous and start disagree")
    return doc


def statement(data):
    """statement decodes the exact bytes of a statement: check statement.decode."""
    said = STATEMENT.decode(parse(data, 65536))
    caller, inside = said["caller"], said["caller"]["container"]
    if inside is not None:
        container_id(inside["id"])
        need(any(inside["root"]) and (inside["image"] is None or any(inside["image"])), "a digest of zeros")
    need(said["keyProof"] is None or said["publicKey"] is not None, "a proof without a key")
    if caller["unit"] is None:
        need(caller["invocation"] is None, "an invocation without a unit")
        need(caller["app"] is None or caller["container"], "an app without a unit or a container")
        need(caller["unitStarted"] is None, "the start of no unit")
    else:
        need(caller["unitStarted"] is not None, "a unit that never started")
        need(caller["unitStarted"] <= caller["started"], "a unit that started after its process")
    return said

