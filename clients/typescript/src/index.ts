// SPDX-License-Identifier: Apache-2.0

export type { Options, Signal } from "./calls.js";
export { Admin, Client, credential, keyProofMessage, type PrivateKey, type Settings, type Signer, signer } from "./client.js";
export { known as codes } from "./codes.js";
export * from "./documents.js";
export * from "./errors.js";
export { Secret } from "./secret.js";
