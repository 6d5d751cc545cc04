# SPDX-License-Identifier: Apache-2.0
"""answer.py FOLDER: judges one case of agentd-conformance (docs/conformance.md).

The reader does not look at policies, and knows no material of other systems.
"""
import json
import sys

import cases
from judge import judge

UNSUPPORTED = ["policy", "snp-report", "azure-paravisor-set"]


def main(path):
    """main prints the answer."""
    case, evidence = cases.folder(path)
    answer = {"verdict": "accept", "unsupported": UNSUPPORTED}
    if evidence is None:
        answer["reason"] = "not evidence"
    else:
        failed = sorted(n for n in judge(evidence, case) if not cases.of_policy(n))
        if failed:
            answer["verdict"], answer["checks"] = "refuse", failed
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
