# SPDX-License-Identifier: Apache-2.0
"""main.py ROOT: judges the corpus and the examples of the repository at ROOT.

Each line of its output is one disagreement; the last one has the numbers. It exits with 1 if there
is a disagreement.
"""
import glob
import os
import sys

import cases
import examples
from judge import judge


def compare(path, folder):
    """compare gives None for a case that is about raw material, or its disagreement, perhaps ""."""
    head, case, evidence = cases.load(path, folder)
    if "material" in head:
        return None
    mine = judge(evidence, case)
    want = set(head.get("fails", [""])[0].split())  # none: it must be accepted
    mine, want = ({n for n in names if not cases.of_policy(n)} for names in (mine, want))
    if mine == want:
        return ""
    return f"{os.path.basename(path)}: {head['about'][0]}: reader {sorted(mine)}, verifier {sorted(want)}"


def main(root):
    """main judges everything."""
    folder = root + "/internal/corpus/cases"
    agreed, skipped, wrong = 0, 0, []
    for path in sorted(glob.glob(folder + "/*.case")):
        try:
            said = compare(path, folder)
        except Exception as why:  # a crash of the reader is a disagreement
            said = f"{os.path.basename(path)}: the reader crashed: {why!r}"
        if said is None:
            skipped += 1
        elif said == "":
            agreed += 1
        else:
            wrong.append(said)
    example = judge(cases.read(root + "/docs/example/evidence.json"), cases.fresh(
        "2026-06-01T00:00:00Z", b"\x4e" * 32, cases.pem(root + "/docs/example/test-root.pem")))
    if example:
        wrong.append(f"docs/example/evidence.json: refused: {sorted(example)}")
    wrong += examples.worked(root) + examples.log_example(root) + examples.ima_example(root)
    print("\n".join(wrong))
    print(f"agreed {agreed}, disagreed {len(wrong)}, raw material {skipped}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
