# SPDX-License-Identifier: Apache-2.0
"""Verifies a list of IMA by the code of keylime, once for each line of standard input, and prints the
nanoseconds, by the clock and of the processor. BenchmarkVerifyIMABesideKeylime starts it with the folder
of keylime's source and a file: lists, policy and quoted value."""
import json
import sys
import time
import types

source, inputs = sys.argv[1:]
sys.path.insert(0, source)
# What keylime imports beside, for signed policies and for tables of the device mapper: none are here.
for name, member in (("keylime.signing", "verify_dsse_envelope"), ("keylime.ima.ima_dm", "DmIMAValidator")):
    sys.modules[name] = types.ModuleType(name)
    setattr(sys.modules[name], member, None)

from keylime.agentstates import AgentAttestState  # noqa: E402
from keylime.common.algorithms import Hash  # noqa: E402
from keylime.ima import ima  # noqa: E402

with open(inputs, encoding="utf-8") as f:
    given = json.load(f)
print("ready", flush=True)
for line in sys.stdin:
    lines = given["wrong" if line.strip() == "wrong" else "list"]
    begin, used = time.perf_counter_ns(), time.process_time_ns()
    _, failure = ima.process_measurement_list(
        AgentAttestState("1"), lines, runtime_policy=given["policy"], pcrval=given["value"], hash_alg=Hash.SHA256)
    took, used = time.perf_counter_ns() - begin, time.process_time_ns() - used
    print(took, used, "refused" if failure else "accepted", flush=True)
