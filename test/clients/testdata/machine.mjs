// SPDX-License-Identifier: Apache-2.0
// machine.mjs: asks a simulated machine by the library in TypeScript, and prints what it found as JSON.
// AGENTD_SOCKET and AGENTD_ADMIN_SOCKET name the machine.

import { generateKeyPairSync, verify } from "node:crypto";
import { inspect } from "node:util";
import * as agentd from "agentd";

const refused = async (call) => {
  try {
    await call();
  } catch (e) {
    if (e instanceof agentd.AgentdError) {
      return { kind: e.name, code: e.code, title: e.title, hint: e.hint, text: String(e) };
    }
    throw e;
  }
  return null;
};
const typed = async (call) => call().then(() => null, (e) => (e instanceof TypeError ? e.message : null));
// Whatever shows an object by accident.
const shown = (secret) => [String(secret), `${secret}`, secret + "", JSON.stringify(secret), JSON.stringify({ secret }), inspect(secret), inspect({ secret }, { showHidden: true, depth: 9 }), inspect(structuredClone(secret)), Object.values(secret).join()].join("\n");
const b64 = (octets) => Buffer.from(octets).toString("base64");
const bytes = (text) => new TextEncoder().encode(text);

const agent = new agentd.Client();
const admin = new agentd.Admin();
const nonce = Uint8Array.from({ length: 32 }, (_, i) => i);
const me = await agent.self();
const derived = await agent.derive({ label: "disk", length: 32 });
await agent.seal({ name: "token-ts", data: new agentd.Secret(bytes("correct horse battery staple")), associatedData: bytes("ctx") });
const unsealed = await agent.unseal({ name: "token-ts", associatedData: bytes("ctx") });
const signed = await agent.sign({ label: "host", algorithm: "ed25519", message: bytes("message") });
const event = await agent.emit({ domain: "model", content: bytes("weights") });
const evidence = await agent.evidence({ nonce, audience: "billing.example", userData: bytes("user"), signingKey: { label: "host", algorithm: "ed25519" } });
const proven = {};
for (const [name, pair] of Object.entries({
  ed25519: generateKeyPairSync("ed25519"),
  p256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
  p384: generateKeyPairSync("ec", { namedCurve: "P-384" }),
  p521: generateKeyPairSync("ec", { namedCurve: "P-521" }),
  rsa: generateKeyPairSync("rsa", { modulusLength: 2048 }),
})) {
  proven[name] = b64(await agent.evidenceWithKey({ nonce, freshness: "anchored", audience: "billing.example" }, agentd.signer(pair.privateKey)));
}
const out = {
  pid: me.pid === process.pid,
  app: me.app,
  agentKey: b64(me.agentKey),
  ready: (await agent.status({ check: "now" })).evidence.ready,
  evidence: b64(evidence),
  anchored: b64(await agent.evidence({ nonce, freshness: "anchored" })),
  proven,
  publicKey: b64(signed.publicKey),
  samePublicKey: b64((await agent.publicKey({ label: "host", algorithm: "ed25519" })).publicKey) === b64(signed.publicKey),
  signature: b64(signed.signature),
  derived: Buffer.from(derived.secret.reveal()).toString("hex"),
  derivedAgain: (await agent.derive({ label: "disk", length: 32 })).secret.equals(derived.secret),
  derivedOther: (await agent.derive({ label: "other", length: 32 })).secret.equals(derived.secret),
  unsealed: Buffer.from(unsealed.data.reveal()).toString(),
  shown: [shown(derived.secret), inspect(derived), inspect(unsealed), JSON.stringify(unsealed), shown(unsealed.data)].join("\n"),
  plan: (await agent.plan({ name: "token-ts" })).name,
  event: (await agent.events({ domain: "model" })).events.map((e) => e.record).includes(event.record),
  records: (await agent.log({ start: 1 })).start,
  cel: JSON.parse(Buffer.from(await agent.logCELJSON({ start: 1 }))).length > 0,
  paths: Object.keys(JSON.parse(Buffer.from(await agent.openAPI())).paths).length,
  metrics: Buffer.from(await admin.metrics()).includes("agentd_evidence_ready 1") && Buffer.from(await agent.metrics()).includes("agentd_"),
  apps: (await admin.apps()).apps.map((a) => a.name),
  measured: (await admin.measure({ name: "billing" })).name,
  noSuchApp: await refused(() => admin.measure({ name: "nothing-like-it" })),
  shortNonce: await refused(() => agent.evidence({ nonce: bytes("short") })),
  notSealed: await refused(() => agent.unseal({ name: "nothing-like-it" })),
  wrongContext: await refused(() => agent.unseal({ name: "token-ts", associatedData: bytes("other") })),
  badProof: await refused(() => agent.evidence({ nonce, publicKey: signed.publicKey, keyProof: new Uint8Array(64) })),
  wrongType: await typed(() => agent.derive({ label: "disk", length: "32" })),
  wrongMember: await typed(() => agent.derive({ label: "disk", length: 32, size: 32 })),
  wrongInside: await typed(() => agent.evidence({ nonce, signingKey: { label: "host", algorithm: "ed25519", size: 32 } })),
  nowhere: await refused(() => new agentd.Client({ socket: "/nowhere/agentd.sock" }).status()),
  noTime: await refused(() => agent.status({}, { timeout: 0 })),
  aborted: await refused(() => agent.status({}, { signal: AbortSignal.abort() })),
};
await agent.discard({ name: "token-ts" });
out.discarded = (await refused(() => agent.unseal({ name: "token-ts" }))).code;
derived.secret.wipe();
out.wiped = derived.secret.length;
unsealed.data.wipe();
const wiped = async (call) => call().then(() => false, (e) => e.message.includes("wiped"));
out.refusedAfterWipe = (await wiped(async () => derived.secret.reveal())) && (await wiped(() => agent.seal({ name: "token-ts", data: unsealed.data }))) && !derived.secret.equals(unsealed.data);

const { statement } = agentd.unverified(evidence);
out.parsed = b64(statement.nonce) === b64(nonce) && statement.audience === "billing.example" && b64(statement.userData) === b64(bytes("user")) && statement.caller.pid === process.pid;
out.notParsed = (await refused(async () => agentd.unverified(bytes('{"type":"agentd/evidence/2"}')))).code;
out.verified = verify(null, bytes("message"), { key: Buffer.from(signed.publicKey), format: "der", type: "spki" }, signed.signature);
const calls = await Promise.all(Array.from({ length: 40 }, () => agent.self()));
out.together = calls.every((c) => c.pid === process.pid);
console.log(JSON.stringify(out));
