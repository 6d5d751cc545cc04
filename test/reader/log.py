# SPDX-License-Identifier: Apache-2.0
"""The measurement log: docs/measurements.md, and docs/evidence.md, section 9."""
import hashlib

from commitments import labelled, sha256
from coverage import Coverage
from document import SIZES
from events import TYPES, event
from strict import Refused, need
from tpm import ALGORITHMS, Cursor


class Failed(Exception):
    """Failed names the check that a log breaks."""


def record(c):
    """record reads one record: number, PCR, digests, content field and content."""
    def field(kind):
        need(c.uint(1) == kind, "another field")
        return c.take(c.uint(4))
    number, pcr = field(0), field(1)
    need(len(number) == 8 and len(pcr) == 1 and pcr[0] <= 15, "recnum or pcr")
    inner, digests = Cursor(field(3)), {}
    last = -1
    while inner.at < len(inner.data):
        kind = inner.uint(1)
        need(kind > last and kind in ALGORITHMS, "banks unknown or not ascending")
        last, digest = kind, inner.take(inner.uint(4))
        need(len(digest) == SIZES[ALGORITHMS[kind]], "digest of another size")
        digests[ALGORITHMS[kind]] = digest
    need(digests, "no digest")
    begin = c.at
    content = field(0xAD)
    need(1 <= len(content) <= 1 << 20, "content too long or empty")
    return int.from_bytes(number, "big"), pcr[0], digests, c.data[begin:c.at], content


class State:
    """State is what a reader knows of a log: from before, and after each record."""

    def __init__(self):
        self.head = {"count": 0, "digest": bytes(32)}
        self.pcr, self.events_pcr = None, None  # the second one, if events of applications have it
        self.values = {}  # by PCR and bank
        self.last = None  # PCR of the last record
        self.time, self.agent_key, self.stopped, self.full = 0, None, False, False
        self.coverage = Coverage()
        self.snapshots = {}  # by count: head, time, values
        self.keep()

    def keep(self):
        """keep notes the state at this head, for the anchor and the log that is known."""
        values = {pcr: dict(banks) for pcr, banks in self.values.items()}
        self.snapshots[self.head["count"]] = (dict(self.head), self.time, values)

    def pcr_of(self, kind):
        """pcr_of gives the PCR that events of a type belong to."""
        return self.events_pcr if kind == "app-event" and self.events_pcr is not None else self.pcr

    def apply(self, number, e):
        """apply takes the next event, under the rules of "Replaying"."""
        kind, body = e["type"], e[TYPES[e["type"]][0]] if TYPES[e["type"]] else None
        need((kind == "log-start") == (number == 0), "log-start is the first record and no other")
        need(not self.full, "a record after full")
        need(e["time"] >= self.time, "time went back")
        other = self.last is not None and self.pcr_of(kind) != self.last
        need(not other or e["time"] > self.time, "the order of two records is open")
        need(not self.stopped or kind in ("agent-start", "full"), "a record after agent-stop")
        if kind in ("agent-start", "agent-reload"):
            need(body["previous"] == self.head, "previous is not the head before")
            self.agent_key, self.stopped = body["agentKey"], False
        elif kind == "agent-stop":
            need(body["agentKey"] == self.agent_key, "another agent stopped")
            self.stopped = True
        elif kind == "app-event":
            need(body["app"] in self.coverage.declarations, "an event of an app that is not declared")
            inside = body["container"]
            if inside:
                found = self.coverage.containers.get((inside["engine"], inside["id"]))
                need(found and found["app"] == body["app"], "an event from a container that is not of the app")
        elif kind == "full":
            self.full = True
        self.coverage.apply(kind, body, e["time"])
        self.time, self.last = e["time"], self.pcr_of(kind)


def _start(state, e):
    """_start takes PCRs and start values of a log-start."""
    state.pcr = e["start"]["pcr"]
    for part in [e["start"], e["start"]["events"]]:
        if part is not None:
            state.values[part["pcr"]] = {v["algorithm"]: v["value"] for v in part["values"]}
    if e["start"]["events"] is not None:
        state.events_pcr = e["start"]["events"]["pcr"]


def _record(state, raw, number, pcr, digests, tlv, content):
    state.pcr = pcr if state.pcr is None else state.pcr
    try:
        e = event(content)
        if number == 0 and "start" in e:
            _start(state, e)
    except Refused as why:
        e = why
    # The active banks are those of log-start. Without one the record itself is refused below.
    banks = set(next(iter(state.values.values()), digests))
    if pcr not in (state.pcr, state.events_pcr) or set(digests) != banks:
        raise Failed("log.digests")
    if any(hashlib.new(bank, tlv).digest() != d for bank, d in digests.items()):
        raise Failed("log.digests")
    if isinstance(e, Refused):
        raise Failed("log.events")
    if pcr != state.pcr_of(e["type"]):
        raise Failed("log.digests")
    try:
        state.apply(number, e)
    except Refused as why:
        raise Failed("log.events") from why
    for bank, d in digests.items():
        state.values[pcr][bank] = hashlib.new(bank, state.values[pcr][bank] + d).digest()
    state.head = {"count": number + 1, "digest": sha256(labelled("agentd/log/1", state.head["digest"], raw))}
    state.keep()


def replay(data, state):
    """replay reads all records from the state on; it raises Failed with the check."""
    c, records = Cursor(data), []
    try:
        while c.at < len(data):
            begin = c.at
            r = record(c)
            need(r[0] == state.head["count"] + len(records), "numbers do not rise by one")
            records.append((data[begin:c.at], *r))
    except Refused as why:
        raise Failed("log.decode") from why
    if not records and not state.head["count"]:
        raise Failed("log.events")  # a whole log has at least its log-start
    for r in records:
        _record(state, *r)
    return state

