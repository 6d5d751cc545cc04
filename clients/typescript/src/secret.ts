// SPDX-License-Identifier: Apache-2.0

/**
 * Secret bytes. `reveal` returns them. Text, logs, JSON and clones do not have them.
 *
 * `wipe` overwrites this copy. The engine may have made others on the way, which a program cannot
 * overwrite. What was wiped is refused, so that no program takes it for an empty key.
 */
export class Secret {
  readonly #octets: Uint8Array;
  #wiped = false;

  constructor(octets: Uint8Array) {
    this.#octets = Uint8Array.from(octets);
  }

  /** Returns a copy of the bytes. What the caller makes of it is the caller's to hide. It throws if the secret was wiped. */
  reveal(): Uint8Array {
    if (this.#wiped) {
      throw new Error("this Secret was wiped");
    }
    return Uint8Array.from(this.#octets);
  }

  /** Overwrites the bytes, and forgets them. */
  wipe(): void {
    this.#octets.fill(0);
    this.#wiped = true;
  }

  get length(): number {
    return this.#wiped ? 0 : this.#octets.length;
  }

  /** Reports whether both have the same bytes, and were not wiped. The time does not depend on where they differ. */
  equals(other: Secret): boolean {
    if (this.#wiped || other.#wiped || this.length !== other.length) {
      return false;
    }
    let different = 0;
    this.#octets.forEach((octet, i) => (different |= octet ^ (other.#octets[i] ?? 0)));
    return different === 0;
  }

  toString(): string {
    return `<Secret of ${this.length} bytes>`;
  }

  toJSON(): string {
    return this.toString();
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}
