# SPDX-License-Identifier: Apache-2.0
"""hostile.py FOLDER: asks each server that has a socket in the folder, and prints what came of it."""

import json
import os
import resource
import sys
import time

import agentd

SECRET = b"a secret that no error may show"


def ask(folder, name):
    call = {
        "evidence": lambda c: c.evidence(bytes(16)),
        "log": lambda c: c.log(),
        "derive": lambda c: c.derive("disk", 32),
        "seal": lambda c: c.seal("token", SECRET * 2000),
    }.get(name.split("-")[0], lambda c: c.status())
    client = agentd.Client(os.path.join(folder, name), timeout=1 if name.startswith(("slow", "silent", "b-full")) else 30, wait="patient" in name)
    begin = time.monotonic()
    out = {"kind": "", "code": "", "text": "", "retryAfter": None}
    try:
        for _ in range(2 if "again" in name else 1):
            call(client)
    except agentd.AgentdError as e:
        chain = [e, e.__cause__, e.__context__]
        out = {
            "kind": type(e).__name__,
            "code": e.code,
            "text": " ".join(f"{x!s} {x!r} {getattr(x, '__dict__', '')}" for x in chain),
            "retryAfter": getattr(e, "retry_after", None),
        }
    except Exception as e:
        out["kind"] = f"another error: {e!r}"
    out["seconds"] = time.monotonic() - begin
    return out


folder = sys.argv[1]
print(json.dumps({"answers": {name: ask(folder, name) for name in sorted(os.listdir(folder))}, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
