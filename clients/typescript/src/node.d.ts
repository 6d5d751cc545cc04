// SPDX-License-Identifier: Apache-2.0
// What the library uses of Node.js, and of what browsers have too. Nothing that a user of the
// library sees names these types, so that neither needs the types of Node.js.

declare module "node:http" {
  interface Stream {
    on(event: string, listener: (...values: never[]) => void): unknown;
  }
  interface IncomingMessage extends Stream {
    readonly statusCode?: number;
    readonly complete: boolean;
    readonly headers: { readonly [name: string]: string | undefined };
  }
  interface ClientRequest extends Stream {
    readonly reusedSocket: boolean;
    end(body?: Uint8Array): void;
    destroy(): void;
  }
  class Agent {
    constructor(options: { keepAlive: boolean; maxSockets: number; maxFreeSockets: number; timeout: number });
    destroy(): void;
  }
  function request(options: {
    agent: Agent;
    socketPath: string;
    method: string;
    path: string;
    headers: { [name: string]: string | number };
    maxHeaderSize: number;
    insecureHTTPParser: boolean;
  }): ClientRequest;
}

declare module "node:crypto" {
  interface KeyObject {
    readonly type: string;
    readonly asymmetricKeyType?: string;
    readonly asymmetricKeyDetails?: { namedCurve?: string };
    export(options: { type: "spki"; format: "der" }): Uint8Array;
  }
  function createPublicKey(key: KeyObject): KeyObject;
  function sign(algorithm: string | null, message: Uint8Array, key: { key: KeyObject; [option: string]: unknown }): Uint8Array;
  const constants: { RSA_PKCS1_PSS_PADDING: number };
}

declare module "node:fs/promises" {
  interface FileHandle {
    read(buffer: Uint8Array, offset: number, length: number): Promise<{ bytesRead: number }>;
    close(): Promise<void>;
  }
  function open(path: string, flags: "r"): Promise<FileHandle>;
}

declare const process: { readonly env: { readonly [name: string]: string | undefined } };
declare const performance: { now(): number };
declare function setTimeout(f: () => void, milliseconds: number): unknown;
declare function clearTimeout(timer: unknown): void;
declare function btoa(binary: string): string;
declare function atob(base64: string): string;
declare class TextEncoder {
  encode(text: string): Uint8Array;
}
declare class TextDecoder {
  constructor(label: "utf-8", options: { fatal: true; ignoreBOM: true });
  decode(octets: Uint8Array): string;
}
