// SPDX-License-Identifier: Apache-2.0
// Reads documents, in Node.js and in browsers, and verifies nothing.

import { BadAnswer } from "./errors.js";
import type * as types from "./types.js";
import { decode, load } from "./wire.js";

export { AgentdError, BadAnswer } from "./errors.js";
export * as types from "./types.js";

const maxEvidence = 36 << 20; // bytes of a document, at most

/** What a document claims. An attacker can have written every part of it. */
export interface Unverified {
  readonly evidence: types.Evidence;
  readonly statement: types.Statement;
}

/**
 * Returns what a document of evidence claims. Nothing of it was verified: a verifier does that, with
 * `agentctl verify` or the Go package verify.
 *
 * It fails with BadAnswer if the document is not of the form of docs/evidence.md. A verifier is
 * stricter. Keep the document itself: what is parsed cannot be verified any more.
 */
export function unverified(document: Uint8Array): Unverified {
  if (document.length > maxEvidence) {
    throw new BadAnswer(`the document is longer than ${maxEvidence} bytes`, "");
  }
  const evidence = decode("Evidence", load(document)) as types.Evidence;
  const statement = decode("Statement", load(evidence.statement)) as types.Statement;
  const found = [["document", evidence.type, "agentd/evidence/2"], ["statement", statement.type, "agentd/statement/2"]] as const;
  for (const [what, type, known] of found) {
    if (type !== known) {
      throw new BadAnswer(`the ${what} is of another type than ${known}`, "install a later version of this library");
    }
  }
  return { evidence, statement };
}
