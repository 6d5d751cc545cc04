# SPDX-License-Identifier: Apache-2.0
# Generated: `go test ./test/generate -update` writes this file.
"One method for each operation of api/openapi.json."

from __future__ import annotations

from typing import Literal

from . import types
from ._secret import Octets, Secret
from ._wire import Caller, Member, Operation

OPERATIONS: dict[str, Operation] = {
    "ak": Operation(
        "ak",
        "GET",
        "/v1/ak",
        "both",
        30,
        4194304,
        (
        ),
    ),
    "activate": Operation(
        "activate",
        "POST",
        "/v1/ak/activate",
        "admin",
        30,
        4194304,
        (
            Member("credential", "credential", "bytes", True, "body"),
            Member("secret", "secret", "bytes", True, "body"),
        ),
    ),
    "replaceAK": Operation(
        "replaceAK",
        "POST",
        "/v1/ak/replace",
        "admin",
        300,
        4194304,
        (
        ),
    ),
    "apps": Operation(
        "apps",
        "GET",
        "/v1/apps",
        "admin",
        10,
        4194304,
        (
        ),
    ),
    "measure": Operation(
        "measure",
        "POST",
        "/v1/apps/{name}/measure",
        "admin",
        1200,
        4194304,
        (
            Member("name", "name", "text", True, "path"),
        ),
    ),
    "recordContainer": Operation(
        "recordContainer",
        "POST",
        "/v1/containers",
        "admin",
        1200,
        4194304,
        (
            Member("engine", "engine", "text", True, "body"),
            Member("id", "id", "text", True, "body"),
            Member("pid", "pid", ("integer", 4294967295), True, "body"),
            Member("bundle", "bundle", "text", True, "body"),
        ),
    ),
    "containers": Operation(
        "containers",
        "GET",
        "/v1/containers/running",
        "admin",
        10,
        4194304,
        (
        ),
    ),
    "plan": Operation(
        "plan",
        "GET",
        "/v1/contract",
        "client",
        90,
        4194304,
        (
            Member("name", "name", "text", False, "query"),
        ),
    ),
    "discard": Operation(
        "discard",
        "POST",
        "/v1/discard",
        "client",
        90,
        4194304,
        (
            Member("name", "name", "text", True, "body"),
        ),
    ),
    "disks": Operation(
        "disks",
        "GET",
        "/v1/disks",
        "admin",
        90,
        4194304,
        (
        ),
    ),
    "diskChange": Operation(
        "diskChange",
        "POST",
        "/v1/disks/change",
        "admin",
        90,
        4194304,
        (
            Member("name", "name", "text", True, "body"),
            Member("header", "header", ("object", "DiskHeader"), True, "body"),
            Member("slot", "slot", ("integer", 4294967295), True, "body"),
            Member("key", "key", "secret", False, "body"),
        ),
    ),
    "diskCheck": Operation(
        "diskCheck",
        "POST",
        "/v1/disks/check",
        "admin",
        90,
        4194304,
        (
            Member("name", "name", "text", True, "body"),
            Member("headers", "headers", ("list", ("object", "DiskHeader")), True, "body"),
        ),
    ),
    "diskEnroll": Operation(
        "diskEnroll",
        "POST",
        "/v1/disks/enroll",
        "admin",
        90,
        4194304,
        (
            Member("name", "name", "text", True, "body"),
            Member("device", "device", "text", True, "body"),
            Member("header", "header", ("object", "DiskHeader"), True, "body"),
            Member("slot", "slot", ("integer", 4294967295), True, "body"),
            Member("key", "key", "secret", True, "body"),
            Member("lose_on_hardware_change", "loseOnHardwareChange", "flag", False, "body"),
            Member("replace", "replace", "flag", False, "body"),
        ),
    ),
    "diskKey": Operation(
        "diskKey",
        "POST",
        "/v1/disks/key",
        "admin",
        90,
        4194304,
        (
            Member("name", "name", "text", True, "body"),
            Member("headers", "headers", ("list", ("object", "DiskHeader")), True, "body"),
        ),
    ),
    "diskRemove": Operation(
        "diskRemove",
        "POST",
        "/v1/disks/remove",
        "admin",
        90,
        4194304,
        (
            Member("name", "name", "text", True, "body"),
        ),
    ),
    "diskSettle": Operation(
        "diskSettle",
        "POST",
        "/v1/disks/settle",
        "admin",
        90,
        4194304,
        (
            Member("name", "name", "text", True, "body"),
            Member("headers", "headers", ("list", ("object", "DiskHeader")), True, "body"),
        ),
    ),
    "events": Operation(
        "events",
        "GET",
        "/v1/events",
        "client",
        30,
        4194304,
        (
            Member("start", "start", ("integer", 9007199254740991), False, "query"),
            Member("domain", "domain", "text", False, "query"),
        ),
    ),
    "emit": Operation(
        "emit",
        "POST",
        "/v1/events",
        "client",
        30,
        4194304,
        (
            Member("domain", "domain", "text", True, "body"),
            Member("content", "content", "bytes", False, "body"),
            Member("digest", "digest", "digest", False, "body"),
        ),
    ),
    "evidence": Operation(
        "evidence",
        "POST",
        "/v1/evidence",
        "both",
        90,
        37748736,
        (
            Member("nonce", "nonce", "bytes", True, "body"),
            Member("audience", "audience", "text", False, "body"),
            Member("firmware_log", "firmwareLog", "flag", False, "body"),
            Member("freshness", "freshness", "text", False, "body"),
            Member("ima", "ima", "flag", False, "body"),
            Member("ima_start", "imaStart", ("integer", 9007199254740991), False, "body"),
            Member("key_proof", "keyProof", "bytes", False, "body"),
            Member("log", "log", "text", False, "body"),
            Member("log_start", "logStart", ("integer", 9007199254740991), False, "body"),
            Member("public_key", "publicKey", "bytes", False, "body"),
            Member("signing_key", "signingKey", ("object", "SigningKey"), False, "body"),
            Member("user_data", "userData", "bytes", False, "body"),
        ),
    ),
    "certify": Operation(
        "certify",
        "POST",
        "/v1/keys/certify",
        "client",
        90,
        4194304,
        (
            Member("label", "label", "text", True, "body"),
            Member("algorithm", "algorithm", "text", True, "body"),
            Member("data", "data", "bytes", True, "body"),
            Member("version", "version", ("integer", 4294967295), False, "body"),
        ),
    ),
    "derive": Operation(
        "derive",
        "POST",
        "/v1/keys/derive",
        "client",
        90,
        4194304,
        (
            Member("label", "label", "text", True, "body"),
            Member("length", "length", ("integer", 4294967295), True, "body"),
            Member("version", "version", ("integer", 4294967295), False, "body"),
        ),
    ),
    "publicKey": Operation(
        "publicKey",
        "GET",
        "/v1/keys/public",
        "client",
        90,
        4194304,
        (
            Member("label", "label", "text", True, "query"),
            Member("algorithm", "algorithm", "text", True, "query"),
            Member("version", "version", ("integer", 9007199254740991), False, "query"),
        ),
    ),
    "log": Operation(
        "log",
        "GET",
        "/v1/log",
        "both",
        30,
        68157440,
        (
            Member("start", "start", ("integer", 9007199254740991), False, "query"),
            Member("format", "format", "text", False, "query"),
        ),
    ),
    "metrics": Operation(
        "metrics",
        "GET",
        "/v1/metrics",
        "both",
        10,
        4194304,
        (
        ),
    ),
    "openAPI": Operation(
        "openAPI",
        "GET",
        "/v1/openapi.json",
        "both",
        10,
        4194304,
        (
        ),
    ),
    "process": Operation(
        "process",
        "GET",
        "/v1/process",
        "both",
        10,
        4194304,
        (
            Member("pid", "pid", ("integer", 9007199254740991), True, "query"),
        ),
    ),
    "reload": Operation(
        "reload",
        "POST",
        "/v1/reload",
        "admin",
        300,
        4194304,
        (
        ),
    ),
    "seal": Operation(
        "seal",
        "POST",
        "/v1/seal",
        "client",
        90,
        4194304,
        (
            Member("name", "name", "text", True, "body"),
            Member("data", "data", "secret", True, "body"),
            Member("associated_data", "associatedData", "bytes", False, "body"),
            Member("require_digest", "requireDigest", "flag", False, "body"),
        ),
    ),
    "secrets": Operation(
        "secrets",
        "GET",
        "/v1/secrets",
        "admin",
        90,
        4194304,
        (
            Member("app", "app", "text", False, "query"),
        ),
    ),
    "putSecret": Operation(
        "putSecret",
        "POST",
        "/v1/secrets/put",
        "admin",
        90,
        4194304,
        (
            Member("app", "app", "text", True, "body"),
            Member("name", "name", "text", True, "body"),
            Member("data", "data", "secret", True, "body"),
        ),
    ),
    "receive": Operation(
        "receive",
        "POST",
        "/v1/secrets/receive",
        "admin",
        1200,
        4194304,
        (
            Member("sealed", "sealed", "bytes", True, "body"),
        ),
    ),
    "removeSecret": Operation(
        "removeSecret",
        "POST",
        "/v1/secrets/remove",
        "admin",
        90,
        4194304,
        (
            Member("app", "app", "text", True, "body"),
            Member("name", "name", "text", True, "body"),
        ),
    ),
    "rotateSecret": Operation(
        "rotateSecret",
        "POST",
        "/v1/secrets/rotate",
        "admin",
        90,
        4194304,
        (
            Member("app", "app", "text", True, "body"),
            Member("name", "name", "text", True, "body"),
            Member("data", "data", "secret", True, "body"),
        ),
    ),
    "ticket": Operation(
        "ticket",
        "POST",
        "/v1/secrets/ticket",
        "admin",
        1200,
        4194304,
        (
            Member("app", "app", "text", True, "body"),
            Member("name", "name", "text", True, "body"),
            Member("challenge", "challenge", "bytes", True, "body"),
            Member("valid_for", "validFor", ("integer", 4294967295), True, "body"),
            Member("any_sender", "anySender", "flag", False, "body"),
            Member("replace", "replace", "flag", False, "body"),
            Member("sender", "sender", "bytes", False, "body"),
        ),
    ),
    "self": Operation(
        "self",
        "GET",
        "/v1/self",
        "both",
        10,
        4194304,
        (
        ),
    ),
    "sign": Operation(
        "sign",
        "POST",
        "/v1/sign",
        "client",
        90,
        4194304,
        (
            Member("label", "label", "text", True, "body"),
            Member("algorithm", "algorithm", "text", True, "body"),
            Member("digest", "digest", "bytes", False, "body"),
            Member("message", "message", "bytes", False, "body"),
            Member("version", "version", ("integer", 4294967295), False, "body"),
        ),
    ),
    "status": Operation(
        "status",
        "GET",
        "/v1/status",
        "both",
        10,
        4194304,
        (
            Member("check", "check", "text", False, "query"),
        ),
    ),
    "store": Operation(
        "store",
        "GET",
        "/v1/store",
        "admin",
        90,
        4194304,
        (
        ),
    ),
    "acceptRollback": Operation(
        "acceptRollback",
        "POST",
        "/v1/store/accept-rollback",
        "admin",
        90,
        4194304,
        (
        ),
    ),
    "contract": Operation(
        "contract",
        "GET",
        "/v1/store/contract",
        "admin",
        90,
        4194304,
        (
            Member("app", "app", "text", True, "query"),
            Member("name", "name", "text", False, "query"),
        ),
    ),
    "digests": Operation(
        "digests",
        "POST",
        "/v1/store/digests",
        "admin",
        90,
        4194304,
        (
            Member("app", "app", "text", True, "body"),
            Member("action", "action", "text", True, "body"),
            Member("digest", "digest", "digest", False, "body"),
        ),
    ),
    "probe": Operation(
        "probe",
        "POST",
        "/v1/store/probe",
        "admin",
        300,
        4194304,
        (
        ),
    ),
    "recipients": Operation(
        "recipients",
        "POST",
        "/v1/store/recipients",
        "admin",
        300,
        4194304,
        (
            Member("recipients", "recipients", ("list", "text"), True, "body"),
            Member("lose_on_hardware_change", "loseOnHardwareChange", "flag", False, "body"),
        ),
    ),
    "recover": Operation(
        "recover",
        "POST",
        "/v1/store/recover",
        "admin",
        300,
        4194304,
        (
            Member("accept_rollback", "acceptRollback", "flag", False, "body"),
            Member("identities", "identities", "secret", False, "body"),
            Member("lose_on_hardware_change", "loseOnHardwareChange", "flag", False, "body"),
            Member("recipients", "recipients", ("list", "text"), False, "body"),
            Member("store_key", "storeKey", "text", False, "body"),
            Member("trust_unknown_writer_of_this_disk", "trustUnknownWriterOfThisDisk", "flag", False, "body"),
        ),
    ),
    "retire": Operation(
        "retire",
        "POST",
        "/v1/store/retire",
        "admin",
        90,
        4194304,
        (
            Member("app", "app", "text", True, "body"),
            Member("version", "version", ("integer", 4294967295), True, "body"),
        ),
    ),
    "rewrap": Operation(
        "rewrap",
        "POST",
        "/v1/store/rewrap",
        "admin",
        300,
        4194304,
        (
        ),
    ),
    "rotate": Operation(
        "rotate",
        "POST",
        "/v1/store/rotate",
        "admin",
        300,
        4194304,
        (
            Member("app", "app", "text", True, "body"),
        ),
    ),
    "rotateStoreKey": Operation(
        "rotateStoreKey",
        "POST",
        "/v1/store/rotate-store-key",
        "admin",
        300,
        4194304,
        (
        ),
    ),
    "tryTPM": Operation(
        "tryTPM",
        "POST",
        "/v1/tpm/try",
        "admin",
        300,
        4194304,
        (
        ),
    ),
    "unseal": Operation(
        "unseal",
        "POST",
        "/v1/unseal",
        "client",
        90,
        4194304,
        (
            Member("name", "name", "text", True, "body"),
            Member("associated_data", "associatedData", "bytes", False, "body"),
        ),
    ),
    "upgrade": Operation(
        "upgrade",
        "GET",
        "/v1/upgrade",
        "admin",
        90,
        4194304,
        (
        ),
    ),
    "abortUpgrade": Operation(
        "abortUpgrade",
        "POST",
        "/v1/upgrade/abort",
        "admin",
        300,
        4194304,
        (
        ),
    ),
    "acceptUpgrade": Operation(
        "acceptUpgrade",
        "POST",
        "/v1/upgrade/accept",
        "admin",
        300,
        4194304,
        (
            Member("answer", "answer", "bytes", True, "body"),
            Member("store_key", "storeKey", "text", True, "body"),
        ),
    ),
    "answerUpgrade": Operation(
        "answerUpgrade",
        "POST",
        "/v1/upgrade/answer",
        "admin",
        300,
        4194304,
        (
            Member("request", "request", "bytes", True, "body"),
        ),
    ),
    "finishUpgrade": Operation(
        "finishUpgrade",
        "POST",
        "/v1/upgrade/finish",
        "admin",
        300,
        4194304,
        (
        ),
    ),
    "prepareUpgrade": Operation(
        "prepareUpgrade",
        "POST",
        "/v1/upgrade/prepare",
        "admin",
        300,
        4194304,
        (
            Member("release", "release", "bytes", True, "body"),
            Member("signature", "signature", "bytes", True, "body"),
            Member("valid_for", "validFor", ("integer", 4294967295), True, "body"),
        ),
    ),
    "pinReleaseKey": Operation(
        "pinReleaseKey",
        "POST",
        "/v1/upgrade/release-key",
        "admin",
        90,
        4194304,
        (
            Member("key", "key", "bytes", True, "body"),
        ),
    ),
    "requestUpgrade": Operation(
        "requestUpgrade",
        "POST",
        "/v1/upgrade/request",
        "admin",
        300,
        4194304,
        (
            Member("offer", "offer", "bytes", True, "body"),
        ),
    ),
}


class BothCalls(Caller):
    """What both sockets serve."""

    def ak(
        self,
        *,
        timeout: float | None = None,
    ) -> types.AK:
        """The attestation key, for enrolment."""
        return self._answer(types.AK, OPERATIONS["ak"], {}, timeout)

    def evidence(
        self,
        nonce: Octets,
        *,
        audience: str | None = None,
        firmware_log: bool | None = None,
        freshness: Literal["fresh", "anchored"] | None = None,
        ima: bool | None = None,
        ima_start: int | None = None,
        key_proof: Octets | None = None,
        log: Literal["whole", "from", "none"] | None = None,
        log_start: int | None = None,
        public_key: Octets | None = None,
        signing_key: types.SigningKey | None = None,
        user_data: Octets | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """Evidence over the caller's nonce and key.

        nonce: 16 to 64 bytes, required.

        audience: At most 256 bytes.

        firmware_log: Whether to add the firmware's event log, if the machine has one.

        freshness: Default "fresh".

        ima: Whether to add the kernel's list of what it measured (IMA); for root and declared
        applications, if PCR 10 is quoted.

        ima_start: With ima: first entry wanted.

        key_proof: At most 1 KiB; signature by the private half of PublicKey over
        evidence.KeyProofMessage, with what GET /v1/self says.

        log: Default "whole".

        log_start: With log "from": first record wanted.

        public_key: At most 8 KiB.

        signing_key: In place of publicKey and keyProof: the agent names a signing key of the
        calling app, and proves its possession itself; on the client socket only.

        user_data: At most 4 KiB.
        """
        return self._raw(OPERATIONS["evidence"], {"nonce": nonce, "audience": audience, "firmware_log": firmware_log, "freshness": freshness, "ima": ima, "ima_start": ima_start, "key_proof": key_proof, "log": log, "log_start": log_start, "public_key": public_key, "signing_key": signing_key, "user_data": user_data}, timeout)

    def log(
        self,
        *,
        start: int | None = None,
        timeout: float | None = None,
    ) -> types.Log:
        """The measurement log. With format cel-json the answer is a TCG Canonical Event Log in
        JSON encoding.

        start: Number of the first record wanted.
        """
        return self._answer(types.Log, OPERATIONS["log"], {"start": start}, timeout)

    def metrics(
        self,
        *,
        timeout: float | None = None,
    ) -> bytes:
        """What the agent counts, for Prometheus. The client socket leaves out what tells of other
        users and apps.
        """
        return self._raw(OPERATIONS["metrics"], {}, timeout)

    def open_api(
        self,
        *,
        timeout: float | None = None,
    ) -> bytes:
        """This API as an OpenAPI document."""
        return self._raw(OPERATIONS["openAPI"], {}, timeout)

    def process(
        self,
        pid: int,
        *,
        timeout: float | None = None,
    ) -> types.Process:
        """Who a process is to the agent, and why. The client socket answers only the units that
        processes.askers names.

        pid: Number of the process, as the agent knows it.
        """
        return self._answer(types.Process, OPERATIONS["process"], {"pid": pid}, timeout)

    def self(
        self,
        *,
        timeout: float | None = None,
    ) -> types.Self:
        """Who the caller is to the agent, and why."""
        return self._answer(types.Self, OPERATIONS["self"], {}, timeout)

    def status(
        self,
        *,
        check: Literal["none", "now"] | None = None,
        timeout: float | None = None,
    ) -> types.Status:
        """The state of the agent.

        check: Whether the agent tries first, for up to 5 seconds, if it can make evidence now.
        """
        return self._answer(types.Status, OPERATIONS["status"], {"check": check}, timeout)


class ClientCalls(Caller):
    """What the client socket serves besides."""

    def plan(
        self,
        *,
        name: str | None = None,
        timeout: float | None = None,
    ) -> types.Contract:
        """What a secret of the calling app would be sealed to now, and what would lock it out.

        name: Name of a secret; absent: the root of the app, from which secrets are derived.
        """
        return self._answer(types.Contract, OPERATIONS["plan"], {"name": name}, timeout)

    def discard(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> types.Discarded:
        """Delete a secret of the calling app.

        name: Name of the secret.
        """
        return self._answer(types.Discarded, OPERATIONS["discard"], {"name": name}, timeout)

    def events(
        self,
        *,
        start: int | None = None,
        domain: str | None = None,
        timeout: float | None = None,
    ) -> types.Events:
        """The events of the calling app since boot, at most 100.

        start: Number of the first record wanted.

        domain: Domain of the events wanted; absent: all domains.
        """
        return self._answer(types.Events, OPERATIONS["events"], {"start": start, "domain": domain}, timeout)

    def emit(
        self,
        domain: str,
        *,
        content: Octets | None = None,
        digest: Octets | None = None,
        timeout: float | None = None,
    ) -> types.RecordedEvent:
        """Record an event of the calling app, and answer once log and PCR have it.

        domain: What the words are about, 1 to 128 bytes; "agentd/" begins those of the agent.

        content: Words, 1 to 1024 bytes; each program that gets evidence reads them.

        digest: In place of words.
        """
        return self._answer(types.RecordedEvent, OPERATIONS["emit"], {"domain": domain, "content": content, "digest": digest}, timeout)

    def certify(
        self,
        label: str,
        algorithm: Literal["ed25519", "ecdsa-p256", "ecdsa-p384", "tpm-ecdsa-p256"],
        data: Octets,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> types.Certified:
        """Have the attestation key certify that a signing key of the calling app is in the TPM.
        Only for apps that keys.certify_apps names.

        label: What the key is for, 1 to 1024 bytes.

        algorithm: "tpm-ecdsa-p256".

        data: What the certification is over, 1 to 64 bytes: a nonce, or a digest that a
        protocol asks for.

        version: Version of the app's root; default: the current one.
        """
        return self._answer(types.Certified, OPERATIONS["certify"], {"label": label, "algorithm": algorithm, "data": data, "version": version}, timeout)

    def derive(
        self,
        label: str,
        length: int,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> types.Derived:
        """Derive a secret for the calling app, the same after each restart.

        label: What the secret is for, at most 1024 bytes.

        length: Bytes wanted, 1 to 1024.

        version: Version of the app's root; default: the current one.
        """
        return self._answer(types.Derived, OPERATIONS["derive"], {"label": label, "length": length, "version": version}, timeout)

    def public_key(
        self,
        label: str,
        algorithm: str,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> types.PublicKey:
        """The public half of a signing key of the calling app.

        label: What the key is for, 1 to 1024 bytes.

        algorithm: Algorithm of the key: ed25519, ecdsa-p256, ecdsa-p384 or tpm-ecdsa-p256.

        version: Version of the app's root; 0: the current one.
        """
        return self._answer(types.PublicKey, OPERATIONS["publicKey"], {"label": label, "algorithm": algorithm, "version": version}, timeout)

    def seal(
        self,
        name: str,
        data: Octets | Secret,
        *,
        associated_data: Octets | None = None,
        require_digest: bool | None = None,
        timeout: float | None = None,
    ) -> types.Sealed:
        """Store a secret of the calling app.

        name: Name that the app chooses, 1 to 256 bytes.

        data: The secret, 1 byte to 64 KiB.

        associated_data: Required again to unseal, at most 64 KiB, of which only a digest is
        kept.

        require_digest: From now on only the app as it is measured now gets its keys, and
        digests authorised later.
        """
        return self._answer(types.Sealed, OPERATIONS["seal"], {"name": name, "data": data, "associated_data": associated_data, "require_digest": require_digest}, timeout)

    def sign(
        self,
        label: str,
        algorithm: Literal["ed25519", "ecdsa-p256", "ecdsa-p384", "tpm-ecdsa-p256"],
        *,
        digest: Octets | None = None,
        message: Octets | None = None,
        version: int | None = None,
        timeout: float | None = None,
    ) -> types.Signed:
        """Sign with a key of the calling app, which no answer contains.

        label: What the key is for, 1 to 1024 bytes.

        algorithm: "ed25519", "ecdsa-p256", "ecdsa-p384" or "tpm-ecdsa-p256".

        digest: Its digest, for ECDSA: SHA-256 with P-256, SHA-384 with P-384.

        message: What is signed, 1 byte to 64 KiB.

        version: Version of the app's root; default: the current one.
        """
        return self._answer(types.Signed, OPERATIONS["sign"], {"label": label, "algorithm": algorithm, "digest": digest, "message": message, "version": version}, timeout)

    def unseal(
        self,
        name: str,
        *,
        associated_data: Octets | None = None,
        timeout: float | None = None,
    ) -> types.Unsealed:
        """Open a secret of the calling app.

        name: Name of the secret.

        associated_data: The same as at sealing.
        """
        return self._answer(types.Unsealed, OPERATIONS["unseal"], {"name": name, "associated_data": associated_data}, timeout)


class AdminCalls(Caller):
    """What the admin socket serves besides."""

    def activate(
        self,
        credential: Octets,
        secret: Octets,
        *,
        timeout: float | None = None,
    ) -> types.Activated:
        """Open a credential with the TPM.

        credential: Contents of TPM2B_ID_OBJECT (TPM 2.0 Part 2, section 12.4.2), without its
        size.

        secret: Contents of TPM2B_ENCRYPTED_SECRET (section 11.4.3), without its size.
        """
        return self._answer(types.Activated, OPERATIONS["activate"], {"credential": credential, "secret": secret}, timeout)

    def replace_ak(
        self,
        *,
        timeout: float | None = None,
    ) -> types.Replaced:
        """Make a new attestation key in place of one that this TPM does not load."""
        return self._answer(types.Replaced, OPERATIONS["replaceAK"], {}, timeout)

    def apps(
        self,
        *,
        timeout: float | None = None,
    ) -> types.Apps:
        """The declared apps."""
        return self._answer(types.Apps, OPERATIONS["apps"], {}, timeout)

    def measure(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> types.App:
        """Measure an app now and answer once the log has it.

        name: Name of the app.
        """
        return self._answer(types.App, OPERATIONS["measure"], {"name": name}, timeout)

    def record_container(
        self,
        engine: str,
        id: str,
        pid: int,
        bundle: str,
        *,
        timeout: float | None = None,
    ) -> types.ApiContainer:
        """Measure a container that is being created, and answer once the log has it. If the answer
        is an error, it must not start.

        engine: "podman", "docker", "containerd" or "cri-o".

        id: Id of the container: 1 to 128 letters, digits, "_", "." and "-", neither of the last
        two first.

        pid: Process that will become its first program.

        bundle: Absolute path of the folder with its config.json.
        """
        return self._answer(types.ApiContainer, OPERATIONS["recordContainer"], {"engine": engine, "id": id, "pid": pid, "bundle": bundle}, timeout)

    def containers(
        self,
        *,
        timeout: float | None = None,
    ) -> types.Containers:
        """The measured containers that run."""
        return self._answer(types.Containers, OPERATIONS["containers"], {}, timeout)

    def disks(
        self,
        *,
        timeout: float | None = None,
    ) -> types.Disks:
        """The volumes that the agent has the keys of."""
        return self._answer(types.Disks, OPERATIONS["disks"], {}, timeout)

    def disk_change(
        self,
        name: str,
        header: types.DiskHeader,
        slot: int,
        *,
        key: Octets | Secret | None = None,
        timeout: float | None = None,
    ) -> types.Disk:
        """Record the header that a volume is to have next.

        name: Name of the volume.

        header: The next header.

        slot: Key slot of the agent in it.

        key: Opens it: 64 random bytes; absent: the same as now.
        """
        return self._answer(types.Disk, OPERATIONS["diskChange"], {"name": name, "header": header, "slot": slot, "key": key}, timeout)

    def disk_check(
        self,
        name: str,
        headers: list[types.DiskHeader],
        *,
        timeout: float | None = None,
    ) -> types.DiskChecked:
        """Whether the header of a volume is the recorded one.

        name: Name of the volume.

        headers: One or two copies, as the device has them.
        """
        return self._answer(types.DiskChecked, OPERATIONS["diskCheck"], {"name": name, "headers": headers}, timeout)

    def disk_enroll(
        self,
        name: str,
        device: str,
        header: types.DiskHeader,
        slot: int,
        key: Octets | Secret,
        *,
        lose_on_hardware_change: bool | None = None,
        replace: bool | None = None,
        timeout: float | None = None,
    ) -> types.Disk:
        """Record the key and the header of a volume.

        name: Name of the volume in crypttab.

        device: Path of the device.

        header: The header with the key slot of the agent.

        slot: That key slot.

        key: Opens it: 64 random bytes.

        lose_on_hardware_change: Acknowledgement that is required if there is no other key slot.

        replace: Replace what is recorded under that name.
        """
        return self._answer(types.Disk, OPERATIONS["diskEnroll"], {"name": name, "device": device, "header": header, "slot": slot, "key": key, "lose_on_hardware_change": lose_on_hardware_change, "replace": replace}, timeout)

    def disk_key(
        self,
        name: str,
        headers: list[types.DiskHeader],
        *,
        timeout: float | None = None,
    ) -> types.DiskKey:
        """The key of the agent's key slot, for root, who changes the header.

        name: Name of the volume.

        headers: One or two copies, as the device has them.
        """
        return self._answer(types.DiskKey, OPERATIONS["diskKey"], {"name": name, "headers": headers}, timeout)

    def disk_remove(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> types.DiskName:
        """Forget the key of a volume.

        name: Name of the volume.
        """
        return self._answer(types.DiskName, OPERATIONS["diskRemove"], {"name": name}, timeout)

    def disk_settle(
        self,
        name: str,
        headers: list[types.DiskHeader],
        *,
        timeout: float | None = None,
    ) -> types.Disk:
        """End a change: the volume has its next header.

        name: Name of the volume.

        headers: One or two copies, as the device has them.
        """
        return self._answer(types.Disk, OPERATIONS["diskSettle"], {"name": name, "headers": headers}, timeout)

    def reload(
        self,
        *,
        timeout: float | None = None,
    ) -> types.Reloaded:
        """Read the declarations again."""
        return self._answer(types.Reloaded, OPERATIONS["reload"], {}, timeout)

    def secrets(
        self,
        *,
        app: str | None = None,
        timeout: float | None = None,
    ) -> types.Secrets:
        """The secrets that root provisioned, by name.

        app: Name of the app; absent: all apps.
        """
        return self._answer(types.Secrets, OPERATIONS["secrets"], {"app": app}, timeout)

    def put_secret(
        self,
        app: str,
        name: str,
        data: Octets | Secret,
        *,
        timeout: float | None = None,
    ) -> types.ProvisionedSecret:
        """Store a secret for an app, which systemd hands to its unit. No answer contains it.

        app: Name of the app.

        name: Name of the secret: 1 to 200 letters, digits and _.-+@.

        data: The secret, 1 byte to 64 KiB.
        """
        return self._answer(types.ProvisionedSecret, OPERATIONS["putSecret"], {"app": app, "name": name, "data": data}, timeout)

    def receive(
        self,
        sealed: Octets,
        *,
        timeout: float | None = None,
    ) -> types.ReceivedSecret:
        """Store the secret that a relying party encrypted by a ticket.

        sealed: Message of the relying party: the secret, encrypted to the key of a ticket.
        """
        return self._answer(types.ReceivedSecret, OPERATIONS["receive"], {"sealed": sealed}, timeout)

    def remove_secret(
        self,
        app: str,
        name: str,
        *,
        timeout: float | None = None,
    ) -> types.StoredName:
        """Delete a provisioned secret.

        app: Name of the app.

        name: Name of the secret.
        """
        return self._answer(types.StoredName, OPERATIONS["removeSecret"], {"app": app, "name": name}, timeout)

    def rotate_secret(
        self,
        app: str,
        name: str,
        data: Octets | Secret,
        *,
        timeout: float | None = None,
    ) -> types.ProvisionedSecret:
        """Replace the content of a provisioned secret; the old one stays until the new one is
        durable.

        app: Name of the app.

        name: Name of the secret: 1 to 200 letters, digits and _.-+@.

        data: The secret, 1 byte to 64 KiB.
        """
        return self._answer(types.ProvisionedSecret, OPERATIONS["rotateSecret"], {"app": app, "name": name, "data": data}, timeout)

    def ticket(
        self,
        app: str,
        name: str,
        challenge: Octets,
        valid_for: int,
        *,
        any_sender: bool | None = None,
        replace: bool | None = None,
        sender: Octets | None = None,
        timeout: float | None = None,
    ) -> types.DeliveryTicket:
        """Make a ticket, by which a relying party encrypts one secret to this agent.

        app: Name of the app that the secret is for.

        name: Name of the secret: 1 to 200 letters, digits and _.-+@.

        challenge: Of the relying party, 32 bytes.

        valid_for: Seconds that the ticket is valid, at most 86400 (a day).

        any_sender: Any party that has the ticket may choose the secret: only the receipt tells
        the relying party.

        replace: The secret replaces the one of that name; otherwise there must be none.

        sender: Ed25519 public key, 32 bytes, whose private half must sign the encrypted secret.
        """
        return self._answer(types.DeliveryTicket, OPERATIONS["ticket"], {"app": app, "name": name, "challenge": challenge, "valid_for": valid_for, "any_sender": any_sender, "replace": replace, "sender": sender}, timeout)

    def store(
        self,
        *,
        timeout: float | None = None,
    ) -> types.Store:
        """State of the store, and every sealed blob."""
        return self._answer(types.Store, OPERATIONS["store"], {}, timeout)

    def accept_rollback(
        self,
        *,
        timeout: float | None = None,
    ) -> types.Store:
        """Make an older state that was put back the current one."""
        return self._answer(types.Store, OPERATIONS["acceptRollback"], {}, timeout)

    def contract(
        self,
        app: str,
        *,
        name: str | None = None,
        timeout: float | None = None,
    ) -> types.Contract:
        """What a blob opens on and what would lock it out.

        app: Name of the app.

        name: Name of a secret; absent: the root of the app, from which secrets are derived.
        """
        return self._answer(types.Contract, OPERATIONS["contract"], {"app": app, "name": name}, timeout)

    def digests(
        self,
        app: str,
        action: Literal["require", "authorize", "withdraw", "lift"],
        *,
        digest: Octets | None = None,
        timeout: float | None = None,
    ) -> types.Contract:
        """Change which digests an app must have for its keys.

        app: Name of the app.

        action: What to do.

        digest: Required for authorize and withdraw; for require, default: the one measured now.
        """
        return self._answer(types.Contract, OPERATIONS["digests"], {"app": app, "action": action, "digest": digest}, timeout)

    def probe(
        self,
        *,
        timeout: float | None = None,
    ) -> types.Probed:
        """Try out the key derivation of the platform: up to five requests to its firmware."""
        return self._answer(types.Probed, OPERATIONS["probe"], {}, timeout)

    def recipients(
        self,
        recipients: list[str],
        *,
        lose_on_hardware_change: bool | None = None,
        timeout: float | None = None,
    ) -> types.Rewritten:
        """Seal every blob to other recovery recipients.

        recipients: Recovery recipients (age X25519).

        lose_on_hardware_change: Acknowledgement that is required without recipients.
        """
        return self._answer(types.Rewritten, OPERATIONS["recipients"], {"recipients": recipients, "lose_on_hardware_change": lose_on_hardware_change}, timeout)

    def recover(
        self,
        *,
        accept_rollback: bool | None = None,
        identities: Octets | Secret | None = None,
        lose_on_hardware_change: bool | None = None,
        recipients: list[str] | None = None,
        store_key: str | None = None,
        trust_unknown_writer_of_this_disk: bool | None = None,
        timeout: float | None = None,
    ) -> types.Rewritten:
        """Open what this machine cannot open and the store key signed, and seal it to this
        machine.

        accept_rollback: Recover a state that does not match the TPM's counter.

        identities: A file as age-keygen writes it.

        lose_on_hardware_change: Acknowledgement that is required without recipients.

        recipients: Recovery recipients (age X25519) from now on; the files are not asked.

        store_key: Public half of the store key, as "agentctl key store-key" prints it, which
        must have signed what is recovered; required with identities.

        trust_unknown_writer_of_this_disk: In place of storeKey: take over what an attacker may
        have written; every app root gets a new version.
        """
        return self._answer(types.Rewritten, OPERATIONS["recover"], {"accept_rollback": accept_rollback, "identities": identities, "lose_on_hardware_change": lose_on_hardware_change, "recipients": recipients, "store_key": store_key, "trust_unknown_writer_of_this_disk": trust_unknown_writer_of_this_disk}, timeout)

    def retire(
        self,
        app: str,
        version: int,
        *,
        timeout: float | None = None,
    ) -> types.RootVersion:
        """Forget an older version of an app's root.

        app: Name of the app.

        version: A version other than the current one.
        """
        return self._answer(types.RootVersion, OPERATIONS["retire"], {"app": app, "version": version}, timeout)

    def rewrap(
        self,
        *,
        timeout: float | None = None,
    ) -> types.Rewritten:
        """Seal every blob again to the machine as it is now."""
        return self._answer(types.Rewritten, OPERATIONS["rewrap"], {}, timeout)

    def rotate(
        self,
        app: str,
        *,
        timeout: float | None = None,
    ) -> types.RootVersion:
        """Give an app a new version of its root.

        app: Name of the app.
        """
        return self._answer(types.RootVersion, OPERATIONS["rotate"], {"app": app}, timeout)

    def rotate_store_key(
        self,
        *,
        timeout: float | None = None,
    ) -> types.Rewritten:
        """Give the store a new key, and sign every blob with it."""
        return self._answer(types.Rewritten, OPERATIONS["rotateStoreKey"], {}, timeout)

    def try_tpm(
        self,
        *,
        timeout: float | None = None,
    ) -> types.Probed:
        """Try what the agent needs of the TPM. It changes nothing."""
        return self._answer(types.Probed, OPERATIONS["tryTPM"], {}, timeout)

    def upgrade(
        self,
        *,
        timeout: float | None = None,
    ) -> types.UpgradeStatus:
        """How far an upgrade to another launch measurement is."""
        return self._answer(types.UpgradeStatus, OPERATIONS["upgrade"], {}, timeout)

    def abort_upgrade(
        self,
        *,
        timeout: float | None = None,
    ) -> types.AbortedUpgrade:
        """Give an upgrade up, or go back to the store of before it."""
        return self._answer(types.AbortedUpgrade, OPERATIONS["abortUpgrade"], {}, timeout)

    def accept_upgrade(
        self,
        answer: Octets,
        store_key: str,
        *,
        timeout: float | None = None,
    ) -> types.AcceptedUpgrade:
        """Take over the store that an answer contains.

        answer: Message of the old agent, at most 2.5 MiB.

        store_key: Public half of the old store key, as root kept it: it must have signed the
        answer.
        """
        return self._answer(types.AcceptedUpgrade, OPERATIONS["acceptUpgrade"], {"answer": answer, "store_key": store_key}, timeout)

    def answer_upgrade(
        self,
        request: Octets,
        *,
        timeout: float | None = None,
    ) -> types.HandedOver:
        """Verify the request of a successor, and seal the store to its key.

        request: Message of the successor, at most 2.5 MiB.
        """
        return self._answer(types.HandedOver, OPERATIONS["answerUpgrade"], {"request": request}, timeout)

    def finish_upgrade(
        self,
        *,
        timeout: float | None = None,
    ) -> types.UpgradeStatus:
        """Remove what the predecessor left here: it cannot go back any more."""
        return self._answer(types.UpgradeStatus, OPERATIONS["finishUpgrade"], {}, timeout)

    def prepare_upgrade(
        self,
        release: Octets,
        signature: Octets,
        valid_for: int,
        *,
        timeout: float | None = None,
    ) -> types.PreparedUpgrade:
        """Name the images that may take the store over, and say what would go over.

        release: Release statement, the exact bytes that were signed; at most 64 KiB.

        signature: Of the release key: 64 bytes of Ed25519, DER of ECDSA, or a file of minisign;
        at most 4 KiB.

        valid_for: Seconds that the preparation is valid, at most 2592000 (30 days); the release
        may end it sooner.
        """
        return self._answer(types.PreparedUpgrade, OPERATIONS["prepareUpgrade"], {"release": release, "signature": signature, "valid_for": valid_for}, timeout)

    def pin_release_key(
        self,
        key: Octets,
        *,
        timeout: float | None = None,
    ) -> types.UpgradeStatus:
        """Pin the key that signs releases.

        key: File of a public key: PEM (Ed25519, ECDSA over P-256 or P-384) or minisign; at most
        4 KiB.
        """
        return self._answer(types.UpgradeStatus, OPERATIONS["pinReleaseKey"], {"key": key}, timeout)

    def request_upgrade(
        self,
        offer: Octets,
        *,
        timeout: float | None = None,
    ) -> types.SuccessorMessage:
        """Ask to take a store over, with fresh evidence of this machine.

        offer: Message of the old agent.
        """
        return self._answer(types.SuccessorMessage, OPERATIONS["requestUpgrade"], {"offer": offer}, timeout)
