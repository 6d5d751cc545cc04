# SPDX-License-Identifier: Apache-2.0
"""Log, caller and continuation: docs/evidence.md, sections 9 and 10, steps 8 to 12."""
import log

GRACE = 600_000  # how long before the quote a manifest may have been replaced, in milliseconds


def _same_boot(known, key, q, decoded):
    """_same_boot tells if the boot is the known one; None if REPORT_ID and vTPM contradict."""
    vtpm = bool(key and q) and key.name() == known.ak_name and q["reset"] == known.reset_count
    now = decoded.report_id if decoded else bytes(32)
    if any(now) and any(known.report_id):
        if now == known.report_id:
            return True
        return None if vtpm else False
    return vtpm


def _replay(v, doc, known, same):
    part = doc["log"]
    state = log.State()
    if part["start"]:
        head = {"count": part["start"], "digest": part["previous"]}
        if known is None or same is not True or known.head != head:
            v.failed.add("log.continuation")
            return None
        state = known
    try:
        return log.replay(part["records"], state)
    except log.Failed as why:
        v.failed.add(str(why))
        return None


def _values(v, name, snapshot, pcrs):
    """_values compares the replayed values with the quoted ones of one snapshot, PCR by PCR."""
    for pcr, values in pcrs.items():
        strong = False
        for bank in snapshot["pcrs"]:
            for p in bank["pcrs"]:
                if p["index"] == pcr:
                    strong = strong or bank["algorithm"] != "sha1"
                    v.true(name, values.get(bank["algorithm"]) == p["value"])
        v.true(name, strong)


def _caller(v, said, doc, state):
    caller = said["caller"]
    inside = caller["container"]
    if inside is not None:
        body = state.coverage.containers.get((inside["engine"], inside["id"]))
        v.true("log.caller", body and _is_container(body, inside, caller))
        if body and body["app"] is not None:
            return
    if caller["app"] is None:
        v.true("log.caller", not (caller["executable"] or {}).get("covered"))
        return
    app = state.coverage.apps.get(caller["app"])
    events = app.events if app else []
    covered = caller["executable"] and caller["executable"]["covered"]
    fits = [b for b, _ in events if _in_unit(b["unit"], caller["unit"]) and _has_user(b, caller["uid"])]
    if events or covered:
        v.true("log.caller", fits)
    else:
        v.true("log.caller", caller["app"] in state.coverage.declarations or (app and app.unmeasured))
    if covered:
        v.true("log.caller", any(_lists(body, caller["executable"]["digest"]) for body, until in events
                                 if until is None or _recent(until, caller, doc)))


def _is_container(body, inside, caller):
    """_is_container tells if an event is of the container that a statement names."""
    image = (body["image"] or {}).get("config")
    if (body["started"], body["root"]["digest"], image) != (inside["started"], inside["root"], inside["image"]):
        return False
    return body["app"] is None or body["app"] == caller["app"] and not (caller["executable"] or {}).get("covered")


def _has_user(body, uid):
    if body["dynamic"]:
        return 61184 <= uid <= 65519
    return body["uid"] in (None, uid) or any(u["uid"] == uid for u in body["users"] or [])


def _in_unit(declared, unit):
    if declared == unit:
        return True
    prefix, at, kind = (declared or "").partition("@")
    if not at or not prefix or not kind.startswith(".") or "." in kind[1:]:
        return False
    return unit.startswith(prefix + "@") and unit.endswith(kind) and len(unit) > len(declared)


def _recent(until, caller, doc):
    return until >= caller["started"] and until + GRACE >= doc["batch"]["time"]


def _lists(body, digest):
    return any(f["digest"] == digest and f["mode"] & 0o170000 == 0o100000 and f["mode"] & 0o111
               for f in body["manifest"])


def judge(v, doc, said, case, key, q, decoded):
    """judge takes the steps about the log."""
    known = case["known"]
    same = _same_boot(known, key, q, decoded) if known else False
    state = _replay(v, doc, known, same)
    if state is None:
        return
    batch, anchor = doc["batch"], doc["anchor"]
    if known and not doc["log"]["start"]:
        passes = state.snapshots.get(known.head["count"], (None,))[0] == known.head
        v.true("log.continuation", same is not None and passes == same)
    v.true("log.head", state.head == batch["logHead"])
    at = state.snapshots.get(batch["logHead"]["count"])
    v.true("log.time", at is None or at[1] <= batch["time"])
    if "quote.selection" not in v.failed:  # otherwise no value was quoted
        _values(v, "log.replay", batch, state.values)
    v.true("log.agent-key", state.agent_key == doc["agentKey"] and not state.stopped)
    if said is not None:
        _caller(v, said, doc, state)
    if anchor is not None:
        old = state.snapshots.get(anchor["logHead"]["count"])
        if old is None or old[0] != anchor["logHead"]:
            v.failed.add("anchor.log-prefix")
            return
        v.true("log.time", old[1] <= anchor["time"])
        if "anchor.selection" not in v.failed:
            _values(v, "anchor.log-replay", anchor, old[2])
