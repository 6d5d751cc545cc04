// SPDX-License-Identifier: Apache-2.0
// What goes over the socket: JSON with bytes in base64, read strictly.

import { BadAnswer } from "./errors.js";
import { members } from "./members.js";
import { Secret } from "./secret.js";

/** What a value is. A digest has 32 bytes. */
export type Kind =
  | "text"
  | "bytes"
  | "digest"
  | "secret"
  | "flag"
  | "number"
  | readonly ["integer", number]
  | readonly ["object", string]
  | readonly ["list", Kind];

/** One member of an object, or one parameter of an operation. */
export interface Member {
  readonly name: string;
  readonly kind: Kind;
  readonly required: boolean;
  readonly in: "" | "path" | "query" | "body";
}

/** What an operation is called by, and its limits. */
export interface Operation {
  readonly name: string;
  readonly method: string;
  readonly path: string;
  readonly socket: "client" | "admin" | "both";
  /** After which the agent gives up. */
  readonly seconds: number;
  /** Bytes of an answer. */
  readonly limit: number;
  /** Name of the type of the answer; empty: its bytes. */
  readonly answer: string;
  readonly input: readonly Member[];
}

type Values = { readonly [name: string]: unknown };

/** Returns path with query, and body, of a request. */
export function request(operation: Operation, input: object): { path: string; body: Uint8Array | undefined } {
  const given = input as Values;
  let path = operation.path;
  const query: string[] = [];
  const body: { [name: string]: unknown } = {};
  refuseOthers(given, operation.input, operation.name);
  for (const m of operation.input) {
    const value = given[m.name];
    if (value === undefined) {
      if (m.required) {
        throw new TypeError(`${m.name} is required`);
      }
      continue;
    }
    const encoded = encode(m.kind, value, m.name);
    if (m.in === "path") {
      path = path.replace(`{${m.name}}`, () => encodeURIComponent(String(encoded)));
    } else if (m.in === "query") {
      query.push(`${m.name}=${encodeURIComponent(String(encoded))}`);
    } else {
      body[m.name] = encoded;
    }
  }
  if (query.length > 0) {
    path += `?${query.join("&")}`;
  }
  const hasBody = operation.input.some((m) => m.in === "body");
  return { path, body: hasBody ? new TextEncoder().encode(JSON.stringify(body)) : undefined };
}

/** Refuses a member that is not known. */
function refuseOthers(given: Values, known: readonly Member[], where: string): void {
  for (const name of Object.keys(given)) {
    if (given[name] !== undefined && !known.some((m) => m.name === name)) {
      throw new TypeError(`${where} takes no ${name}`);
    }
  }
}

/** Returns a value as JSON has it. It refuses a value of another type. */
function encode(kind: Kind, value: unknown, where: string): unknown {
  const [name, of] = parts(kind);
  if (name === "secret" && value instanceof Secret) {
    return base64(value.reveal());
  }
  if ((name === "bytes" || name === "digest" || name === "secret") && value instanceof Uint8Array) {
    return base64(value);
  }
  if ((name === "text" && typeof value === "string") || (name === "flag" && typeof value === "boolean")) {
    return value;
  }
  if (name === "integer" && whole(value, of)) {
    return value;
  }
  if (name === "list" && Array.isArray(value)) {
    return value.map((v) => encode(of as Kind, v, where));
  }
  if (name === "object" && typeof value === "object" && value !== null) {
    const out: { [name: string]: unknown } = {};
    const known = members[of as string] ?? [];
    refuseOthers(value as Values, known, where);
    for (const m of known) {
      const v = (value as Values)[m.name];
      if (v !== undefined) {
        out[m.name] = encode(m.kind, v, `${where}.${m.name}`);
      } else if (m.required) {
        throw new TypeError(`${where}.${m.name} is required`);
      }
    }
    return out;
  }
  // The value itself may be a secret.
  throw new TypeError(`${where} is of another type, or out of range: want ${name}${typeof of === "number" ? ` up to ${of}` : ""}`);
}

// Values in an answer. Each takes some hundred bytes of memory, so that lists of empty lists would take
// many times the size of the answer.
const most = 1 << 19;

/** Returns the JSON of an answer. */
export function load(octets: Uint8Array): unknown {
  let values = 0;
  for (const c of octets) {
    values += c === 0x2c || c === 0x5b || c === 0x7b ? 1 : 0; // comma, bracket, brace
  }
  if (values > most) {
    throw new BadAnswer(`the answer has more than ${most} values`);
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(octets);
  } catch {
    throw new BadAnswer("the answer is not UTF-8");
  }
  try {
    return JSON.parse(text);
  } catch {
    // The error of the engine can quote the text, which may contain a secret.
    throw new BadAnswer("the answer is not JSON");
  }
}

/** Returns an object of the API. Members that this version does not know are ignored. */
export function decode(type: string, value: unknown): unknown {
  return read(["object", type], value, type);
}

function read(kind: Kind, value: unknown, where: string): unknown {
  const [name, of] = parts(kind);
  if (name === "object" && record(value)) {
    const out: { [name: string]: unknown } = {};
    for (const m of members[of as string] ?? []) {
      if (Object.hasOwn(value, m.name)) {
        out[m.name] = read(m.kind, value[m.name], `${where}.${m.name}`);
      } else if (m.required) {
        throw new BadAnswer(`${where} has no member ${m.name}`);
      }
    }
    return out;
  }
  if (name === "list" && Array.isArray(value)) {
    return value.map((v) => read(of as Kind, v, where));
  }
  if (name === "flag" && typeof value === "boolean") {
    return value;
  }
  if ((name === "integer" && whole(value, of)) || (name === "number" && typeof value === "number")) {
    return value;
  }
  if (typeof value === "string") {
    if (name === "text" && !/[\ud800-\udfff]/u.test(value)) {
      return value;
    }
    const octets = name === "text" ? undefined : bytes(value);
    if (octets !== undefined && (name === "bytes" || name === "secret" || (name === "digest" && octets.length === 32))) {
      return name === "secret" ? new Secret(octets) : octets;
    }
  }
  throw new BadAnswer(`${where} is not of kind ${name}`);
}

function parts(kind: Kind): readonly [string, unknown] {
  return typeof kind === "string" ? [kind, undefined] : kind;
}

function record(value: unknown): value is Values {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function whole(value: unknown, most: unknown): boolean {
  return Number.isSafeInteger(value) && !Object.is(value, -0) && (value as number) >= 0 && (value as number) <= (most as number);
}

// Browsers and Node.js have btoa and atob, for strings with one character for each byte.
const piece = 0x8000;

/** Returns bytes in base64. */
export function base64(octets: Uint8Array): string {
  let binary = "";
  for (let i = 0; i < octets.length; i += piece) {
    binary += String.fromCharCode(...octets.subarray(i, i + piece));
  }
  return btoa(binary);
}

/** Returns the bytes of canonical base64, or undefined. */
function bytes(text: string): Uint8Array | undefined {
  let binary: string;
  try {
    binary = atob(text);
  } catch {
    return undefined;
  }
  return btoa(binary) === text ? Uint8Array.from(binary, (c) => c.charCodeAt(0)) : undefined;
}
