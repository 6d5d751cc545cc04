# SPDX-License-Identifier: Apache-2.0
# Generated: `go test ./test/generate -update` writes this file.
"The codes of docs/api.md."

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """A kind of failure. Later versions may add codes: a problem can have one that is not here."""

    ACTIVATION_FAILED = "activation-failed"
    AK_UNUSABLE = "ak-unusable"
    ALTERED = "altered"
    APP_CHANGED = "app-changed"
    BAD_DECLARATION = "bad-declaration"
    BAD_DERIVED_KEY = "bad-derived-key"
    BAD_KEY_PROOF = "bad-key-proof"
    BAD_SIGNATURE = "bad-signature"
    BODY_TIMEOUT = "body-timeout"
    BODY_TOO_LARGE = "body-too-large"
    BUSY = "busy"
    CERTIFY_NOT_PERMITTED = "certify-not-permitted"
    CONTAINER_CONFIG = "container-config"
    CONTAINER_IMAGE = "container-image"
    CONTAINER_ROOT = "container-root"
    CONTAINER_STATE = "container-state"
    COUNTER_BEHIND = "counter-behind"
    COUNTER_LOST = "counter-lost"
    DAMAGED = "damaged"
    DELIVERY_CHANGED = "delivery-changed"
    DIGEST_NOT_AUTHORISED = "digest-not-authorised"
    DISK_CHANGED = "disk-changed"
    DISK_CIPHER = "disk-cipher"
    DISK_DIGEST = "disk-digest"
    DISK_EXISTS = "disk-exists"
    DISK_FAILED = "disk-failed"
    DISK_FULL = "disk-full"
    DISK_HEADER = "disk-header"
    DISK_NO_RECOVERY = "disk-no-recovery"
    DISK_OLDER = "disk-older"
    DISK_OTHER = "disk-other"
    DISK_READ_ONLY = "disk-read-only"
    DISK_REQUIREMENT = "disk-requirement"
    DISK_SEGMENT = "disk-segment"
    DISK_SLOT = "disk-slot"
    DISK_TOKEN = "disk-token"
    DISK_UNPREPARED = "disk-unprepared"
    DISK_UNPROVEN = "disk-unproven"
    DUPLICATE_MEMBER = "duplicate-member"
    EVENT_QUOTA = "event-quota"
    EVENT_RATE = "event-rate"
    EVIDENCE_REPLAYED = "evidence-replayed"
    EXISTS = "exists"
    GUEST_POLICY_CHANGED = "guest-policy-changed"
    HANDED_OVER = "handed-over"
    IMA_NOT_PERMITTED = "ima-not-permitted"
    IMA_NOT_QUOTED = "ima-not-quoted"
    IMA_START = "ima-start"
    IMA_TOO_LONG = "ima-too-long"
    IMA_UNAVAILABLE = "ima-unavailable"
    INTERNAL = "internal"
    INTERRUPTED = "interrupted"
    INVALID_VALUE = "invalid-value"
    LATER_VERSION = "later-version"
    LOG_DESYNCHRONISED = "log-desynchronised"
    LOG_FULL = "log-full"
    MALFORMED = "malformed"
    MALFORMED_JSON = "malformed-json"
    MALFORMED_MESSAGE = "malformed-message"
    MANIFEST_LOST = "manifest-lost"
    MEASUREMENT_FAILED = "measurement-failed"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    MISSING = "missing"
    NO_APP = "no-app"
    NO_PREPARATION = "no-preparation"
    NO_RECOVERY = "no-recovery"
    NO_RELEASE_KEY = "no-release-key"
    NO_SENDER = "no-sender"
    NO_SUCH_APP = "no-such-app"
    NO_SUCH_DISK = "no-such-disk"
    NO_SUCH_PATH = "no-such-path"
    NO_SUCH_PROCESS = "no-such-process"
    NO_SYSTEM_UNIT = "no-system-unit"
    NO_USABLE_SLOT = "no-usable-slot"
    NOT_FOUND = "not-found"
    NOT_PERMITTED = "not-permitted"
    NOT_SYSTEMD = "not-systemd"
    NOTHING_TO_DO = "nothing-to-do"
    OLD_GENERATION = "old-generation"
    OTHER_APP = "other-app"
    OTHER_ASSOCIATED_DATA = "other-associated-data"
    OTHER_CHIP = "other-chip"
    OTHER_MEASUREMENT = "other-measurement"
    OTHER_PREPARATION = "other-preparation"
    OTHER_REQUEST = "other-request"
    OTHER_SENDER = "other-sender"
    OTHER_STORE_KEY = "other-store-key"
    OTHER_TICKET = "other-ticket"
    OTHER_TPM = "other-tpm"
    OTHER_UNIT = "other-unit"
    OTHER_USER = "other-user"
    OTHER_VMPL = "other-vmpl"
    OUT_OF_RESOURCES = "out-of-resources"
    PCR_MISMATCH = "pcr-mismatch"
    PEER_GONE = "peer-gone"
    PEER_UNKNOWN = "peer-unknown"
    PLATFORM_ABSENT = "platform-absent"
    PLATFORM_BUSY = "platform-busy"
    PLATFORM_KEY_WIPED = "platform-key-wiped"
    PLATFORM_MALFORMED = "platform-malformed"
    PLATFORM_OTHER_KEY = "platform-other-key"
    PLATFORM_REFUSED = "platform-refused"
    PLATFORM_STALE = "platform-stale"
    PLATFORM_TIMEOUT = "platform-timeout"
    PLATFORM_VMPL = "platform-vmpl"
    PREPARATION_EXPIRED = "preparation-expired"
    PREPARATION_USED = "preparation-used"
    PROCESS_NOT_PERMITTED = "process-not-permitted"
    PROCESS_UNKNOWN = "process-unknown"
    QUOTA_EXCEEDED = "quota-exceeded"
    RECEIPT_FORGED = "receipt-forged"
    RECIPIENTS_NEEDED = "recipients-needed"
    RELEASE_EXPIRED = "release-expired"
    RELEASE_OLDER = "release-older"
    RELEASE_POLICY = "release-policy"
    RELEASE_SIGNATURE = "release-signature"
    RENAMED = "renamed"
    ROLLED_BACK = "rolled-back"
    ROOT_UNAVAILABLE = "root-unavailable"
    SHUTTING_DOWN = "shutting-down"
    START_BEYOND_LOG = "start-beyond-log"
    STORE_IN_USE = "store-in-use"
    STORE_KEY_NEEDED = "store-key-needed"
    SUCCESSOR_REFUSED = "successor-refused"
    TCB_BELOW = "tcb-below"
    THROTTLED = "throttled"
    TICKET_EXPIRED = "ticket-expired"
    TICKET_FORGED = "ticket-forged"
    TICKET_UNKNOWN = "ticket-unknown"
    TICKET_USED = "ticket-used"
    TIMEOUT = "timeout"
    TOO_MANY_CONNECTIONS = "too-many-connections"
    TOO_MANY_TICKETS = "too-many-tickets"
    TPM_CLEARED = "tpm-cleared"
    TPM_REFUSES = "tpm-refuses"
    TPM_SECRET_DAMAGED = "tpm-secret-damaged"
    TPM_SECRET_MISSING = "tpm-secret-missing"
    TPM_TIMEOUT = "tpm-timeout"
    TPM_UNAVAILABLE = "tpm-unavailable"
    TRANSFER_TOO_LARGE = "transfer-too-large"
    TRUNCATED = "truncated"
    UNAVAILABLE = "unavailable"
    UNKNOWN_MEMBER = "unknown-member"
    UNKNOWN_PARAMETER = "unknown-parameter"
    UNKNOWN_VERSION = "unknown-version"
    UPGRADE_UNFINISHED = "upgrade-unfinished"
    WEAKER_SLOT = "weaker-slot"
    WRONG_IDENTITY = "wrong-identity"
    WRONG_KEY = "wrong-key"


# What is known of a code: class of the exception, title, and what to do.
KNOWN: dict[str, tuple[str, str, str]] = {
    "activation-failed": (
        "Misuse",
        "Credential cannot be activated",
        "make the challenge from what `GET /v1/ak` answers now",
    ),
    "ak-unusable": (
        "Unavailable",
        "Attestation key does not load in this TPM",
        "bring the TPM or the file back, or have root accept a new key: `agentctl key replace-ak` keeps the old one; then `agentctl key recover --identity FILE --store-key KEY --recipient AGE` opens what was sealed and signed",
    ),
    "altered": (
        "Sealed",
        "Sealed blob was altered",
        "put the file back from a backup; nothing was deleted. If only the manifest is at fault, root can salvage what this machine opens itself: `agentctl key recover --recipient AGE`, better with `--store-key KEY`",
    ),
    "app-changed": (
        "Misuse",
        "App is not as the ticket says",
        "`agentctl app diff` says what changed; put it back, or make a new ticket",
    ),
    "bad-declaration": (
        "Misuse",
        "Declarations could not be read",
        "correct the file at the line that the error names",
    ),
    "bad-derived-key": (
        "Unavailable",
        "Firmware derived an invalid key",
        "the firmware is at fault: update it",
    ),
    "bad-key-proof": (
        "Misuse",
        "Key does not prove its possession",
        "ask `GET /v1/self` again, sign what it says now with the private half of the key, and send that from the same process; the agent's key changes when it is started again",
    ),
    "bad-signature": (
        "Sealed",
        "Signature of the store key is wrong",
        "another party may have written the file: find out who wrote this disk, and put the files back from a backup; nothing was deleted",
    ),
    "body-timeout": (
        "Misuse",
        "Body did not arrive",
        "send the body at once",
    ),
    "body-too-large": (
        "Misuse",
        "Body is too long",
        "the table of endpoints has the limit",
    ),
    "busy": (
        "Unavailable",
        "Too many requests are waiting",
        "try again in a few seconds; `retryAfter` says how many",
    ),
    "certify-not-permitted": (
        "NotPermitted",
        "Not permitted to have keys certified",
        "name the app in `certify_apps` of the table `[keys]` of /etc/agentd/config.toml and restart the agent",
    ),
    "container-config": (
        "Misuse",
        "Configuration of the container is not accepted",
        "start the container again with its engine; the error names the member",
    ),
    "container-image": (
        "Misuse",
        "Container fits several apps",
        "tell them apart by `unit` in their declarations, or remove one: `agentctl app list`",
    ),
    "container-root": (
        "Unavailable",
        "Root file system of the container cannot be measured",
        "the error names the path; the limits are in docs/containers.md",
    ),
    "container-state": (
        "Misuse",
        "Container is not being created",
        "start the container again with its engine; `agentctl container list` says how the engines are set up",
    ),
    "counter-behind": (
        "Sealed",
        "TPM was rolled back",
        "find out who put the TPM's older state back; root can accept it: `agentctl key accept-rollback`",
    ),
    "counter-lost": (
        "Sealed",
        "Counter of the store is lost",
        "find out who removed the counter; root can accept it: `agentctl key accept-rollback`",
    ),
    "damaged": (
        "Sealed",
        "Sealed blob is damaged",
        "put the file back from a backup; nothing was deleted. If only the manifest is at fault, root can salvage what this machine opens itself: `agentctl key recover --recipient AGE`, better with `--store-key KEY`",
    ),
    "delivery-changed": (
        "Misuse",
        "Encrypted secret was changed",
        "give the file that `agentctl secret send` wrote, as it is",
    ),
    "digest-not-authorised": (
        "NotPermitted",
        "Digest of the app is not authorised",
        "root can authorise the digest: `agentctl key authorize --app NAME --digest DIGEST`; an app that is not measured does not have one",
    ),
    "disk-changed": (
        "Sealed",
        "Header was changed",
        "find out who wrote this disk: the host can write to it at any time. Put the header back from a backup (`cryptsetup luksHeaderRestore`), or, if you changed it yourself, enroll the volume again: `agentctl disk enroll DEVICE --name NAME --key-file FILE --replace`",
    ),
    "disk-cipher": (
        "Sealed",
        "Header asks for another cipher",
        "find out who wrote this disk: the host can write to it at any time. Put the header back from a backup (`cryptsetup luksHeaderRestore`), or, if you changed it yourself, enroll the volume again: `agentctl disk enroll DEVICE --name NAME --key-file FILE --replace`",
    ),
    "disk-digest": (
        "Sealed",
        "Header is for another volume key",
        "find out who wrote this disk: the host can write to it at any time. Put the header back from a backup (`cryptsetup luksHeaderRestore`), or, if you changed it yourself, enroll the volume again: `agentctl disk enroll DEVICE --name NAME --key-file FILE --replace`",
    ),
    "disk-exists": (
        "Misuse",
        "Volume is enrolled already",
        "choose another name, or replace what is recorded: `--replace`",
    ),
    "disk-failed": (
        "Unavailable",
        "File of the agent cannot be read or written",
        "repair what the error says of the file; if it is an input/output error, look for the disk in `dmesg`; the agent tries again by itself",
    ),
    "disk-full": (
        "Unavailable",
        "Disk of the agent is full",
        "free room on the file system of the file that the error names: `df -h /var/lib/agentd /run/log/agentd` shows how full they are; the agent tries again by itself",
    ),
    "disk-header": (
        "Sealed",
        "Not a LUKS2 header that is accepted",
        "find out who wrote this disk: the host can write to it at any time. Put the header back from a backup (`cryptsetup luksHeaderRestore`), or, if you changed it yourself, enroll the volume again: `agentctl disk enroll DEVICE --name NAME --key-file FILE --replace`",
    ),
    "disk-no-recovery": (
        "Misuse",
        "Only the agent would open the volume",
        "add a key slot of your own with `cryptsetup luksAddKey`; `agentctl disk enroll --lose-on-hardware-change` accepts the loss, and `agentctl disk remove --forget` forgets the key all the same",
    ),
    "disk-older": (
        "Sealed",
        "Older header was put back",
        "find out who wrote this disk: the host can write to it at any time. Put the header back from a backup (`cryptsetup luksHeaderRestore`), or, if you changed it yourself, enroll the volume again: `agentctl disk enroll DEVICE --name NAME --key-file FILE --replace`",
    ),
    "disk-other": (
        "Sealed",
        "Another volume",
        "attach the right disk; the name of a device does not say which volume it has",
    ),
    "disk-read-only": (
        "Unavailable",
        "Disk of the agent is read-only",
        "find out why with `findmnt` and `dmesg`, as a file system that failed is made read-only, and mount it writable; the agent tries again by itself",
    ),
    "disk-requirement": (
        "Sealed",
        "Header has requirements",
        "let `cryptsetup reencrypt` end, then enroll the volume; if you did not start it, find out who wrote this disk",
    ),
    "disk-segment": (
        "Sealed",
        "Header has another segment",
        "find out who wrote this disk: the host can write to it at any time. Put the header back from a backup (`cryptsetup luksHeaderRestore`), or, if you changed it yourself, enroll the volume again: `agentctl disk enroll DEVICE --name NAME --key-file FILE --replace`",
    ),
    "disk-slot": (
        "Sealed",
        "Key slot is not accepted",
        "find out who wrote this disk: the host can write to it at any time. Put the header back from a backup (`cryptsetup luksHeaderRestore`), or, if you changed it yourself, enroll the volume again: `agentctl disk enroll DEVICE --name NAME --key-file FILE --replace`",
    ),
    "disk-token": (
        "Sealed",
        "Header has a token",
        "find out who wrote the token; if it is yours, remove it with `cryptsetup token remove` before the volume is enrolled",
    ),
    "disk-unprepared": (
        "NotPermitted",
        "Header was not checked",
        "start the volume by its unit, with the crypttab line and the drop-in that `agentctl disk enroll` wrote",
    ),
    "disk-unproven": (
        "Sealed",
        "Nothing tells who wrote the record",
        "enroll the volume again: `agentctl disk enroll DEVICE --name NAME --key-file FILE --replace`",
    ),
    "duplicate-member": (
        "Misuse",
        "Member occurs twice",
        "send it once",
    ),
    "event-quota": (
        "Misuse",
        "App may not record more events",
        "record less, such as one digest over several facts; root can raise the limits in `[events]` of the configuration, which a restart of the agent puts into force; a boot begins a new log",
    ),
    "event-rate": (
        "Unavailable",
        "App records events too often",
        "try again when `retryAfter` has passed; record less, such as one digest over several facts, or have root raise `per_minute` in `[events]`",
    ),
    "evidence-replayed": (
        "NotPermitted",
        "Evidence is of another request",
        "have the successor ask again: `agentctl key upgrade-request OFFER`; if the request was not yours, find out who sent it",
    ),
    "exists": (
        "Misuse",
        "Secret exists already",
        "replace its content with `agentctl secret rotate`; the old content stays until the new one is durable",
    ),
    "guest-policy-changed": (
        "Sealed",
        "Sealed under another guest policy",
        "the file says so, which proves nothing: check whether the guest policy was changed; under the old one it opens. Only if so, root can recover what the store key signed: `agentctl key recover --identity FILE --store-key KEY --recipient AGE`, with the key that you kept; nothing was deleted",
    ),
    "handed-over": (
        "Unavailable",
        "Store was handed over",
        "go on at the successor, or give the upgrade up: `agentctl key upgrade-abort`",
    ),
    "ima-not-permitted": (
        "NotPermitted",
        "List of IMA is not for this caller",
        "ask as root, or from the unit of a declared application: `agentctl app add UNIT` declares one",
    ),
    "ima-not-quoted": (
        "Unavailable",
        "PCR 10 is not quoted",
        "add PCR 10 to `pcrs` in the table `[tpm]` of /etc/agentd/config.toml, such as `sha256:0-15`, and restart the agent",
    ),
    "ima-start": (
        "Misuse",
        "List of IMA has no such entry",
        "a list that became shorter belongs to another boot: ask for the whole list",
    ),
    "ima-too-long": (
        "Misuse",
        "List of IMA is too long for evidence",
        "ask from a later entry, which the detail names (agentctl: `--ima-from`); the verifier must know the entries before it: root copies the list once, for `agentctl verify --ima-list FILE --save-log FILE`",
    ),
    "ima-unavailable": (
        "Unavailable",
        "List of IMA is not available",
        "boot a kernel with IMA, which has /sys/kernel/security/ima/binary_runtime_measurements, with `ima_policy=tcb` on its command line",
    ),
    "internal": (
        "Misuse",
        "Fault in the agent",
        "please report it, with the log of the agent",
    ),
    "interrupted": (
        "Unavailable",
        "Change was interrupted",
        "try again in a few seconds; `retryAfter` says how many; check whether the disk is full",
    ),
    "invalid-value": (
        "Misuse",
        "Value is not allowed",
        "correct the member or parameter that the error names",
    ),
    "later-version": (
        "Unavailable",
        "File of a later version",
        "install the version that wrote it, or a later one; nothing was changed",
    ),
    "log-desynchronised": (
        "Unavailable",
        "Log and PCR do not match",
        "reboot the machine; `agentctl status` says what does not match",
    ),
    "log-full": (
        "Unavailable",
        "Measurement log is full",
        "reboot the machine; declare an app that changes all the time with fewer files",
    ),
    "malformed": (
        "Sealed",
        "Sealed blob is malformed",
        "put the file back from a backup; nothing was deleted. If only the manifest is at fault, root can salvage what this machine opens itself: `agentctl key recover --recipient AGE`, better with `--store-key KEY`",
    ),
    "malformed-json": (
        "Misuse",
        "Body is not one JSON value",
        "send one JSON object and nothing after it; `offset` says where reading ended",
    ),
    "malformed-message": (
        "Misuse",
        "Message is malformed",
        "give the file that the command before wrote: docs/upgrades.md and docs/delivery.md list them",
    ),
    "manifest-lost": (
        "Sealed",
        "Manifest of the store is lost",
        "put the manifest back, or have root salvage what this machine opens itself: `agentctl key recover --recipient AGE`, better with `--store-key KEY`",
    ),
    "measurement-failed": (
        "Misuse",
        "App could not be measured",
        "repair the file that the error names",
    ),
    "method-not-allowed": (
        "Misuse",
        "Method is not allowed here",
        "the header `Allow` lists the methods",
    ),
    "missing": (
        "Sealed",
        "Sealed blob is missing",
        "put the file back from a backup; nothing was deleted. If only the manifest is at fault, root can salvage what this machine opens itself: `agentctl key recover --recipient AGE`, better with `--store-key KEY`",
    ),
    "no-app": (
        "NotPermitted",
        "No app has this unit and user",
        "if the error says no more, declare the app in `apps.d` with the unit and user that it names, and run `agentctl app reload`",
    ),
    "no-preparation": (
        "Misuse",
        "No upgrade is prepared",
        "prepare one on the old machine: `agentctl key prepare-upgrade`",
    ),
    "no-recovery": (
        "Unavailable",
        "No recovery recipient",
        "set `recovery_recipients` in `[keys]` of the configuration, or acknowledge the loss there",
    ),
    "no-release-key": (
        "Misuse",
        "No release key is pinned",
        "root pins one: `agentctl key pin-release-key FILE`; before the first start, `release_key` in `[keys]` of the configuration does",
    ),
    "no-sender": (
        "Sealed",
        "Nothing tells who wrote the blob",
        "another party may have written the file: find out who wrote this disk, and put the files back from a backup; nothing was deleted; docs/sealing.md says what is left if there is none",
    ),
    "no-such-app": (
        "Misuse",
        "No such app",
        "`agentctl app list` lists the declared apps; after a change run `agentctl app reload`",
    ),
    "no-such-disk": (
        "Misuse",
        "No such volume",
        "`agentctl disk list` lists the enrolled ones",
    ),
    "no-such-path": (
        "Misuse",
        "No such path",
        "see the table of endpoints",
    ),
    "no-such-process": (
        "Misuse",
        "No such process",
        "ask about a process that runs, by the number that it has on this machine",
    ),
    "no-system-unit": (
        "NotPermitted",
        "Caller is not in a system unit",
        "start it as a systemd system unit, not as a unit of a user's manager: `agentctl self` says who the caller is",
    ),
    "no-usable-slot": (
        "Sealed",
        "No slot for this machine",
        "check whether this machine lost its SNP firmware keys or its TPM; with them it opens. Only if so, root can recover what the store key signed: `agentctl key recover --identity FILE --store-key KEY --recipient AGE`, with the key that you kept; nothing was deleted",
    ),
    "not-found": (
        "Misuse",
        "No such key or secret",
        "seal it first; an app does not see the secrets of another",
    ),
    "not-permitted": (
        "NotPermitted",
        "Not permitted on this socket",
        "administration is for root, on the admin socket (agentctl: `--admin`); keys and secrets are for applications, on the client socket (agentctl: `--socket`)",
    ),
    "not-systemd": (
        "NotPermitted",
        "Not asked by systemd",
        "let systemd ask: `agentctl app enable --credential NAME UNIT` writes the line for the unit; after an upgrade of systemd run `systemctl daemon-reexec`",
    ),
    "nothing-to-do": (
        "Misuse",
        "Nothing to accept or to replace",
        "nothing to do: nothing was changed",
    ),
    "old-generation": (
        "Sealed",
        "Sealed blob of an older state",
        "find out who put the old file back, and restore the newer one; nothing was deleted",
    ),
    "other-app": (
        "NotPermitted",
        "Sealed for another app",
        "give the app its old unit back",
    ),
    "other-associated-data": (
        "Sealed",
        "Associated data does not match",
        "give the associated data of sealing",
    ),
    "other-chip": (
        "Sealed",
        "Sealed on another chip",
        "the file says so, which proves nothing: check whether this VM moved to another chip: the host's operator or your own records tell. Only if so, root can recover what the store key signed: `agentctl key recover --identity FILE --store-key KEY --recipient AGE`, with the key that you kept; nothing was deleted",
    ),
    "other-measurement": (
        "Sealed",
        "Sealed under another launch measurement",
        "the file says so, which proves nothing: check whether the launch measurement changed, as an update of firmware or image does; launched as before, it opens. Only if so, root can recover what the store key signed: `agentctl key recover --identity FILE --store-key KEY --recipient AGE`, with the key that you kept; nothing was deleted",
    ),
    "other-preparation": (
        "Misuse",
        "Request for another preparation",
        "give the successor the last offer: `agentctl key upgrade-request OFFER`",
    ),
    "other-request": (
        "Misuse",
        "Answer to another request",
        "ask again with the last offer: `agentctl key upgrade-request OFFER`",
    ),
    "other-sender": (
        "NotPermitted",
        "Encrypted secret is of another sender",
        "have the relying party send with the key whose public half the ticket names: `agentctl secret send --sender-key`",
    ),
    "other-store-key": (
        "Sealed",
        "Signed by another store key",
        "check that it is the newest store key that you kept. If it is, another party may have written the file: find out who wrote this disk, and put the files back from a backup; nothing was deleted",
    ),
    "other-ticket": (
        "Misuse",
        "Ticket of another delivery",
        "give the ticket that was made with this challenge, app and name; another one may be a replay",
    ),
    "other-tpm": (
        "Sealed",
        "Sealed in another TPM",
        "the file says so, which proves nothing: check whether the vTPM's state was lost or belongs to another VM; with the old TPM it opens. Only if so, root can recover what the store key signed: `agentctl key recover --identity FILE --store-key KEY --recipient AGE`, with the key that you kept; nothing was deleted",
    ),
    "other-unit": (
        "NotPermitted",
        "Asked from another unit",
        "find out which program asked: its unit is in the error; systemd itself names the unit that it starts",
    ),
    "other-user": (
        "NotPermitted",
        "Sealed for another user",
        "give the app its old user back",
    ),
    "other-vmpl": (
        "Sealed",
        "Sealed at another VMPL",
        "the file says so, which proves nothing: check whether the agent ran at another VMPL; there it opens. Only if so, root can recover what the store key signed: `agentctl key recover --identity FILE --store-key KEY --recipient AGE`, with the key that you kept; nothing was deleted",
    ),
    "out-of-resources": (
        "Unavailable",
        "Agent is short of resources",
        "try again; if that does not help, raise `LimitNOFILE` or `MemoryMax` of agentd.service",
    ),
    "pcr-mismatch": (
        "Unavailable",
        "Log does not explain the quoted PCR values",
        "find out what else extends the PCR, then reboot the machine",
    ),
    "peer-gone": (
        "NotPermitted",
        "Process that connected has ended",
        "connect from the process that asks",
    ),
    "peer-unknown": (
        "NotPermitted",
        "Caller could not be identified",
        "run it as an ordinary process on this machine; the detail says what the kernel did not report",
    ),
    "platform-absent": (
        "Unavailable",
        "No report device",
        "check that this is an SEV-SNP guest with the sev-guest driver: `agentctl doctor` looks for it",
    ),
    "platform-busy": (
        "Unavailable",
        "Reports are throttled",
        "try again in a few seconds, or ask for anchored evidence (agentctl: `--anchored`)",
    ),
    "platform-key-wiped": (
        "Unavailable",
        "Guest message key is wiped",
        "reboot the machine",
    ),
    "platform-malformed": (
        "Unavailable",
        "Report is malformed",
        "report it to the operator of the host",
    ),
    "platform-other-key": (
        "Unavailable",
        "Platform vouches for another key",
        "restart the machine; if it goes on, report it to the operator of the host",
    ),
    "platform-refused": (
        "Unavailable",
        "Firmware refused the report",
        "the error names the status and its meaning; give it to the operator of the host",
    ),
    "platform-stale": (
        "Unavailable",
        "Report is of before",
        "find out whether another program asks the paravisor for reports all the time (NV index 0x01400002); try again",
    ),
    "platform-timeout": (
        "Unavailable",
        "Report device did not answer",
        "try again, or ask for anchored evidence (agentctl: `--anchored`)",
    ),
    "platform-vmpl": (
        "Unavailable",
        "Wrong VM privilege level",
        "the machine runs under a paravisor or SVSM that this agent was not told of",
    ),
    "preparation-expired": (
        "NotPermitted",
        "Preparation is expired",
        "prepare the upgrade again: `agentctl key prepare-upgrade`",
    ),
    "preparation-used": (
        "NotPermitted",
        "Preparation was used",
        "find out which successor got them; `agentctl key upgrade-abort` on the old machine ends this upgrade, and then prepare another",
    ),
    "process-not-permitted": (
        "NotPermitted",
        "Not permitted to ask about other processes",
        "ask as root on the admin socket, or name the unit that asks in `askers` of the table `[processes]` of /etc/agentd/config.toml and restart the agent; run it without a pid namespace of its own",
    ),
    "process-unknown": (
        "Unavailable",
        "Process could not be identified",
        "the detail says what the kernel did not report",
    ),
    "quota-exceeded": (
        "Misuse",
        "App may not store more",
        "discard a secret, or raise the limit in `[keys]` of the configuration",
    ),
    "receipt-forged": (
        "Forged",
        "Receipt is not for this delivery",
        "treat the secret as not delivered. If another message was opened, the machine has a secret that another party chose: replace it, with a ticket that names the sender: `--sender FILE`",
    ),
    "recipients-needed": (
        "Misuse",
        "Recovery recipients are needed",
        "name those that stay, once for each: `--recipient AGE`, or `--lose-on-hardware-change` for none",
    ),
    "release-expired": (
        "NotPermitted",
        "Release is expired",
        "have the release signed again, or check the clock of this machine",
    ),
    "release-older": (
        "NotPermitted",
        "Release is older than this image",
        "name a release with the same number or a higher one",
    ),
    "release-policy": (
        "Misuse",
        "Policy of the release names no image",
        "correct the policy as the error says, and have the release signed again",
    ),
    "release-signature": (
        "NotPermitted",
        "Release is not signed by the release key",
        "check that statement and signature belong together, and that the key is the one that `agentctl key upgrade-status` names",
    ),
    "renamed": (
        "Sealed",
        "File of another sealed blob",
        "put the file back from a backup; nothing was deleted. If only the manifest is at fault, root can salvage what this machine opens itself: `agentctl key recover --recipient AGE`, better with `--store-key KEY`",
    ),
    "rolled-back": (
        "Sealed",
        "Store was rolled back",
        "find out who put the older state back; root can accept it: `agentctl key accept-rollback`",
    ),
    "root-unavailable": (
        "Unavailable",
        "Root key is not available now",
        "try again in a few seconds; `retryAfter` says how many",
    ),
    "shutting-down": (
        "Unavailable",
        "Agent is stopping",
        "try again",
    ),
    "start-beyond-log": (
        "Misuse",
        "Log has no such record",
        "`GET /v1/status` says how many records there are; a log that became shorter belongs to another boot",
    ),
    "store-in-use": (
        "Misuse",
        "Store is in use",
        "an upgrade needs a machine whose store is new, or is that of the predecessor",
    ),
    "store-key-needed": (
        "Misuse",
        "Store key is needed",
        "give the key that was kept with the recovery identity: `--store-key KEY`; `agentctl key store-key` printed it when the store was open",
    ),
    "successor-refused": (
        "NotPermitted",
        "Successor is not one of the release",
        "the error names the checks that failed; nothing was handed over",
    ),
    "tcb-below": (
        "Sealed",
        "Firmware is older than at sealing",
        "the file says so, which proves nothing: check whether the host's firmware was taken back; updated again, it opens. Only if so, root can recover what the store key signed: `agentctl key recover --identity FILE --store-key KEY --recipient AGE`, with the key that you kept; nothing was deleted",
    ),
    "throttled": (
        "Unavailable",
        "Too many requests of this user",
        "try again in a few seconds; `retryAfter` says how many",
    ),
    "ticket-expired": (
        "Misuse",
        "Ticket is expired",
        "make a new ticket: `agentctl secret ticket`, with a new challenge of the relying party",
    ),
    "ticket-forged": (
        "Forged",
        "Ticket is not the agent's",
        "do not send. Find out who gave you the ticket",
    ),
    "ticket-unknown": (
        "Misuse",
        "No such ticket",
        "make a new ticket here: `agentctl secret ticket`, with a new challenge of the relying party",
    ),
    "ticket-used": (
        "Misuse",
        "Ticket was used",
        "`agentctl secret list` shows what is stored. If the other message was not the relying party's, replace the secret: a new ticket with `--replace`, and with `--sender FILE`",
    ),
    "timeout": (
        "Unavailable",
        "No answer in time",
        "try again; the table of endpoints has the times",
    ),
    "too-many-connections": (
        "Unavailable",
        "Too many connections",
        "reuse connections",
    ),
    "too-many-tickets": (
        "Unavailable",
        "Too many open tickets",
        "wait until some are used or expire; a new ticket for the same app and name takes the place of the one before",
    ),
    "tpm-cleared": (
        "Sealed",
        "TPM was cleared",
        "the file says so, which proves nothing: check whether the TPM was cleared. Only if so, root can recover what the store key signed: `agentctl key recover --identity FILE --store-key KEY --recipient AGE`, with the key that you kept; nothing was deleted",
    ),
    "tpm-refuses": (
        "Unavailable",
        "TPM refuses in the state that it is in",
        "the error names the cause and the command that helps; after that run `systemctl restart agentd`",
    ),
    "tpm-secret-damaged": (
        "Sealed",
        "Secret of the TPM is damaged",
        "put the file back from a backup; if there is none, check whether the disk was damaged. Only if so, root can recover what the store key signed: `agentctl key recover --identity FILE --store-key KEY --recipient AGE`, with the key that you kept; nothing was deleted",
    ),
    "tpm-secret-missing": (
        "Sealed",
        "Secret of the TPM is missing",
        "put the file back from a backup; if there is none, check whether it was lost. Only if so, root can recover what the store key signed: `agentctl key recover --identity FILE --store-key KEY --recipient AGE`, with the key that you kept; nothing was deleted",
    ),
    "tpm-timeout": (
        "Unavailable",
        "TPM did not answer",
        "try again; the agent opens the TPM again",
    ),
    "tpm-unavailable": (
        "Unavailable",
        "TPM is not available",
        "if waiting may help, `retryAfter` says how long; `agentctl doctor` tries the TPM and names the cause",
    ),
    "transfer-too-large": (
        "Misuse",
        "Too large for one message",
        "for an upgrade, have apps discard secrets that they do not need; if the log is too long for a ticket, reboot the machine",
    ),
    "truncated": (
        "Sealed",
        "Sealed blob is truncated",
        "put the file back from a backup; nothing was deleted. If only the manifest is at fault, root can salvage what this machine opens itself: `agentctl key recover --recipient AGE`, better with `--store-key KEY`",
    ),
    "unavailable": (
        "Unavailable",
        "Part of the agent is not running",
        "`agentctl status` says what is missing",
    ),
    "unknown-member": (
        "Misuse",
        "Member is not known",
        "check the spelling, upper and lower case included; an older agent may not know a newer member",
    ),
    "unknown-parameter": (
        "Misuse",
        "Query parameter is not known",
        "use only the parameters that the error lists",
    ),
    "unknown-version": (
        "Sealed",
        "Sealed blob of a later version",
        "install the version that wrote it, or a later one; nothing was deleted",
    ),
    "upgrade-unfinished": (
        "Misuse",
        "Upgrade before is not finished",
        "root ends that on this machine: `agentctl key upgrade-finish`; to go back instead, launch the image of before, and then `agentctl key upgrade-abort`",
    ),
    "weaker-slot": (
        "Sealed",
        "Sealed to less than this machine has",
        "check whether the machine got its TPM or its SNP firmware keys after the store was made. Only if so, root can recover what the store key signed: `agentctl key recover --store-key KEY --recipient AGE`, with the key that you kept; nothing was deleted",
    ),
    "wrong-identity": (
        "Sealed",
        "Wrong recovery identity",
        "use the identity of a recipient that the error names; nothing was deleted",
    ),
    "wrong-key": (
        "Sealed",
        "Wrong key",
        "another party may have written the file: find out who wrote this disk, and put the files back from a backup; nothing was deleted. If chip ids are masked here, ask the host's operator whether the VM moved",
    ),
}
