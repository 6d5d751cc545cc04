// SPDX-License-Identifier: Apache-2.0

import { known } from "./codes.js";
import type * as types from "./types.js";

/**
 * Something that was asked of the agent failed. Errors of the library itself have codes that the
 * agent does not use: `unreachable`, `timed-out`, `aborted`, `bad-answer`.
 */
export class AgentdError extends Error {
  override readonly name: string = "AgentdError";

  constructor(
    /** What programs act on. */
    readonly code: string,
    /** The same for each error with this code. */
    readonly title: string,
    readonly detail: string,
    /** What to do, for people. */
    readonly hint: string,
  ) {
    super(hint === "" ? detail : `${detail} (${hint})`);
  }
}

/** No connection to the agent, or it broke before an answer came. */
export class Unreachable extends AgentdError {
  override readonly name = "Unreachable";
  constructor(detail: string, hint: string) {
    super("unreachable", "Agent cannot be reached", detail, hint);
  }
}

/** The time for the call was over before the answer was complete. */
export class TimedOut extends AgentdError {
  override readonly name = "TimedOut";
  constructor(detail: string) {
    super("timed-out", "No answer in time", detail, "give the call more time; evidence can take more than a minute when the host delays reports");
  }
}

/** The caller ended the call, by the signal that it gave. */
export class Aborted extends AgentdError {
  override readonly name = "Aborted";
  constructor(detail: string) {
    super("aborted", "Call was ended", detail, "");
  }
}

/** What came is not an answer of agentd: too long, cut off, or of another form. */
export class BadAnswer extends AgentdError {
  override readonly name = "BadAnswer";
  constructor(detail: string, hint = "is another program listening on this socket?") {
    super("bad-answer", "Not an answer of agentd", detail, hint);
  }
}

/** A refusal of the agent (RFC 9457). Its subclasses say what kind of refusal. */
export class Problem extends AgentdError {
  override readonly name: string = "Problem";
  readonly status: number;
  readonly type: string;
  /** JSON Pointer (RFC 6901), or name of the parameter at fault. */
  readonly where: string | undefined;
  /** Byte of the body near which reading ended, from 0. */
  readonly offset: number | undefined;
  /** Seconds after which the same request may succeed. */
  readonly retryAfter: number | undefined;

  constructor(p: types.Problem) {
    const title = known[p.code]?.title ?? p.title;
    super(p.code, title, `${p.code}${p.where === undefined ? "" : ` at ${p.where}`}: ${p.detail ?? title}`, known[p.code]?.hint ?? "");
    this.status = p.status;
    this.type = p.type;
    this.where = p.where;
    this.offset = p.offset;
    this.retryAfter = p.retryAfter;
  }
}

/** The request is at fault, or the failure has no other kind. */
export class Misuse extends Problem {
  override readonly name = "Misuse";
}

/** Not allowed to this caller. */
export class NotPermitted extends Problem {
  override readonly name = "NotPermitted";
}

/** Agent or device is not available now. If `retryAfter` is set, the same request may succeed then. */
export class Unavailable extends Problem {
  override readonly name = "Unavailable";
}

/** A sealed secret cannot be opened as the machine is. */
export class Sealed extends Problem {
  override readonly name = "Sealed";
}

/** A signature or binding is broken. */
export class Forged extends Problem {
  override readonly name = "Forged";
}

/** Returns the error of a refusal. A code of a later version has the class of its status. */
export function problem(p: types.Problem): Problem {
  const ofStatus = p.status === 403 ? "NotPermitted" : p.status === 429 || p.status >= 500 ? "Unavailable" : "Misuse";
  const kind = Object.hasOwn(known, p.code) ? known[p.code]?.kind ?? ofStatus : ofStatus;
  return new { Misuse, NotPermitted, Unavailable, Sealed, Forged }[kind](p);
}
