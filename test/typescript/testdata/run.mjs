// SPDX-License-Identifier: Apache-2.0
// run.mjs CLIENT-SOCKET ADMIN-SOCKET: calls an agent with the compiled client, and prints what it answers.

import http from "node:http";
import { Client, Failure } from "./client.js";

function send(socketPath) {
  return (method, path, body) =>
    new Promise((done, fail) => {
      const request = http.request({ socketPath, method, path, agent: false }, (answer) => {
        let text = "";
        answer.setEncoding("utf8");
        answer.on("data", (part) => (text += part));
        answer.on("end", () => done({ status: answer.statusCode, type: answer.headers["content-type"], body: text }));
        answer.on("error", fail);
      });
      request.on("error", fail);
      request.end(body);
    });
}

const [agent, admin] = process.argv.slice(2).map((socket) => new Client(send(socket)));
const refused = await admin.call("measure", { name: "nothing-like-it" }).catch((e) => (e instanceof Failure ? e.problem.code : String(e)));
console.log(
  JSON.stringify({
    evidence: await agent.call("evidence", { body: { nonce: Buffer.alloc(32, 7).toString("base64"), log: "from", logStart: 1 } }),
    ready: (await agent.call("status")).evidence.ready,
    unit: (await agent.call("self")).unit,
    records: (await agent.call("log", { start: 1 })).start,
    metrics: (await admin.call("metrics")).includes("agentd_evidence_ready 1"),
    apps: (await admin.call("apps")).apps.length,
    paths: Object.keys((await agent.call("openAPI")).paths).length,
    refused,
  }),
);
