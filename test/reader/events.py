# SPDX-License-Identifier: Apache-2.0
"""The events of the log: docs/measurements.md, section 3."""
import re

from commitments import be64, labelled, sha256
from document import DIGEST, HEAD, SIZES, container_id
from strict import Bool, Bytes, Int, List, Obj, Text, Word, may, must, need, parse

NAME, REASON, UNIT = Text(1, 256), Text(1, 1024), Text(0, 256)
ENTRY = Obj(path=must(Text(1, 4096)), mode=must(Int(0, 2**32 - 1)), size=must(Int()), digest=must(DIGEST))
VALUE = Obj(algorithm=must(Word(*SIZES)), value=must(Bytes(20, 64)))
SECOND = Obj(pcr=must(Int(0, 15)), values=must(List(VALUE, 1, 4)))
START = Obj(pcr=must(Int(0, 15)), values=must(List(VALUE, 1, 4)), events=may(SECOND), previous=may(HEAD))
AGENT = Obj(
    version=must(NAME), digest=must(DIGEST), configuration=must(DIGEST),
    declarations=may(List(Obj(app=must(NAME), digest=must(DIGEST)), 0, 4096)),
    agentKey=must(Bytes(32)), previous=must(HEAD),
)
APP = Obj(
    app=must(NAME), unit=may(UNIT), user=may(UNIT), uid=may(Int(0, 2**32 - 2)), dynamic=may(Bool()),
    users=may(List(Obj(user=must(NAME), uid=must(Int(0, 2**32 - 2))), 0, 16)), declaration=must(DIGEST),
    manifest=must(List(ENTRY, 1, 20000)), digest=must(DIGEST),
)
SAME = Obj(app=must(NAME), declaration=must(DIGEST), digest=must(DIGEST), carried=may(Bool()), reason=must(REASON))
PATH, WORDS = Text(1, 4096), List(Text(1, 4096), 0, 64)
ENGINE = Word("podman", "docker", "containerd", "cri-o")
KIND = Word("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
CONTAINER = Obj(
    engine=must(ENGINE), id=must(Text(1, 128)),
    app=may(Text(0, 256)), declaration=may(DIGEST), started=must(Int()), cgroup=must(PATH),
    image=may(Obj(name=may(Text(0, 256)), config=may(DIGEST), manifest=may(DIGEST))),
    root=must(Obj(digest=must(DIGEST), files=must(Int(0, 200000)), bytes=must(Int()), readOnly=may(Bool()))),
    process=must(Obj(
        args=must(List(Bytes(0, 128 << 10), 1, 4096)), cwd=must(PATH),
        uid=must(Int(0, 2**32 - 2)), gid=must(Int(0, 2**32 - 2)), groups=may(List(Int(0, 2**32 - 2), 0, 1024)),
        environment=may(List(PATH, 0, 4096)), environmentHash=may(DIGEST),
        capabilities=may(WORDS), noNewPrivileges=may(Bool()), seccomp=may(DIGEST), terminal=may(Bool()),
    )),
    mounts=may(List(Obj(
        destination=must(PATH), type=must(Text(1, 256)), source=may(Text(0, 4096)), options=may(WORDS),
    ), 0, 1024)),
    devices=may(List(Obj(
        path=must(PATH), type=must(Word("b", "c", "p", "u")), major=must(Int(0, 2**32 - 1)), minor=must(Int(0, 2**32 - 1)),
    ), 0, 1024)),
    allDevices=may(Bool()),
    namespaces=may(List(KIND, 0, 64)), shared=may(List(KIND, 0, 64)),
)
EMITTED = Obj(
    app=must(NAME), unit=may(NAME), container=may(Obj(engine=must(ENGINE), id=must(Text(1, 128)))), uid=must(Int(0, 2**32 - 2)), domain=must(Text(1, 128)),
    content=may(Bytes(1, 1024)), digest=may(DIGEST),
)
TYPES = {
    "log-start": ("start", START),
    "agent-start": ("agent", AGENT),
    "agent-reload": ("agent", AGENT),
    "agent-stop": ("stop", Obj(agentKey=must(Bytes(32)))),
    "app": ("app", APP),
    "app-same": ("same", SAME),
    "app-unmeasured": ("unmeasured", Obj(app=must(NAME), reason=must(REASON))),
    "gap": ("gap", Obj(reason=must(REASON))),
    "container": ("container", CONTAINER),
    "app-event": ("emitted", EMITTED),
    "gate-start": ("gateStart", Obj(
        gate=must(DIGEST), apps=may(List(Obj(app=must(NAME), enforce=may(Bool())), 0, 4096)), carried=may(Bool()))),
    "gate-gap": ("gateGap", Obj(app=may(Text(0, 256)), reason=must(REASON))),
    "exec": ("exec", Obj(app=must(NAME), path=must(Text(1, 4096)), digest=must(DIGEST), refused=may(Bool()))),
    "full": None,
}


def _ascending(keys):
    keys = list(keys)
    need(all(a < b for a, b in zip(keys, keys[1:])), "not ascending, or not each once")


def _start_values(values):
    _ascending(list(SIZES).index(v["algorithm"]) for v in values)
    for v in values:
        need(len(v["value"]) == SIZES[v["algorithm"]], "a value of another size")


def _log_start(start):
    _start_values(start["values"])
    second = start["events"]
    if second is not None:
        _start_values(second["values"])
        banks = [[v["algorithm"] for v in x["values"]] for x in (start, second)]
        need(banks[0] == banks[1], "other banks for the events")
        need(second["pcr"] in {8, 9, 11, 12, 13, 14, 15} - {start["pcr"]}, "not a PCR for events")
    if start["previous"] is not None:
        need(start["previous"]["count"] and any(start["previous"]["digest"]), "an empty log of before")


def _app(app):
    if app["dynamic"]:
        need(app["user"] and app["uid"] is None and not app["users"], "a dynamic user without a name, or with a uid")
    else:
        need((app["user"] is None) == (app["uid"] is None), "uid without user, or the other way round")
    parts = []
    _ascending(f["path"].encode() for f in app["manifest"])
    for f in app["manifest"]:
        need(f["path"].startswith("/"), "not an absolute path")
        need(f["mode"] & 0o170000 in (0o100000, 0o120000), "not a regular file or symbolic link")
        parts += [f["path"].encode(), f["mode"].to_bytes(4, "big"), be64(f["size"]), f["digest"]]
    need(app["digest"] == sha256(labelled("agentd/manifest/1", *parts)), "not the digest of the manifest")


def _container(c, size):
    need(size <= 256 << 10, "an event of a container that is too long")
    container_id(c["id"])
    need((c["app"] is None) == (c["declaration"] is None), "app without declaration, or the other way round")
    need(c["image"] is None or any(v is not None for v in c["image"].values()), "an image without members")
    process = c["process"]
    need(not any(0 in a for a in process["args"]), "an argument with a zero byte")
    names = process["environment"] or []
    need(not any("=" in n for n in names), "a name with =")
    need(process["environmentHash"] is None or "AGENTD_ENVIRONMENT_SALT" in names, "a digest that could be guessed")
    need(all(re.fullmatch("CAP_[A-Z0-9_]{1,60}", n) for n in process["capabilities"] or []), "not a capability")
    need(set(c["shared"] or []) <= set(c["namespaces"] or []), "a namespace that is shared and not its own")
    for words in (names, process["capabilities"], c["namespaces"], c["shared"]):
        _ascending(w.encode() for w in words or [])
    _ascending(process["groups"] or [])
    paths = [c["cgroup"], process["cwd"]] + [m["destination"] for m in c["mounts"] or []] + [d["path"] for d in c["devices"] or []]
    need(all(p.startswith("/") for p in paths), "not an absolute path")


def _emitted(emitted):
    need((emitted["content"] is None) != (emitted["digest"] is None), "not exactly one of content and digest")
    need(not emitted["domain"].startswith("agentd/"), "a domain of the agent")
    need((emitted["unit"] is None) != (emitted["container"] is None), "not exactly one of unit and container")
    if emitted["container"]:
        container_id(emitted["container"]["id"])


def event(content):
    """event decodes a content that is spelled in the one way."""
    value = parse(content, 1 << 20)
    need(isinstance(value, dict) and isinstance(value.get("type"), str) and value["type"] in TYPES, "unknown event")
    member = TYPES[value["type"]]
    members = {"type": must(Word(value["type"])), "time": must(Int())}
    if member:
        members[member[0]] = must(member[1])
    schema = Obj(**members)
    e = schema.decode(value)
    need(schema.spell(e).encode() == content, "another spelling")
    if value["type"] == "log-start":
        _log_start(e["start"])
    elif value["type"] == "app":
        _app(e["app"])
    elif value["type"] == "container":
        _container(e["container"], len(content))
    elif value["type"] == "app-event":
        _emitted(e["emitted"])
    elif value["type"] == "gate-start":
        _ascending(a["app"].encode() for a in e["gateStart"]["apps"] or [])
    elif value["type"] == "exec":
        need(e["exec"]["path"].startswith("/"), "not an absolute path")
    elif "agent" in e:
        _ascending(d["app"].encode() for d in e["agent"]["declarations"] or [])
        head = e["agent"]["previous"]
        need((head["count"] == 0) == (head["digest"] == bytes(32)), "the head is zero, or its count")
    return e
