// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 over a unix socket, with connections that are kept, one deadline for all that a call does,
// and a limit for all that it reads. Node.js parses the answers.

import * as http from "node:http";
import type { Signal } from "./calls.js";
import { Aborted, type AgentdError, BadAnswer, TimedOut, Unreachable } from "./errors.js";

const maxHeader = 64 << 10; // bytes of an answer before its body
const idle = 30_000; // milliseconds that a connection is kept: less than the agent's
const firstPause = 1; // between attempts to connect while the queue of the socket is full
const longestPause = 50;
const longestQueue = 10_000; // milliseconds of such attempts

export interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: Uint8Array;
}

export interface Request {
  readonly method: string;
  readonly path: string;
  readonly body: Uint8Array | undefined;
  /** Time of `monotonic` at which the call ends. */
  readonly end: number;
  readonly limit: number;
  readonly signal: Signal | undefined;
}

/** The connection ended before anything of the answer came. */
class Broken extends Error {
  constructor(
    readonly code: string,
    readonly reused: boolean,
  ) {
    super(code);
  }
}

export class Transport {
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: Infinity, maxFreeSockets: 8, timeout: idle });

  constructor(
    readonly path: string,
    readonly variable: string,
  ) {}

  /** Sends a request, and returns the answer. */
  async send(r: Request): Promise<Answer> {
    let full: Unreachable | undefined;
    const patience = Math.min(r.end, monotonic() + longestQueue);
    for (let pause = firstPause; ; pause = Math.min(2 * pause, longestPause)) {
      if (full !== undefined && monotonic() >= r.end) {
        throw full;
      }
      try {
        return await this.#once(r);
      } catch (e) {
        if (!(e instanceof Broken)) {
          throw e;
        }
        // Every request may be sent twice without harm. The agent was started again, perhaps.
        if (e.reused) {
          continue;
        }
        // While the queue of the socket is full, the kernel answers EAGAIN at once (connect(2)).
        const failure = new Unreachable(`ask agentd on ${this.path}: ${e.code === "" ? "the connection ended before an answer came" : e.code}`, this.#hint(e.code));
        if (e.code !== "EAGAIN" || monotonic() + pause >= patience) {
          throw failure;
        }
        full = failure;
      }
      await wait((0.5 + Math.random() / 2) * pause, r.signal);
    }
  }

  /** Closes the connections that are kept. */
  close(): void {
    this.#agent.destroy();
  }

  #once(r: Request): Promise<Answer> {
    return new Promise((done, fail) => {
      const left = r.end - monotonic();
      if (left <= 0) {
        fail(new TimedOut(`ask agentd on ${this.path}: the time for the call is over`));
        return;
      }
      const headers: { [name: string]: string | number } = { Host: "agentd" };
      if (r.body !== undefined) {
        headers["Content-Type"] = "application/json";
      }
      if (r.method !== "GET") {
        headers["Content-Length"] = r.body?.length ?? 0;
      }
      const request = http.request({
        agent: this.#agent, socketPath: this.path, method: r.method, path: r.path, headers, maxHeaderSize: maxHeader, insecureHTTPParser: false,
      });
      const stop = (e: AgentdError | Broken) => {
        finish();
        request.destroy();
        fail(e);
      };
      const aborted = () => stop(new Aborted(`ask agentd on ${this.path}: the caller ended the call`));
      const timer = setTimeout(() => stop(new TimedOut(`ask agentd on ${this.path}: the time for the call is over`)), Math.min(left, 2 ** 31 - 1));
      const finish = () => {
        clearTimeout(timer);
        r.signal?.removeEventListener("abort", aborted);
      };
      r.signal?.addEventListener("abort", aborted);
      request.on("error", (e: { code?: string }) => {
        const parser = (e.code ?? "").startsWith("HPE_");
        stop(parser ? new BadAnswer(`the answer is not HTTP: ${e.code}`) : new Broken(e.code ?? "", request.reusedSocket));
      });
      request.on("response", (answer: http.IncomingMessage) => this.#read(answer, r.limit, stop, (a) => (finish(), done(a))));
      if (r.signal?.aborted === true) {
        aborted();
      } else {
        request.end(r.body);
      }
    });
  }

  #read(answer: http.IncomingMessage, limit: number, stop: (e: BadAnswer) => void, done: (a: Answer) => void): void {
    const tooLong = () => stop(new BadAnswer(`the answer is longer than ${limit} bytes`));
    const pieces: Uint8Array[] = [];
    let length = 0;
    if (Number(answer.headers["content-length"] ?? 0) > limit) {
      tooLong();
      return;
    }
    answer.on("data", (piece: Uint8Array) => {
      length += piece.length;
      if (length > limit) {
        tooLong();
      } else {
        pieces.push(piece);
      }
    });
    const cut = () => stop(new BadAnswer("the answer is not complete: it is cut off"));
    answer.on("error", cut);
    answer.on("aborted", cut);
    answer.on("end", () => {
      if (!answer.complete) {
        cut();
        return;
      }
      const body = new Uint8Array(length);
      let at = 0;
      for (const piece of pieces) {
        body.set(piece, at);
        piece.fill(0); // it may contain a secret
        at += piece.length;
      }
      done({ status: answer.statusCode ?? 0, type: answer.headers["content-type"] ?? "", body });
    });
  }

  #hint(code: string): string {
    switch (code) {
      case "ENOENT":
      case "ECONNREFUSED":
        return `is agentd running? ${this.variable} names another socket`;
      case "EAGAIN":
        return "so many programs connect at once that the queue of the socket stays full: try again later";
      case "EACCES":
      case "EPERM":
        return "is this user in the group of the socket?";
      default:
        return "try again";
    }
  }
}

/** Milliseconds that only go forward. */
export function monotonic(): number {
  return performance.now();
}

/** Waits, at most until the signal. */
export function wait(milliseconds: number, signal: Signal | undefined): Promise<void> {
  return new Promise((done) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      done();
    };
    const timer = setTimeout(end, milliseconds);
    signal?.addEventListener("abort", end);
  });
}
