// SPDX-License-Identifier: Apache-2.0

import { constants, createPublicKey, type KeyObject, sign } from "node:crypto";
import { open } from "node:fs/promises";
import { AdminCalls, type Call, ClientCalls, operations, type Options } from "./calls.js";
import { BadAnswer, Problem, problem } from "./errors.js";
import { Secret } from "./secret.js";
import { monotonic, Transport, wait } from "./transport.js";
import type * as types from "./types.js";
import { decode, load, type Operation, request } from "./wire.js";

const margin = 15_000; // milliseconds that a call has besides those after which the agent gives up
const maxCredential = 1 << 20; // bytes, as systemd limits them

/** How a client reaches the agent. */
export interface Settings {
  /** Path of the socket. Default: AGENTD_SOCKET or AGENTD_ADMIN_SOCKET, or the usual path. */
  socket?: string;
  /** Milliseconds for each call, with all that it waits for. Default: see Options. */
  timeout?: number;
  /** Whether a call that the agent refuses with `retryAfter`, because it is busy, is repeated after that, while there is time. */
  wait?: boolean;
}

/** Both sockets are asked in the same way. */
class Socket {
  readonly transport: Transport;
  readonly #settings: Settings;

  constructor(settings: Settings, variable: string, usual: string) {
    this.#settings = settings;
    // An empty variable is as none.
    this.transport = new Transport(settings.socket || process.env[variable] || usual, variable);
  }

  end(operation: Operation, options: Options): number {
    return monotonic() + (options.timeout ?? this.#settings.timeout ?? operation.seconds * 1000 + margin);
  }

  async call(operation: Operation, input: object, options: Options): Promise<unknown> {
    const end = this.end(operation, options);
    const { path, body } = request(operation, input);
    try {
      for (;;) {
        const answer = await this.transport.send({ method: operation.method, path, body, end, limit: operation.limit, signal: options.signal });
        if (answer.status === 200) {
          if (operation.answer === "" || (operation.name === "log" && (input as { format?: string }).format === "cel-json")) {
            return answer.body;
          }
          return decode(operation.answer, load(answer.body));
        }
        const refusal = refused(answer.status, answer.type, answer.body);
        const pause = 1000 * (refusal.retryAfter ?? 0);
        // What the agent refuses so, it has not begun.
        if (this.#settings.wait !== true || pause === 0 || ![429, 503].includes(refusal.status) || monotonic() + pause >= end) {
          throw refusal;
        }
        await wait(pause, options.signal);
      }
    } finally {
      body?.fill(0); // it may contain a secret
    }
  }
}

function refused(status: number, type: string, body: Uint8Array): Problem {
  if (type === "application/problem+json") {
    const p = decode("Problem", load(body)) as types.Problem;
    if (p.code !== "") {
      return problem(p);
    }
  }
  throw new BadAnswer(`unexpected HTTP status ${status}`);
}

/** Signs a message with the private half of `publicKey`, a DER SubjectPublicKeyInfo. */
export interface Signer {
  readonly publicKey: Uint8Array;
  sign(message: Uint8Array): Uint8Array | Promise<Uint8Array>;
}

/** A private key of node:crypto, as far as the library uses it. */
export interface PrivateKey {
  readonly type: string;
  readonly asymmetricKeyType?: string | undefined;
}

/** Returns a signer for a key of node:crypto: Ed25519, ECDSA on P-256, P-384 or P-521, or RSA. */
export function signer(key: PrivateKey): Signer {
  const private_ = key as KeyObject;
  const curves: { readonly [name: string]: string } = { prime256v1: "sha256", secp384r1: "sha384", secp521r1: "sha512" };
  const publicKey = Uint8Array.from(createPublicKey(private_).export({ type: "spki", format: "der" }));
  switch (key.asymmetricKeyType) {
    case "ed25519":
      return { publicKey, sign: (message) => sign(null, message, { key: private_ }) };
    case "ec": {
      const hash = curves[private_.asymmetricKeyDetails?.namedCurve ?? ""];
      if (hash !== undefined) {
        return { publicKey, sign: (message) => sign(hash, message, { key: private_, dsaEncoding: "der" }) };
      }
      break;
    }
    case "rsa":
      return { publicKey, sign: (message) => sign("sha256", message, { key: private_, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }) };
  }
  throw new TypeError("such a key cannot prove its possession: want Ed25519, ECDSA on P-256, P-384 or P-521, or RSA");
}

/** Asks the agent on this machine. Each method is one operation of docs/api.md. */
export class Client extends ClientCalls {
  readonly #socket: Socket;
  #known: types.Self | undefined;
  protected override readonly call: Call = (operation, input, options) => this.#socket.call(operation, input, options);

  constructor(settings: Settings = {}) {
    super();
    this.#socket = new Socket(settings, "AGENTD_SOCKET", "/run/agentd/agentd.sock");
  }

  /**
   * Evidence that names a public key, with a proof that this process has its private half. What the
   * agent said of itself and of this process is remembered. If it is not so any more, the client asks
   * and signs once more.
   */
  async evidenceWithKey(input: Omit<types.EvidenceRequest, "publicKey" | "keyProof" | "signingKey">, key: Signer, options: Options = {}): Promise<Uint8Array> {
    const end = this.#socket.end(operations.evidence, options);
    const left = (): Options => ({ ...options, timeout: end - monotonic() });
    for (let again = true; ; again = false) {
      const me = (this.#known ??= await this.self({}, left()));
      const keyProof = Uint8Array.from(await key.sign(keyProofMessage(me, input.nonce, input.audience)));
      try {
        return await this.evidence({ ...input, publicKey: key.publicKey, keyProof }, left());
      } catch (e) {
        if (!again || !(e instanceof Problem) || e.code !== "bad-key-proof") {
          throw e;
        }
        this.#known = undefined;
      }
    }
  }

  /** The measurement log from record `start` on, as a TCG Canonical Event Log in JSON. */
  async logCELJSON(input: { start?: number } = {}, options: Options = {}): Promise<Uint8Array> {
    return (await this.call(operations.log, { ...input, format: "cel-json" }, options)) as Uint8Array;
  }

  /** Closes connections that are kept for later requests. */
  close(): void {
    this.#socket.transport.close();
  }
}

/** Administrates the agent, as root. */
export class Admin extends AdminCalls {
  readonly #socket: Socket;
  protected override readonly call: Call = (operation, input, options) => this.#socket.call(operation, input, options);

  constructor(settings: Settings = {}) {
    super();
    this.#socket = new Socket(settings, "AGENTD_ADMIN_SOCKET", "/run/agentd/admin.sock");
  }

  /** Closes connections that are kept for later requests. */
  close(): void {
    this.#socket.transport.close();
  }
}

/** Returns what a caller signs to prove that it has a key: docs/evidence.md, section 6. */
export function keyProofMessage(me: types.Self, nonce: Uint8Array, audience = ""): Uint8Array {
  const number = (n: number) => {
    const octets = new Uint8Array(8);
    new DataView(octets.buffer).setBigUint64(0, BigInt(n));
    return octets;
  };
  const text = new TextEncoder();
  const parts = [text.encode("agentd/key-proof/1"), nonce, text.encode(audience), me.agentKey, number(me.uid), number(me.pid), number(me.started)];
  return Uint8Array.from(parts.flatMap((part) => [...number(part.length), ...part]));
}

/**
 * Returns a credential of this service, which systemd took from the agent when it started it
 * (docs/credentials.md). It fails if the unit does not load one of that name.
 */
export async function credential(name: string): Promise<Secret> {
  const folder = process.env["CREDENTIALS_DIRECTORY"];
  if (folder === undefined || folder === "") {
    throw new Error("CREDENTIALS_DIRECTORY is not set: this program is not a service that loads credentials");
  }
  if (name === "" || name === "." || name === ".." || /[/\0]/.test(name)) {
    throw new TypeError("a credential has the name of a file, without a folder");
  }
  const file = await open(`${folder}/${name}`, "r");
  const octets = new Uint8Array(maxCredential + 1);
  try {
    let length = 0;
    for (let n = -1; n !== 0; length += n) {
      n = (await file.read(octets, length, octets.length - length)).bytesRead;
    }
    if (length > maxCredential) {
      throw new TypeError(`the credential is longer than ${maxCredential} bytes`);
    }
    return new Secret(octets.subarray(0, length));
  } finally {
    octets.fill(0);
    await file.close();
  }
}
