// SPDX-License-Identifier: Apache-2.0

import { Operations, Problem, routes } from "./agentd.js";

/** Sends a request to a socket of the agent. */
export type Send = (method: string, path: string, body: string | undefined) => Promise<{ status: number; type: string; body: string }>;

/** An answer of the agent that is not a success. */
export class Failure extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail ?? problem.title);
  }
}

type Input<K extends keyof Operations> = Operations[K]["input"] extends undefined ? [] : {} extends Operations[K]["input"] ? [input?: Operations[K]["input"]] : [input: Operations[K]["input"]];

/** Calls each operation of the API with what it takes, and returns what it answers. */
export class Client {
  constructor(private readonly send: Send) {}

  async call<K extends keyof Operations>(name: K, ...[input]: Input<K>): Promise<Operations[K]["answer"]> {
    const route = routes[name];
    const values = new Map<string, unknown>(Object.entries(input ?? {}));
    const path = route.path.replace(/\{(\w+)\}/, (_, parameter: string) => encodeURIComponent(String(values.get(parameter))));
    const query = route.query.filter((n) => values.has(n)).map((n) => `${n}=${encodeURIComponent(String(values.get(n)))}`).join("&");
    const body = values.get("body");
    const answer = await this.send(route.method, query === "" ? path : `${path}?${query}`, body === undefined ? undefined : JSON.stringify(body));
    if (answer.status !== 200) {
      throw new Failure(JSON.parse(answer.body) as Problem);
    }
    return (answer.type === "application/json" ? JSON.parse(answer.body) : answer.body) as Operations[K]["answer"];
  }
}
