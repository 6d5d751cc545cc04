// SPDX-License-Identifier: Apache-2.0
// Generated: `go test ./test/generate -update` writes this file.

import type * as types from "./types.js";
import type { Operation } from "./wire.js";

/** What each operation is called by, and its limits. */
export const operations = {
  ak: {
    name: "ak", method: "GET", path: "/v1/ak", socket: "both", seconds: 30, limit: 4194304, answer: "AK",
    input: [
  ],
  },
  activate: {
    name: "activate", method: "POST", path: "/v1/ak/activate", socket: "admin", seconds: 30, limit: 4194304, answer: "Activated",
    input: [
    { name: "credential", kind: "bytes", required: true, in: "body" },
    { name: "secret", kind: "bytes", required: true, in: "body" },
  ],
  },
  replaceAK: {
    name: "replaceAK", method: "POST", path: "/v1/ak/replace", socket: "admin", seconds: 300, limit: 4194304, answer: "Replaced",
    input: [
  ],
  },
  apps: {
    name: "apps", method: "GET", path: "/v1/apps", socket: "admin", seconds: 10, limit: 4194304, answer: "Apps",
    input: [
  ],
  },
  measure: {
    name: "measure", method: "POST", path: "/v1/apps/{name}/measure", socket: "admin", seconds: 1200, limit: 4194304, answer: "App",
    input: [
    { name: "name", kind: "text", required: true, in: "path" },
  ],
  },
  recordContainer: {
    name: "recordContainer", method: "POST", path: "/v1/containers", socket: "admin", seconds: 1200, limit: 4194304, answer: "ApiContainer",
    input: [
    { name: "engine", kind: "text", required: true, in: "body" },
    { name: "id", kind: "text", required: true, in: "body" },
    { name: "pid", kind: ["integer", 4294967295], required: true, in: "body" },
    { name: "bundle", kind: "text", required: true, in: "body" },
  ],
  },
  containers: {
    name: "containers", method: "GET", path: "/v1/containers/running", socket: "admin", seconds: 10, limit: 4194304, answer: "Containers",
    input: [
  ],
  },
  plan: {
    name: "plan", method: "GET", path: "/v1/contract", socket: "client", seconds: 90, limit: 4194304, answer: "Contract",
    input: [
    { name: "name", kind: "text", required: false, in: "query" },
  ],
  },
  discard: {
    name: "discard", method: "POST", path: "/v1/discard", socket: "client", seconds: 90, limit: 4194304, answer: "Discarded",
    input: [
    { name: "name", kind: "text", required: true, in: "body" },
  ],
  },
  disks: {
    name: "disks", method: "GET", path: "/v1/disks", socket: "admin", seconds: 90, limit: 4194304, answer: "Disks",
    input: [
  ],
  },
  diskChange: {
    name: "diskChange", method: "POST", path: "/v1/disks/change", socket: "admin", seconds: 90, limit: 4194304, answer: "Disk",
    input: [
    { name: "name", kind: "text", required: true, in: "body" },
    { name: "header", kind: ["object","DiskHeader"], required: true, in: "body" },
    { name: "slot", kind: ["integer", 4294967295], required: true, in: "body" },
    { name: "key", kind: "secret", required: false, in: "body" },
  ],
  },
  diskCheck: {
    name: "diskCheck", method: "POST", path: "/v1/disks/check", socket: "admin", seconds: 90, limit: 4194304, answer: "DiskChecked",
    input: [
    { name: "name", kind: "text", required: true, in: "body" },
    { name: "headers", kind: ["list", ["object","DiskHeader"]], required: true, in: "body" },
  ],
  },
  diskEnroll: {
    name: "diskEnroll", method: "POST", path: "/v1/disks/enroll", socket: "admin", seconds: 90, limit: 4194304, answer: "Disk",
    input: [
    { name: "name", kind: "text", required: true, in: "body" },
    { name: "device", kind: "text", required: true, in: "body" },
    { name: "header", kind: ["object","DiskHeader"], required: true, in: "body" },
    { name: "slot", kind: ["integer", 4294967295], required: true, in: "body" },
    { name: "key", kind: "secret", required: true, in: "body" },
    { name: "loseOnHardwareChange", kind: "flag", required: false, in: "body" },
    { name: "replace", kind: "flag", required: false, in: "body" },
  ],
  },
  diskKey: {
    name: "diskKey", method: "POST", path: "/v1/disks/key", socket: "admin", seconds: 90, limit: 4194304, answer: "DiskKey",
    input: [
    { name: "name", kind: "text", required: true, in: "body" },
    { name: "headers", kind: ["list", ["object","DiskHeader"]], required: true, in: "body" },
  ],
  },
  diskRemove: {
    name: "diskRemove", method: "POST", path: "/v1/disks/remove", socket: "admin", seconds: 90, limit: 4194304, answer: "DiskName",
    input: [
    { name: "name", kind: "text", required: true, in: "body" },
  ],
  },
  diskSettle: {
    name: "diskSettle", method: "POST", path: "/v1/disks/settle", socket: "admin", seconds: 90, limit: 4194304, answer: "Disk",
    input: [
    { name: "name", kind: "text", required: true, in: "body" },
    { name: "headers", kind: ["list", ["object","DiskHeader"]], required: true, in: "body" },
  ],
  },
  events: {
    name: "events", method: "GET", path: "/v1/events", socket: "client", seconds: 30, limit: 4194304, answer: "Events",
    input: [
    { name: "start", kind: ["integer", 9007199254740991], required: false, in: "query" },
    { name: "domain", kind: "text", required: false, in: "query" },
  ],
  },
  emit: {
    name: "emit", method: "POST", path: "/v1/events", socket: "client", seconds: 30, limit: 4194304, answer: "RecordedEvent",
    input: [
    { name: "domain", kind: "text", required: true, in: "body" },
    { name: "content", kind: "bytes", required: false, in: "body" },
    { name: "digest", kind: "digest", required: false, in: "body" },
  ],
  },
  evidence: {
    name: "evidence", method: "POST", path: "/v1/evidence", socket: "both", seconds: 90, limit: 37748736, answer: "",
    input: [
    { name: "nonce", kind: "bytes", required: true, in: "body" },
    { name: "audience", kind: "text", required: false, in: "body" },
    { name: "firmwareLog", kind: "flag", required: false, in: "body" },
    { name: "freshness", kind: "text", required: false, in: "body" },
    { name: "ima", kind: "flag", required: false, in: "body" },
    { name: "imaStart", kind: ["integer", 9007199254740991], required: false, in: "body" },
    { name: "keyProof", kind: "bytes", required: false, in: "body" },
    { name: "log", kind: "text", required: false, in: "body" },
    { name: "logStart", kind: ["integer", 9007199254740991], required: false, in: "body" },
    { name: "publicKey", kind: "bytes", required: false, in: "body" },
    { name: "signingKey", kind: ["object","SigningKey"], required: false, in: "body" },
    { name: "userData", kind: "bytes", required: false, in: "body" },
  ],
  },
  certify: {
    name: "certify", method: "POST", path: "/v1/keys/certify", socket: "client", seconds: 90, limit: 4194304, answer: "Certified",
    input: [
    { name: "label", kind: "text", required: true, in: "body" },
    { name: "algorithm", kind: "text", required: true, in: "body" },
    { name: "data", kind: "bytes", required: true, in: "body" },
    { name: "version", kind: ["integer", 4294967295], required: false, in: "body" },
  ],
  },
  derive: {
    name: "derive", method: "POST", path: "/v1/keys/derive", socket: "client", seconds: 90, limit: 4194304, answer: "Derived",
    input: [
    { name: "label", kind: "text", required: true, in: "body" },
    { name: "length", kind: ["integer", 4294967295], required: true, in: "body" },
    { name: "version", kind: ["integer", 4294967295], required: false, in: "body" },
  ],
  },
  publicKey: {
    name: "publicKey", method: "GET", path: "/v1/keys/public", socket: "client", seconds: 90, limit: 4194304, answer: "PublicKey",
    input: [
    { name: "label", kind: "text", required: true, in: "query" },
    { name: "algorithm", kind: "text", required: true, in: "query" },
    { name: "version", kind: ["integer", 9007199254740991], required: false, in: "query" },
  ],
  },
  log: {
    name: "log", method: "GET", path: "/v1/log", socket: "both", seconds: 30, limit: 68157440, answer: "Log",
    input: [
    { name: "start", kind: ["integer", 9007199254740991], required: false, in: "query" },
    { name: "format", kind: "text", required: false, in: "query" },
  ],
  },
  metrics: {
    name: "metrics", method: "GET", path: "/v1/metrics", socket: "both", seconds: 10, limit: 4194304, answer: "",
    input: [
  ],
  },
  openAPI: {
    name: "openAPI", method: "GET", path: "/v1/openapi.json", socket: "both", seconds: 10, limit: 4194304, answer: "",
    input: [
  ],
  },
  process: {
    name: "process", method: "GET", path: "/v1/process", socket: "both", seconds: 10, limit: 4194304, answer: "Process",
    input: [
    { name: "pid", kind: ["integer", 9007199254740991], required: true, in: "query" },
  ],
  },
  reload: {
    name: "reload", method: "POST", path: "/v1/reload", socket: "admin", seconds: 300, limit: 4194304, answer: "Reloaded",
    input: [
  ],
  },
  seal: {
    name: "seal", method: "POST", path: "/v1/seal", socket: "client", seconds: 90, limit: 4194304, answer: "Sealed",
    input: [
    { name: "name", kind: "text", required: true, in: "body" },
    { name: "data", kind: "secret", required: true, in: "body" },
    { name: "associatedData", kind: "bytes", required: false, in: "body" },
    { name: "requireDigest", kind: "flag", required: false, in: "body" },
  ],
  },
  secrets: {
    name: "secrets", method: "GET", path: "/v1/secrets", socket: "admin", seconds: 90, limit: 4194304, answer: "Secrets",
    input: [
    { name: "app", kind: "text", required: false, in: "query" },
  ],
  },
  putSecret: {
    name: "putSecret", method: "POST", path: "/v1/secrets/put", socket: "admin", seconds: 90, limit: 4194304, answer: "ProvisionedSecret",
    input: [
    { name: "app", kind: "text", required: true, in: "body" },
    { name: "name", kind: "text", required: true, in: "body" },
    { name: "data", kind: "secret", required: true, in: "body" },
  ],
  },
  receive: {
    name: "receive", method: "POST", path: "/v1/secrets/receive", socket: "admin", seconds: 1200, limit: 4194304, answer: "ReceivedSecret",
    input: [
    { name: "sealed", kind: "bytes", required: true, in: "body" },
  ],
  },
  removeSecret: {
    name: "removeSecret", method: "POST", path: "/v1/secrets/remove", socket: "admin", seconds: 90, limit: 4194304, answer: "StoredName",
    input: [
    { name: "app", kind: "text", required: true, in: "body" },
    { name: "name", kind: "text", required: true, in: "body" },
  ],
  },
  rotateSecret: {
    name: "rotateSecret", method: "POST", path: "/v1/secrets/rotate", socket: "admin", seconds: 90, limit: 4194304, answer: "ProvisionedSecret",
    input: [
    { name: "app", kind: "text", required: true, in: "body" },
    { name: "name", kind: "text", required: true, in: "body" },
    { name: "data", kind: "secret", required: true, in: "body" },
  ],
  },
  ticket: {
    name: "ticket", method: "POST", path: "/v1/secrets/ticket", socket: "admin", seconds: 1200, limit: 4194304, answer: "DeliveryTicket",
    input: [
    { name: "app", kind: "text", required: true, in: "body" },
    { name: "name", kind: "text", required: true, in: "body" },
    { name: "challenge", kind: "bytes", required: true, in: "body" },
    { name: "validFor", kind: ["integer", 4294967295], required: true, in: "body" },
    { name: "anySender", kind: "flag", required: false, in: "body" },
    { name: "replace", kind: "flag", required: false, in: "body" },
    { name: "sender", kind: "bytes", required: false, in: "body" },
  ],
  },
  self: {
    name: "self", method: "GET", path: "/v1/self", socket: "both", seconds: 10, limit: 4194304, answer: "Self",
    input: [
  ],
  },
  sign: {
    name: "sign", method: "POST", path: "/v1/sign", socket: "client", seconds: 90, limit: 4194304, answer: "Signed",
    input: [
    { name: "label", kind: "text", required: true, in: "body" },
    { name: "algorithm", kind: "text", required: true, in: "body" },
    { name: "digest", kind: "bytes", required: false, in: "body" },
    { name: "message", kind: "bytes", required: false, in: "body" },
    { name: "version", kind: ["integer", 4294967295], required: false, in: "body" },
  ],
  },
  status: {
    name: "status", method: "GET", path: "/v1/status", socket: "both", seconds: 10, limit: 4194304, answer: "Status",
    input: [
    { name: "check", kind: "text", required: false, in: "query" },
  ],
  },
  store: {
    name: "store", method: "GET", path: "/v1/store", socket: "admin", seconds: 90, limit: 4194304, answer: "Store",
    input: [
  ],
  },
  acceptRollback: {
    name: "acceptRollback", method: "POST", path: "/v1/store/accept-rollback", socket: "admin", seconds: 90, limit: 4194304, answer: "Store",
    input: [
  ],
  },
  contract: {
    name: "contract", method: "GET", path: "/v1/store/contract", socket: "admin", seconds: 90, limit: 4194304, answer: "Contract",
    input: [
    { name: "app", kind: "text", required: true, in: "query" },
    { name: "name", kind: "text", required: false, in: "query" },
  ],
  },
  digests: {
    name: "digests", method: "POST", path: "/v1/store/digests", socket: "admin", seconds: 90, limit: 4194304, answer: "Contract",
    input: [
    { name: "app", kind: "text", required: true, in: "body" },
    { name: "action", kind: "text", required: true, in: "body" },
    { name: "digest", kind: "digest", required: false, in: "body" },
  ],
  },
  probe: {
    name: "probe", method: "POST", path: "/v1/store/probe", socket: "admin", seconds: 300, limit: 4194304, answer: "Probed",
    input: [
  ],
  },
  recipients: {
    name: "recipients", method: "POST", path: "/v1/store/recipients", socket: "admin", seconds: 300, limit: 4194304, answer: "Rewritten",
    input: [
    { name: "recipients", kind: ["list", "text"], required: true, in: "body" },
    { name: "loseOnHardwareChange", kind: "flag", required: false, in: "body" },
  ],
  },
  recover: {
    name: "recover", method: "POST", path: "/v1/store/recover", socket: "admin", seconds: 300, limit: 4194304, answer: "Rewritten",
    input: [
    { name: "acceptRollback", kind: "flag", required: false, in: "body" },
    { name: "identities", kind: "secret", required: false, in: "body" },
    { name: "loseOnHardwareChange", kind: "flag", required: false, in: "body" },
    { name: "recipients", kind: ["list", "text"], required: false, in: "body" },
    { name: "storeKey", kind: "text", required: false, in: "body" },
    { name: "trustUnknownWriterOfThisDisk", kind: "flag", required: false, in: "body" },
  ],
  },
  retire: {
    name: "retire", method: "POST", path: "/v1/store/retire", socket: "admin", seconds: 90, limit: 4194304, answer: "RootVersion",
    input: [
    { name: "app", kind: "text", required: true, in: "body" },
    { name: "version", kind: ["integer", 4294967295], required: true, in: "body" },
  ],
  },
  rewrap: {
    name: "rewrap", method: "POST", path: "/v1/store/rewrap", socket: "admin", seconds: 300, limit: 4194304, answer: "Rewritten",
    input: [
  ],
  },
  rotate: {
    name: "rotate", method: "POST", path: "/v1/store/rotate", socket: "admin", seconds: 300, limit: 4194304, answer: "RootVersion",
    input: [
    { name: "app", kind: "text", required: true, in: "body" },
  ],
  },
  rotateStoreKey: {
    name: "rotateStoreKey", method: "POST", path: "/v1/store/rotate-store-key", socket: "admin", seconds: 300, limit: 4194304, answer: "Rewritten",
    input: [
  ],
  },
  tryTPM: {
    name: "tryTPM", method: "POST", path: "/v1/tpm/try", socket: "admin", seconds: 300, limit: 4194304, answer: "Probed",
    input: [
  ],
  },
  unseal: {
    name: "unseal", method: "POST", path: "/v1/unseal", socket: "client", seconds: 90, limit: 4194304, answer: "Unsealed",
    input: [
    { name: "name", kind: "text", required: true, in: "body" },
    { name: "associatedData", kind: "bytes", required: false, in: "body" },
  ],
  },
  upgrade: {
    name: "upgrade", method: "GET", path: "/v1/upgrade", socket: "admin", seconds: 90, limit: 4194304, answer: "UpgradeStatus",
    input: [
  ],
  },
  abortUpgrade: {
    name: "abortUpgrade", method: "POST", path: "/v1/upgrade/abort", socket: "admin", seconds: 300, limit: 4194304, answer: "AbortedUpgrade",
    input: [
  ],
  },
  acceptUpgrade: {
    name: "acceptUpgrade", method: "POST", path: "/v1/upgrade/accept", socket: "admin", seconds: 300, limit: 4194304, answer: "AcceptedUpgrade",
    input: [
    { name: "answer", kind: "bytes", required: true, in: "body" },
    { name: "storeKey", kind: "text", required: true, in: "body" },
  ],
  },
  answerUpgrade: {
    name: "answerUpgrade", method: "POST", path: "/v1/upgrade/answer", socket: "admin", seconds: 300, limit: 4194304, answer: "HandedOver",
    input: [
    { name: "request", kind: "bytes", required: true, in: "body" },
  ],
  },
  finishUpgrade: {
    name: "finishUpgrade", method: "POST", path: "/v1/upgrade/finish", socket: "admin", seconds: 300, limit: 4194304, answer: "UpgradeStatus",
    input: [
  ],
  },
  prepareUpgrade: {
    name: "prepareUpgrade", method: "POST", path: "/v1/upgrade/prepare", socket: "admin", seconds: 300, limit: 4194304, answer: "PreparedUpgrade",
    input: [
    { name: "release", kind: "bytes", required: true, in: "body" },
    { name: "signature", kind: "bytes", required: true, in: "body" },
    { name: "validFor", kind: ["integer", 4294967295], required: true, in: "body" },
  ],
  },
  pinReleaseKey: {
    name: "pinReleaseKey", method: "POST", path: "/v1/upgrade/release-key", socket: "admin", seconds: 90, limit: 4194304, answer: "UpgradeStatus",
    input: [
    { name: "key", kind: "bytes", required: true, in: "body" },
  ],
  },
  requestUpgrade: {
    name: "requestUpgrade", method: "POST", path: "/v1/upgrade/request", socket: "admin", seconds: 300, limit: 4194304, answer: "SuccessorMessage",
    input: [
    { name: "offer", kind: "bytes", required: true, in: "body" },
  ],
  },
} as const;

/** Options of a call. */
export interface Options {
  /** Milliseconds for the whole call. Default: the time after which the agent gives up, and 15 s. */
  timeout?: number;
  /** Ends the call. */
  signal?: Signal;
}

/** The part of an AbortSignal that the library uses. */
export interface Signal {
  readonly aborted: boolean;
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

/** Sends a request, and returns the bytes or the object of the answer. */
export type Call = (operation: Operation, input: object, options: Options) => Promise<unknown>;

/** What both sockets serve. */
export abstract class BothCalls {
  protected abstract readonly call: Call;

  /** The attestation key, for enrolment. */
  async ak(input: Record<string, never> = {}, options: Options = {}): Promise<types.AK> {
    return (await this.call(operations.ak, input, options)) as types.AK;
  }
  /** Evidence over the caller's nonce and key. */
  async evidence(input: types.EvidenceRequest, options: Options = {}): Promise<Uint8Array> {
    return (await this.call(operations.evidence, input, options)) as Uint8Array;
  }
  /**
   * The measurement log. With format cel-json the answer is a TCG Canonical Event Log in JSON
   * encoding.
   */
  async log(input: { start?: number; } = {}, options: Options = {}): Promise<types.Log> {
    return (await this.call(operations.log, input, options)) as types.Log;
  }
  /**
   * What the agent counts, for Prometheus. The client socket leaves out what tells of other users
   * and apps.
   */
  async metrics(input: Record<string, never> = {}, options: Options = {}): Promise<Uint8Array> {
    return (await this.call(operations.metrics, input, options)) as Uint8Array;
  }
  /** This API as an OpenAPI document. */
  async openAPI(input: Record<string, never> = {}, options: Options = {}): Promise<Uint8Array> {
    return (await this.call(operations.openAPI, input, options)) as Uint8Array;
  }
  /**
   * Who a process is to the agent, and why. The client socket answers only the units that
   * processes.askers names.
   */
  async process(input: { pid: number; }, options: Options = {}): Promise<types.Process> {
    return (await this.call(operations.process, input, options)) as types.Process;
  }
  /** Who the caller is to the agent, and why. */
  async self(input: Record<string, never> = {}, options: Options = {}): Promise<types.Self> {
    return (await this.call(operations.self, input, options)) as types.Self;
  }
  /** The state of the agent. */
  async status(input: { check?: "none" | "now"; } = {}, options: Options = {}): Promise<types.Status> {
    return (await this.call(operations.status, input, options)) as types.Status;
  }
}

/** What the client socket serves. */
export abstract class ClientCalls extends BothCalls {
  /** What a secret of the calling app would be sealed to now, and what would lock it out. */
  async plan(input: { name?: string; } = {}, options: Options = {}): Promise<types.Contract> {
    return (await this.call(operations.plan, input, options)) as types.Contract;
  }
  /** Delete a secret of the calling app. */
  async discard(input: types.DiscardRequest, options: Options = {}): Promise<types.Discarded> {
    return (await this.call(operations.discard, input, options)) as types.Discarded;
  }
  /** The events of the calling app since boot, at most 100. */
  async events(input: { domain?: string; start?: number; } = {}, options: Options = {}): Promise<types.Events> {
    return (await this.call(operations.events, input, options)) as types.Events;
  }
  /** Record an event of the calling app, and answer once log and PCR have it. */
  async emit(input: types.EventRequest, options: Options = {}): Promise<types.RecordedEvent> {
    return (await this.call(operations.emit, input, options)) as types.RecordedEvent;
  }
  /**
   * Have the attestation key certify that a signing key of the calling app is in the TPM. Only for
   * apps that keys.certify_apps names.
   */
  async certify(input: types.CertifyRequest, options: Options = {}): Promise<types.Certified> {
    return (await this.call(operations.certify, input, options)) as types.Certified;
  }
  /** Derive a secret for the calling app, the same after each restart. */
  async derive(input: types.DeriveRequest, options: Options = {}): Promise<types.Derived> {
    return (await this.call(operations.derive, input, options)) as types.Derived;
  }
  /** The public half of a signing key of the calling app. */
  async publicKey(input: { algorithm: string; label: string; version?: number; }, options: Options = {}): Promise<types.PublicKey> {
    return (await this.call(operations.publicKey, input, options)) as types.PublicKey;
  }
  /** Store a secret of the calling app. */
  async seal(input: types.SealRequest, options: Options = {}): Promise<types.Sealed> {
    return (await this.call(operations.seal, input, options)) as types.Sealed;
  }
  /** Sign with a key of the calling app, which no answer contains. */
  async sign(input: types.SignRequest, options: Options = {}): Promise<types.Signed> {
    return (await this.call(operations.sign, input, options)) as types.Signed;
  }
  /** Open a secret of the calling app. */
  async unseal(input: types.UnsealRequest, options: Options = {}): Promise<types.Unsealed> {
    return (await this.call(operations.unseal, input, options)) as types.Unsealed;
  }
}

/** What the admin socket serves. */
export abstract class AdminCalls extends BothCalls {
  /** Open a credential with the TPM. */
  async activate(input: types.ActivateRequest, options: Options = {}): Promise<types.Activated> {
    return (await this.call(operations.activate, input, options)) as types.Activated;
  }
  /** Make a new attestation key in place of one that this TPM does not load. */
  async replaceAK(input: Record<string, never> = {}, options: Options = {}): Promise<types.Replaced> {
    return (await this.call(operations.replaceAK, input, options)) as types.Replaced;
  }
  /** The declared apps. */
  async apps(input: Record<string, never> = {}, options: Options = {}): Promise<types.Apps> {
    return (await this.call(operations.apps, input, options)) as types.Apps;
  }
  /** Measure an app now and answer once the log has it. */
  async measure(input: { name: string; }, options: Options = {}): Promise<types.App> {
    return (await this.call(operations.measure, input, options)) as types.App;
  }
  /**
   * Measure a container that is being created, and answer once the log has it. If the answer is an
   * error, it must not start.
   */
  async recordContainer(input: types.ContainerRequest, options: Options = {}): Promise<types.ApiContainer> {
    return (await this.call(operations.recordContainer, input, options)) as types.ApiContainer;
  }
  /** The measured containers that run. */
  async containers(input: Record<string, never> = {}, options: Options = {}): Promise<types.Containers> {
    return (await this.call(operations.containers, input, options)) as types.Containers;
  }
  /** The volumes that the agent has the keys of. */
  async disks(input: Record<string, never> = {}, options: Options = {}): Promise<types.Disks> {
    return (await this.call(operations.disks, input, options)) as types.Disks;
  }
  /** Record the header that a volume is to have next. */
  async diskChange(input: types.DiskChangeRequest, options: Options = {}): Promise<types.Disk> {
    return (await this.call(operations.diskChange, input, options)) as types.Disk;
  }
  /** Whether the header of a volume is the recorded one. */
  async diskCheck(input: types.DiskRequest, options: Options = {}): Promise<types.DiskChecked> {
    return (await this.call(operations.diskCheck, input, options)) as types.DiskChecked;
  }
  /** Record the key and the header of a volume. */
  async diskEnroll(input: types.DiskEnrollRequest, options: Options = {}): Promise<types.Disk> {
    return (await this.call(operations.diskEnroll, input, options)) as types.Disk;
  }
  /** The key of the agent's key slot, for root, who changes the header. */
  async diskKey(input: types.DiskRequest, options: Options = {}): Promise<types.DiskKey> {
    return (await this.call(operations.diskKey, input, options)) as types.DiskKey;
  }
  /** Forget the key of a volume. */
  async diskRemove(input: types.DiskName, options: Options = {}): Promise<types.DiskName> {
    return (await this.call(operations.diskRemove, input, options)) as types.DiskName;
  }
  /** End a change: the volume has its next header. */
  async diskSettle(input: types.DiskRequest, options: Options = {}): Promise<types.Disk> {
    return (await this.call(operations.diskSettle, input, options)) as types.Disk;
  }
  /** Read the declarations again. */
  async reload(input: Record<string, never> = {}, options: Options = {}): Promise<types.Reloaded> {
    return (await this.call(operations.reload, input, options)) as types.Reloaded;
  }
  /** The secrets that root provisioned, by name. */
  async secrets(input: { app?: string; } = {}, options: Options = {}): Promise<types.Secrets> {
    return (await this.call(operations.secrets, input, options)) as types.Secrets;
  }
  /** Store a secret for an app, which systemd hands to its unit. No answer contains it. */
  async putSecret(input: types.SecretRequest, options: Options = {}): Promise<types.ProvisionedSecret> {
    return (await this.call(operations.putSecret, input, options)) as types.ProvisionedSecret;
  }
  /** Store the secret that a relying party encrypted by a ticket. */
  async receive(input: types.ReceiveRequest, options: Options = {}): Promise<types.ReceivedSecret> {
    return (await this.call(operations.receive, input, options)) as types.ReceivedSecret;
  }
  /** Delete a provisioned secret. */
  async removeSecret(input: types.RemoveSecretRequest, options: Options = {}): Promise<types.StoredName> {
    return (await this.call(operations.removeSecret, input, options)) as types.StoredName;
  }
  /** Replace the content of a provisioned secret; the old one stays until the new one is durable. */
  async rotateSecret(input: types.SecretRequest, options: Options = {}): Promise<types.ProvisionedSecret> {
    return (await this.call(operations.rotateSecret, input, options)) as types.ProvisionedSecret;
  }
  /** Make a ticket, by which a relying party encrypts one secret to this agent. */
  async ticket(input: types.TicketRequest, options: Options = {}): Promise<types.DeliveryTicket> {
    return (await this.call(operations.ticket, input, options)) as types.DeliveryTicket;
  }
  /** State of the store, and every sealed blob. */
  async store(input: Record<string, never> = {}, options: Options = {}): Promise<types.Store> {
    return (await this.call(operations.store, input, options)) as types.Store;
  }
  /** Make an older state that was put back the current one. */
  async acceptRollback(input: Record<string, never> = {}, options: Options = {}): Promise<types.Store> {
    return (await this.call(operations.acceptRollback, input, options)) as types.Store;
  }
  /** What a blob opens on and what would lock it out. */
  async contract(input: { app: string; name?: string; }, options: Options = {}): Promise<types.Contract> {
    return (await this.call(operations.contract, input, options)) as types.Contract;
  }
  /** Change which digests an app must have for its keys. */
  async digests(input: types.DigestRequest, options: Options = {}): Promise<types.Contract> {
    return (await this.call(operations.digests, input, options)) as types.Contract;
  }
  /** Try out the key derivation of the platform: up to five requests to its firmware. */
  async probe(input: Record<string, never> = {}, options: Options = {}): Promise<types.Probed> {
    return (await this.call(operations.probe, input, options)) as types.Probed;
  }
  /** Seal every blob to other recovery recipients. */
  async recipients(input: types.RecipientsRequest, options: Options = {}): Promise<types.Rewritten> {
    return (await this.call(operations.recipients, input, options)) as types.Rewritten;
  }
  /** Open what this machine cannot open and the store key signed, and seal it to this machine. */
  async recover(input: types.RecoverRequest = {}, options: Options = {}): Promise<types.Rewritten> {
    return (await this.call(operations.recover, input, options)) as types.Rewritten;
  }
  /** Forget an older version of an app's root. */
  async retire(input: types.RetireRequest, options: Options = {}): Promise<types.RootVersion> {
    return (await this.call(operations.retire, input, options)) as types.RootVersion;
  }
  /** Seal every blob again to the machine as it is now. */
  async rewrap(input: Record<string, never> = {}, options: Options = {}): Promise<types.Rewritten> {
    return (await this.call(operations.rewrap, input, options)) as types.Rewritten;
  }
  /** Give an app a new version of its root. */
  async rotate(input: types.RotateRequest, options: Options = {}): Promise<types.RootVersion> {
    return (await this.call(operations.rotate, input, options)) as types.RootVersion;
  }
  /** Give the store a new key, and sign every blob with it. */
  async rotateStoreKey(input: Record<string, never> = {}, options: Options = {}): Promise<types.Rewritten> {
    return (await this.call(operations.rotateStoreKey, input, options)) as types.Rewritten;
  }
  /** Try what the agent needs of the TPM. It changes nothing. */
  async tryTPM(input: Record<string, never> = {}, options: Options = {}): Promise<types.Probed> {
    return (await this.call(operations.tryTPM, input, options)) as types.Probed;
  }
  /** How far an upgrade to another launch measurement is. */
  async upgrade(input: Record<string, never> = {}, options: Options = {}): Promise<types.UpgradeStatus> {
    return (await this.call(operations.upgrade, input, options)) as types.UpgradeStatus;
  }
  /** Give an upgrade up, or go back to the store of before it. */
  async abortUpgrade(input: Record<string, never> = {}, options: Options = {}): Promise<types.AbortedUpgrade> {
    return (await this.call(operations.abortUpgrade, input, options)) as types.AbortedUpgrade;
  }
  /** Take over the store that an answer contains. */
  async acceptUpgrade(input: types.AcceptUpgradeRequest, options: Options = {}): Promise<types.AcceptedUpgrade> {
    return (await this.call(operations.acceptUpgrade, input, options)) as types.AcceptedUpgrade;
  }
  /** Verify the request of a successor, and seal the store to its key. */
  async answerUpgrade(input: types.HandOverRequest, options: Options = {}): Promise<types.HandedOver> {
    return (await this.call(operations.answerUpgrade, input, options)) as types.HandedOver;
  }
  /** Remove what the predecessor left here: it cannot go back any more. */
  async finishUpgrade(input: Record<string, never> = {}, options: Options = {}): Promise<types.UpgradeStatus> {
    return (await this.call(operations.finishUpgrade, input, options)) as types.UpgradeStatus;
  }
  /** Name the images that may take the store over, and say what would go over. */
  async prepareUpgrade(input: types.PrepareRequest, options: Options = {}): Promise<types.PreparedUpgrade> {
    return (await this.call(operations.prepareUpgrade, input, options)) as types.PreparedUpgrade;
  }
  /** Pin the key that signs releases. */
  async pinReleaseKey(input: types.ReleaseKeyRequest, options: Options = {}): Promise<types.UpgradeStatus> {
    return (await this.call(operations.pinReleaseKey, input, options)) as types.UpgradeStatus;
  }
  /** Ask to take a store over, with fresh evidence of this machine. */
  async requestUpgrade(input: types.SuccessorRequest, options: Options = {}): Promise<types.SuccessorMessage> {
    return (await this.call(operations.requestUpgrade, input, options)) as types.SuccessorMessage;
  }
}
