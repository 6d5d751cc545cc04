// SPDX-License-Identifier: Apache-2.0
// hostile.mjs FOLDER: asks each server that has a socket in the folder, and prints what came of it.

import { readdirSync } from "node:fs";
import { inspect } from "node:util";
import * as agentd from "agentd";

const secret = new TextEncoder().encode("a secret that no error may show".repeat(2000));
const calls = {
  evidence: (c) => c.evidence({ nonce: new Uint8Array(16) }),
  log: (c) => c.log(),
  derive: (c) => c.derive({ label: "disk", length: 32 }),
  seal: (c) => c.seal({ name: "token", data: secret }),
};

async function ask(folder, name) {
  const timeout = /^(slow|silent|endless-interim|b-full)/.test(name) ? 1000 : 30000;
  const client = new agentd.Client({ socket: `${folder}/${name}`, timeout, wait: name.includes("patient") });
  const begin = performance.now();
  let out = { kind: "", code: "", text: "", retryAfter: null };
  try {
    for (let n = name.includes("again") ? 2 : 1; n > 0; n--) {
      await (calls[name.split("-")[0]] ?? ((c) => c.status()))(client);
    }
  } catch (e) {
    out = e instanceof agentd.AgentdError ? { kind: e.name, code: e.code, text: inspect(e, { showHidden: true, depth: 9 }), retryAfter: e.retryAfter ?? null } : { ...out, kind: `another error: ${inspect(e)}` };
  }
  return { ...out, seconds: (performance.now() - begin) / 1000 };
}

const [folder] = process.argv.slice(2);
const answers = {};
for (const name of readdirSync(folder).sort()) {
  answers[name] = await ask(folder, name);
}
console.log(JSON.stringify({ answers, memory: process.resourceUsage().maxRSS }));
