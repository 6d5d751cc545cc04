// SPDX-License-Identifier: Apache-2.0
// What a strict client can write, and after @ts-expect-error what it cannot.

import { Client } from "./client.js";
import { Code, Evidence, EvidenceRequest, Problem } from "./agentd.js";

// What may be left out may be left out.
export const least: EvidenceRequest = { nonce: "AAAAAAAAAAAAAAAAAAAAAA==" };
// @ts-expect-error: what is required is required.
export const nothing: EvidenceRequest = {};
// @ts-expect-error: the agent refuses a member that it does not know.
export const unknownMember: EvidenceRequest = { nonce: "", reportData: "" };
// @ts-expect-error: the words of a request are closed.
export const otherWord: EvidenceRequest = { nonce: "", freshness: "stale" };
// The words of an answer are open: later versions may add some.
export const laterCode: Code = "a-code-of-a-later-version";

export function reads(document: Evidence, problem: Problem, client: Client): unknown[] {
  // @ts-expect-error: what an answer may leave out is looked at first.
  document.log.records;
  // @ts-expect-error: a path has its parameter.
  client.call("measure", {});
  // @ts-expect-error: a call without a body gets none.
  client.call("status", { body: {} });
  return [document.log?.records, problem.code === "busy", problem.retryAfter ?? 0, client.call("log"), client.call("log", { start: 1, format: "cel-json" })];
}
