# SPDX-License-Identifier: Apache-2.0
# Generated: `go test ./test/generate -update` writes this file.
"What the agent answers, as classes: the schemas of api/openapi.json, and the statement."

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ._secret import Secret
from ._wire import Member, Members


@dataclass(frozen=True, kw_only=True)
class AK(Members):
    """AK is the answer of GET /v1/ak: what a relying party needs to enrol this machine. The answer
    proves nothing. Credential activation proves that EK and AK are in one TPM.
    """

    public: bytes
    """TPMT_PUBLIC of the AK."""
    name: bytes
    """TPM name of the AK: two bytes of algorithm, then the digest."""
    certificates: list[bytes] | None = None
    """X.509 DER of the EK and its issuers, as the TPM has them, unverified."""
    ek: bytes | None = None
    """TPMT_PUBLIC of the EK that activation uses."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("public", "public", "bytes", True),
        Member("name", "name", "bytes", True),
        Member("certificates", "certificates", ("list", "bytes"), False),
        Member("ek", "ek", "bytes", False),
    )


@dataclass(frozen=True, kw_only=True)
class AbortedUpgrade(Members):
    """AbortedUpgrade is the answer of POST /v1/upgrade/abort."""

    returned: bool
    """The store of before the upgrade is in force again; what a successor stored here is lost."""
    answered: bool
    """A successor got the roots, and may have taken them over."""
    upgrade: UpgradeStatus
    """How it is now."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("returned", "returned", "flag", True),
        Member("answered", "answered", "flag", True),
        Member("upgrade", "upgrade", ("object", "UpgradeStatus"), True),
    )


@dataclass(frozen=True, kw_only=True)
class AcceptedUpgrade(Members):
    """AcceptedUpgrade is the answer of POST /v1/upgrade/accept: the contract of an upgrade after
    it.
    """

    written: int
    """Blobs that were taken over."""
    again: bool
    """The answer was accepted before, and nothing was written."""
    upgrade: UpgradeStatus
    """How far it is."""
    contract: list[UpgradeSentence]
    """What holds from now on."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("written", "written", ("integer", 9007199254740991), True),
        Member("again", "again", "flag", True),
        Member("upgrade", "upgrade", ("object", "UpgradeStatus"), True),
        Member("contract", "contract", ("list", ("object", "UpgradeSentence")), True),
    )


@dataclass(frozen=True, kw_only=True)
class Activated(Members):
    """Activated is the answer of POST /v1/ak/activate: the secret that only the TPM with that EK
    could open, and only for that AK.
    """

    secret: Secret
    """At most 64 bytes."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("secret", "secret", "secret", True),
    )


@dataclass(frozen=True, kw_only=True)
class AnchorStatus(Members):
    """AnchorStatus is the report that anchored evidence would refer to now."""

    age_milliseconds: int
    """Age by the agent's monotonic clock."""
    log_head: LogHead

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("age_milliseconds", "ageMilliseconds", ("integer", 9007199254740991), True),
        Member("log_head", "logHead", ("object", "LogHead"), True),
    )


@dataclass(frozen=True, kw_only=True)
class ApiContainer(Members):
    """Container is the answer of POST /v1/containers. The container may start."""

    engine: str
    """Name of the engine."""
    id: str
    """Id of the container."""
    recorded: bool
    """The log has it; otherwise Reason says why that is not needed."""
    app: str | None = None
    """Declared app that the container is; empty if it is none."""
    bytes_: int | None = None
    """Bytes of these."""
    files: int | None = None
    """Files and links in it."""
    image: str | None = None
    """Digest of the configuration of its image, as the engine says, "sha256:…"; empty if it does
    not.
    """
    reason: str | None = None
    """Why it is not recorded."""
    record: int | None = None
    """Number of the record, if it is recorded."""
    root: bytes | None = None
    """Digest of its root file system, if it is recorded."""
    running: bool | None = None
    """That process has not ended."""
    started: int | None = None
    """When its first process was made: CLOCK_BOOTTIME in milliseconds."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("engine", "engine", "text", True),
        Member("id", "id", "text", True),
        Member("recorded", "recorded", "flag", True),
        Member("app", "app", "text", False),
        Member("bytes_", "bytes", ("integer", 9007199254740991), False),
        Member("files", "files", ("integer", 9007199254740991), False),
        Member("image", "image", "text", False),
        Member("reason", "reason", "text", False),
        Member("record", "record", ("integer", 9007199254740991), False),
        Member("root", "root", "digest", False),
        Member("running", "running", "flag", False),
        Member("started", "started", ("integer", 9007199254740991), False),
    )


@dataclass(frozen=True, kw_only=True)
class App(Members):
    """App is one declared app."""

    name: str
    """Name of the declaration."""
    unit: str
    """Systemd system unit; empty if the declaration was refused."""
    state: Literal["measured", "unmeasured", "pending"] | str
    """Whether the log has its files."""
    declaration: bytes
    """SHA-256 of the declaration."""
    files: int
    """Entries of the manifest."""
    bytes_: int
    """Sum of their sizes."""
    changed: int | None = None
    """When the log got this digest: milliseconds of the guest's clock since the kernel started;
    absent unless it is measured.
    """
    covered: Covered | None = None
    """Its interval of coverage; absent if none is open."""
    digest: bytes | None = None
    """Manifest digest, once measured."""
    dynamic_user: bool | None = None
    """Systemd gives that user a uid at each start of the unit."""
    interpreter: str | None = None
    """Path of the interpreter, if interpreters and libraries are all that is measured: what it
    runs is not covered.
    """
    reading: Reading | None = None
    """The reading of its files that is under way; absent if none is."""
    reason: str | None = None
    """Why it is not measured."""
    record: int | None = None
    """Number of its latest record in the log."""
    source: str | None = None
    """File of the declaration."""
    user: str | None = None
    """User that the unit runs as."""
    users: list[str] | None = None
    """Further users of the unit whose processes are the app; they have no keys."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("name", "name", "text", True),
        Member("unit", "unit", "text", True),
        Member("state", "state", "text", True),
        Member("declaration", "declaration", "digest", True),
        Member("files", "files", ("integer", 9007199254740991), True),
        Member("bytes_", "bytes", ("integer", 9007199254740991), True),
        Member("changed", "changed", ("integer", 9007199254740991), False),
        Member("covered", "covered", ("object", "Covered"), False),
        Member("digest", "digest", "digest", False),
        Member("dynamic_user", "dynamicUser", "flag", False),
        Member("interpreter", "interpreter", "text", False),
        Member("reading", "reading", ("object", "Reading"), False),
        Member("reason", "reason", "text", False),
        Member("record", "record", ("integer", 9007199254740991), False),
        Member("source", "source", "text", False),
        Member("user", "user", "text", False),
        Member("users", "users", ("list", "text"), False),
    )


@dataclass(frozen=True, kw_only=True)
class AppCounts(Members):
    """AppCounts counts the declared apps."""

    declared: int
    """All."""
    measured: int
    """In the log as they are now."""
    unmeasured: int
    """Declared, but files missing, changing or refused."""
    interpreter_only: int | None = None
    """Of those measured, apps of which only an interpreter is: what it runs is not covered."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("declared", "declared", ("integer", 9007199254740991), True),
        Member("measured", "measured", ("integer", 9007199254740991), True),
        Member("unmeasured", "unmeasured", ("integer", 9007199254740991), True),
        Member("interpreter_only", "interpreterOnly", ("integer", 9007199254740991), False),
    )


@dataclass(frozen=True, kw_only=True)
class Apps(Members):
    """Apps is the answer of GET /v1/apps."""

    apps: list[App]
    """In the order of their names."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("apps", "apps", ("list", ("object", "App")), True),
    )


@dataclass(frozen=True, kw_only=True)
class Bank(Members):
    """A Bank is the values of some PCRs of one hash algorithm."""

    algorithm: Literal["sha1", "sha256", "sha384", "sha512"]
    """"sha1", "sha256", "sha384" or "sha512"."""
    pcrs: list[PCR]
    """Ascending by index."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("algorithm", "algorithm", "text", True),
        Member("pcrs", "pcrs", ("list", ("object", "PCR")), True),
    )


@dataclass(frozen=True, kw_only=True)
class BatchCounts(Members):
    """BatchCounts counts the work of the batcher since the agent started."""

    fresh: int
    """Batches that got a report of their own."""
    anchored: int
    """Batches that refer to an anchor."""
    failed: int
    """Batches that failed as a whole."""
    statements: int
    """Statements answered with evidence."""
    largest: int
    """Statements of the largest batch."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("fresh", "fresh", ("integer", 9007199254740991), True),
        Member("anchored", "anchored", ("integer", 9007199254740991), True),
        Member("failed", "failed", ("integer", 9007199254740991), True),
        Member("statements", "statements", ("integer", 9007199254740991), True),
        Member("largest", "largest", ("integer", 9007199254740991), True),
    )


@dataclass(frozen=True, kw_only=True)
class Caller(Members):
    """A Caller is the process that asked, as the agent established it when it accepted the
    connection. The boundary is unit and uid. The executable is an observation only: a process
    can pass its connection to another process, or replace its own image.
    """

    uid: int
    """Effective uid at connect (SO_PEERCRED), seen from the initial user namespace."""
    gid: int
    """Effective gid at connect."""
    pid: int
    """Number of the process as the agent sees it, 1 to 2^31 - 1."""
    started: int
    """When the process started: CLOCK_BOOTTIME in milliseconds, rounded down to 10."""
    method: Literal["pidfd", "start-time"] | str
    """How connection and process were tied."""
    app: str | None = None
    """Declared application with this unit and user; empty if none."""
    container: Container | None = None
    """Container that the process is in, which the agent measured; nil if it is in none."""
    executable: Executable | None = None
    """Observed image of the process; nil if it was not observed."""
    invocation: bytes | None = None
    """Systemd's id of this run of Unit, 16 bytes; nil if it is not known."""
    unit: str | None = None
    """Systemd system unit; empty if the process is in none."""
    unit_started: int | None = None
    """When the earliest process of this run of Unit started that the agent saw; nil exactly if
    Unit is empty.
    """

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("uid", "uid", ("integer", 4294967295), True),
        Member("gid", "gid", ("integer", 4294967295), True),
        Member("pid", "pid", ("integer", 4294967295), True),
        Member("started", "started", ("integer", 9007199254740991), True),
        Member("method", "method", "text", True),
        Member("app", "app", "text", False),
        Member("container", "container", ("object", "Container"), False),
        Member("executable", "executable", ("object", "Executable"), False),
        Member("invocation", "invocation", "bytes", False),
        Member("unit", "unit", "text", False),
        Member("unit_started", "unitStarted", ("integer", 9007199254740991), False),
    )


@dataclass(frozen=True, kw_only=True)
class Certified(Members):
    """Certified is the answer of POST /v1/keys/certify: the TPM's word about a signing key that it
    has, signed by the attestation key (TPM 2.0 Part 3, section 18.2). keys.Certification checks
    it.
    """

    public: bytes
    """TPMT_PUBLIC of the key."""
    public_key: bytes
    """The same public half, DER SubjectPublicKeyInfo."""
    attest: bytes
    """TPMS_ATTEST over the key's name, with the data as extraData."""
    signature: bytes
    """TPMT_SIGNATURE of the AK over attest."""
    ak_public: bytes
    """TPMT_PUBLIC of the AK."""
    version: int
    """Version of the app's root that was used."""
    ak_certificate: bytes | None = None
    """Certificate of the AK that the platform made, X.509 DER, unverified."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("public", "public", "bytes", True),
        Member("public_key", "publicKey", "bytes", True),
        Member("attest", "attest", "bytes", True),
        Member("signature", "signature", "bytes", True),
        Member("ak_public", "akPublic", "bytes", True),
        Member("version", "version", ("integer", 4294967295), True),
        Member("ak_certificate", "akCertificate", "bytes", False),
    )


@dataclass(frozen=True, kw_only=True)
class Container(Members):
    """A Container is the container that a process is in, as the agent measured it before its first
    process ran: the log has an event of it.
    """

    engine: str
    """One of Engines."""
    id: str
    """As the engine names it."""
    started: int
    """When its first process started: CLOCK_BOOTTIME in milliseconds, rounded down to 10."""
    root: bytes
    """Of its root file system, as in that event."""
    image: bytes | None = None
    """SHA-256 of the image's configuration, as in that event; nil if the engine does not say it."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("engine", "engine", "text", True),
        Member("id", "id", "text", True),
        Member("started", "started", ("integer", 9007199254740991), True),
        Member("root", "root", "digest", True),
        Member("image", "image", "digest", False),
    )


@dataclass(frozen=True, kw_only=True)
class Containers(Members):
    """Containers is the answer of GET /v1/containers/running."""

    containers: list[ApiContainer]
    """Recorded in this boot and not ended, by engine and id."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("containers", "containers", ("list", ("object", "ApiContainer")), True),
    )


@dataclass(frozen=True, kw_only=True)
class Contract(Members):
    """Contract says what a blob opens on and what would lock it out. It contains no secret."""

    text: str
    """All of it, for people."""
    authenticated: bool
    """The blob was opened; otherwise this is what its file claims."""
    planned: bool
    """There is no blob: what one would be sealed to now."""
    app: str
    """Name of the app."""
    unit: str
    """System unit of the app."""
    user: str
    """User of the unit."""
    generation: int
    """Number of the manifest that first listed the blob."""
    slots: list[str]
    """Kinds of slots, the strongest first."""
    weakest: str
    """Weakest slot of the machine."""
    recipients: list[str]
    """Recovery recipients (age X25519)."""
    digests: list[bytes]
    """Digests of which the app must have one; empty: not required."""
    counted: bool
    """A counter in the TPM detects an older state of the files."""
    unproven: bool
    """Recovered although nothing told who wrote it: an attacker may have chosen what it contains."""
    limit: str
    """Other parties that could open it."""
    openers: list[ContractOpener]
    """Every party that can open it, and when."""
    changes: list[ContractChange]
    """Effect of each change."""
    code: str | None = None
    """Why it does not open."""
    name: str | None = None
    """Name of a secret."""
    reason: str | None = None
    """The same in words."""
    store_key: str | None = None
    """Public half of the key that signs the blob: recovery needs it."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("text", "text", "text", True),
        Member("authenticated", "authenticated", "flag", True),
        Member("planned", "planned", "flag", True),
        Member("app", "app", "text", True),
        Member("unit", "unit", "text", True),
        Member("user", "user", "text", True),
        Member("generation", "generation", ("integer", 9007199254740991), True),
        Member("slots", "slots", ("list", "text"), True),
        Member("weakest", "weakest", "text", True),
        Member("recipients", "recipients", ("list", "text"), True),
        Member("digests", "digests", ("list", "digest"), True),
        Member("counted", "counted", "flag", True),
        Member("unproven", "unproven", "flag", True),
        Member("limit", "limit", "text", True),
        Member("openers", "openers", ("list", ("object", "ContractOpener")), True),
        Member("changes", "changes", ("list", ("object", "ContractChange")), True),
        Member("code", "code", "text", False),
        Member("name", "name", "text", False),
        Member("reason", "reason", "text", False),
        Member("store_key", "storeKey", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class ContractChange(Members):
    """ContractChange is the effect of one change to machine or app."""

    change: str
    """What happens to machine or app."""
    opens: bool
    """Whether the blob opens then."""
    recovery: bool
    """The recovery identity opens it then, with the store key."""
    code: str | None = None
    """Error if it does not open."""
    note: str | None = None
    """What else to know."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("change", "change", "text", True),
        Member("opens", "opens", "flag", True),
        Member("recovery", "recovery", "flag", True),
        Member("code", "code", "text", False),
        Member("note", "note", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class ContractOpener(Members):
    """ContractOpener is a party that can open a blob."""

    who: str
    """The party, in words."""
    when: str
    """On what that depends, in words."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("who", "who", "text", True),
        Member("when", "when", "text", True),
    )


@dataclass(frozen=True, kw_only=True)
class Covered(Members):
    """Covered is an interval in which the agent saw every change of an app's files."""

    since: int
    """When it began: milliseconds of the guest's clock since the kernel started."""
    record: int
    """Number of the record that began it."""
    carried: int
    """How often a restart or a gap interrupted it, and it was carried on."""
    ends_with_agent: str | None = None
    """Why a restart of the agent would end it; absent if it would go on."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("since", "since", ("integer", 9007199254740991), True),
        Member("record", "record", ("integer", 9007199254740991), True),
        Member("carried", "carried", ("integer", 9007199254740991), True),
        Member("ends_with_agent", "endsWithAgent", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class DeliveryTicket(Members):
    """DeliveryTicket is the answer of POST /v1/secrets/ticket."""

    ticket: bytes
    """Message for the relying party, with fresh evidence; it is not secret."""
    id: bytes
    """What names the ticket in messages and in the log of the agent."""
    app: str
    """Name of the app."""
    name: str
    """Name of the secret."""
    digest: bytes
    """Manifest digest of the app: it must have the same when the secret arrives."""
    valid_for: int
    """Seconds that the ticket is valid."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("ticket", "ticket", "bytes", True),
        Member("id", "id", "digest", True),
        Member("app", "app", "text", True),
        Member("name", "name", "text", True),
        Member("digest", "digest", "digest", True),
        Member("valid_for", "validFor", ("integer", 4294967295), True),
    )


@dataclass(frozen=True, kw_only=True)
class Derived(Members):
    """Derived is the answer of POST /v1/keys/derive: the same secret after each restart and
    reboot.
    """

    secret: Secret
    """The derived secret."""
    version: int
    """Version of the app's root that was used."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("secret", "secret", "secret", True),
        Member("version", "version", ("integer", 4294967295), True),
    )


@dataclass(frozen=True, kw_only=True)
class Discarded(Members):
    """Discarded is the answer of POST /v1/discard: the secret is gone for good."""

    name: str
    """Name of the secret."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("name", "name", "text", True),
    )


@dataclass(frozen=True, kw_only=True)
class Disk(Members):
    """Disk is one volume that the agent has the key of."""

    name: str
    """Name of the volume in crypttab."""
    slot: int
    """Key slot of the agent."""
    recovery: list[int]
    """Other key slots, which open the volume without the agent."""
    former: list[int]
    """Key slots of former keys of the agent, which agentctl disk rotate removes."""
    loss_acknowledged: bool
    """There is no other key slot, and root accepted that."""
    pending: bool
    """A change of the header was begun and not ended: agentctl disk rotate ends it."""
    unproven: bool
    """Recovered although nothing told who wrote it: the key is not handed out."""
    generation: int
    """Number of the manifest that first listed the record."""
    unit: str
    """Unit that may ask for the key."""
    cipher: str | None = None
    """How data is encrypted."""
    code: str | None = None
    """Why the record does not open."""
    device: str | None = None
    """Device that it was enrolled from."""
    digest: bytes | None = None
    """What is recorded of the header."""
    key_bits: int | None = None
    """Bits of the key of the volume, for AES in XTS mode twice those of AES."""
    reason: str | None = None
    """The same in words."""
    uuid: str | None = None
    """LUKS2 UUID of the volume."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("name", "name", "text", True),
        Member("slot", "slot", ("integer", 4294967295), True),
        Member("recovery", "recovery", ("list", ("integer", 4294967295)), True),
        Member("former", "former", ("list", ("integer", 4294967295)), True),
        Member("loss_acknowledged", "lossAcknowledged", "flag", True),
        Member("pending", "pending", "flag", True),
        Member("unproven", "unproven", "flag", True),
        Member("generation", "generation", ("integer", 9007199254740991), True),
        Member("unit", "unit", "text", True),
        Member("cipher", "cipher", "text", False),
        Member("code", "code", "text", False),
        Member("device", "device", "text", False),
        Member("digest", "digest", "digest", False),
        Member("key_bits", "keyBits", ("integer", 9007199254740991), False),
        Member("reason", "reason", "text", False),
        Member("uuid", "uuid", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class DiskArea(Members):
    """DiskArea is the area of one key slot."""

    slot: int
    """Number of the key slot."""
    digest: bytes
    """SHA-256 of the area."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("slot", "slot", ("integer", 4294967295), True),
        Member("digest", "digest", "digest", True),
    )


@dataclass(frozen=True, kw_only=True)
class DiskChecked(Members):
    """DiskChecked is the answer of POST /v1/disks/check."""

    disk: Disk
    """The volume."""
    copy: int
    """Copy that is to be used, counted from 0 in the request."""
    next: bool
    """It is the header of a change that was begun."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("disk", "disk", ("object", "Disk"), True),
        Member("copy", "copy", ("integer", 4294967295), True),
        Member("next", "next", "flag", True),
    )


@dataclass(frozen=True, kw_only=True)
class DiskHeader(Members):
    """DiskHeader is one copy of the LUKS2 header of a volume, as root read it from the device."""

    sequence: int
    """Sequence number."""
    size: int
    """Bytes of the metadata area: binary header and JSON."""
    uuid: str
    """UUID of the volume."""
    json: bytes
    """The JSON of the header as it is, up to 12 KiB."""
    areas: list[DiskArea]
    """Areas of the key slots."""
    label: str | None = None
    """Label, up to 48 bytes."""
    subsystem: str | None = None
    """Subsystem, up to 48 bytes."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("sequence", "sequence", ("integer", 9007199254740991), True),
        Member("size", "size", ("integer", 4294967295), True),
        Member("uuid", "uuid", "text", True),
        Member("json", "json", "bytes", True),
        Member("areas", "areas", ("list", ("object", "DiskArea")), True),
        Member("label", "label", "text", False),
        Member("subsystem", "subsystem", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class DiskKey(Members):
    """DiskKey is the answer of POST /v1/disks/key: what root needs to add a key slot."""

    disk: Disk
    """The volume."""
    copy: int
    """Copy that is to be used, counted from 0 in the request."""
    next: bool
    """It is the header of a change that was begun."""
    key: Secret
    """Opens the key slot of the agent."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("disk", "disk", ("object", "Disk"), True),
        Member("copy", "copy", ("integer", 4294967295), True),
        Member("next", "next", "flag", True),
        Member("key", "key", "secret", True),
    )


@dataclass(frozen=True, kw_only=True)
class DiskName(Members):
    """DiskName names a volume."""

    name: str
    """Name of the volume."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("name", "name", "text", True),
    )


@dataclass(frozen=True, kw_only=True)
class Disks(Members):
    """Disks is the answer of GET /v1/disks."""

    disks: list[Disk]
    """Enrolled volumes, by name."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("disks", "disks", ("list", ("object", "Disk")), True),
    )


@dataclass(frozen=True, kw_only=True)
class Event(Members):
    """Event is one event of the calling app."""

    record: int
    """Number of the record in the log."""
    time: int
    """Of the record: CLOCK_BOOTTIME in milliseconds."""
    domain: str
    """What the words are about."""
    container: EventContainer | None = None
    """Container of that process; absent if there is a unit."""
    content: bytes | None = None
    """Words; absent if there is a digest."""
    digest: bytes | None = None
    """In place of words."""
    unit: str | None = None
    """Systemd system unit of the process that asked for it; absent if there is a container."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("record", "record", ("integer", 9007199254740991), True),
        Member("time", "time", ("integer", 9007199254740991), True),
        Member("domain", "domain", "text", True),
        Member("container", "container", ("object", "EventContainer"), False),
        Member("content", "content", "bytes", False),
        Member("digest", "digest", "digest", False),
        Member("unit", "unit", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class EventContainer(Members):
    """EventContainer names the container that an event came from."""

    engine: str
    """Engine of the container."""
    id: str
    """That the engine gave it."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("engine", "engine", "text", True),
        Member("id", "id", "text", True),
    )


@dataclass(frozen=True, kw_only=True)
class EventQuota(Members):
    """EventQuota is how much of the log the events of an app have, since boot and at most."""

    events: int
    """Recorded."""
    events_limit: int
    """Recorded at most."""
    bytes_: int
    """Of their records."""
    bytes_limit: int
    """Of their records at most; less if many apps record much."""
    refused: int
    """Refused since the agent started, because a quota was used up or the app asked too often."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("events", "events", ("integer", 9007199254740991), True),
        Member("events_limit", "eventsLimit", ("integer", 9007199254740991), True),
        Member("bytes_", "bytes", ("integer", 9007199254740991), True),
        Member("bytes_limit", "bytesLimit", ("integer", 9007199254740991), True),
        Member("refused", "refused", ("integer", 9007199254740991), True),
    )


@dataclass(frozen=True, kw_only=True)
class EventStatus(Members):
    """EventStatus says how much of the log events of apps have."""

    recorded: int
    """Events since boot."""
    bytes_: int
    """Of their records."""
    limit: int
    """Bytes that events of all apps together may have; the rest of the log is the agent's."""
    refused: int
    """Refused since the agent started, because a quota was used up or an app asked too often."""
    exhausted: int
    """Apps whose last event was refused because a quota was used up, until the next boot."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("recorded", "recorded", ("integer", 9007199254740991), True),
        Member("bytes_", "bytes", ("integer", 9007199254740991), True),
        Member("limit", "limit", ("integer", 9007199254740991), True),
        Member("refused", "refused", ("integer", 9007199254740991), True),
        Member("exhausted", "exhausted", ("integer", 9007199254740991), True),
    )


@dataclass(frozen=True, kw_only=True)
class Events(Members):
    """Events is the answer of GET /v1/events: events of the calling app since boot."""

    app: str
    """Name of the declaration."""
    events: list[Event]
    """In the order of their records."""
    quota: EventQuota
    next: int | None = None
    """Number of the record from which to ask for more; absent if there are no more."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("app", "app", "text", True),
        Member("events", "events", ("list", ("object", "Event")), True),
        Member("quota", "quota", ("object", "EventQuota"), True),
        Member("next", "next", ("integer", 9007199254740991), False),
    )


@dataclass(frozen=True, kw_only=True)
class Evidence(Members):
    """Evidence is the whole document that a caller gives to a verifier. It is unverified: an
    attacker can have written every part of it. Package verify checks them.
    """

    type: str
    """Type."""
    statement: bytes
    """The exact bytes, see ParseStatement."""
    inclusion: Inclusion
    """Of the statement in Batch.Tree."""
    batch: Snapshot
    """What was quoted for this statement."""
    agent_signature: bytes
    """Ed25519 by AgentKey over BatchMessage, 64 bytes."""
    report: Report
    """Over Anchor if present, otherwise over Batch."""
    agent_key: bytes
    """Ed25519 public key, 32 bytes."""
    ak: bytes
    """TPMT_PUBLIC of the attestation key."""
    anchor: Snapshot | None = None
    """What Report was made for; nil if fresh."""
    certificates: list[bytes] | None = None
    """X.509 DER, any order, unverified."""
    firmware_log: bytes | None = None
    """The firmware's event log as the kernel gives it; bound by the quoted PCRs alone."""
    ima: IMA | None = None
    """The kernel's list of IMA, whole or from an index; absent when not asked for; bound by the
    quoted PCR 10 alone.
    """
    log: Log | None = None
    """Measurement log, whole or from an index; absent when not asked for."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("type", "type", "text", True),
        Member("statement", "statement", "bytes", True),
        Member("inclusion", "inclusion", ("object", "Inclusion"), True),
        Member("batch", "batch", ("object", "Snapshot"), True),
        Member("agent_signature", "agentSignature", "bytes", True),
        Member("report", "report", ("object", "Report"), True),
        Member("agent_key", "agentKey", "bytes", True),
        Member("ak", "ak", "bytes", True),
        Member("anchor", "anchor", ("object", "Snapshot"), False),
        Member("certificates", "certificates", ("list", "bytes"), False),
        Member("firmware_log", "firmwareLog", "bytes", False),
        Member("ima", "ima", ("object", "IMA"), False),
        Member("log", "log", ("object", "Log"), False),
    )


@dataclass(frozen=True, kw_only=True)
class EvidenceStatus(Members):
    """EvidenceStatus says whether the agent can make evidence. The other members of Status say
    more about the causes. A program that wants to know whether the agent is ready reads this
    one.
    """

    ready: bool
    """The next request gets fresh evidence, by what was found last."""
    code: str | None = None
    """With which a request would be refused now."""
    reason: str | None = None
    """The same in words."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("ready", "ready", "flag", True),
        Member("code", "code", "text", False),
        Member("reason", "reason", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class Executable(Members):
    """An Executable is the image that the process ran when it connected."""

    state: Literal["file", "replaced", "memfd", "unreadable"] | str
    """Kind of file."""
    covered: bool
    """The app's manifest lists exactly this content; libraries and scripts it loads are not looked
    at.
    """
    digest: bytes | None = None
    """SHA-256 of the content; nil if it could not be read."""
    path: str | None = None
    """As /proc/PID/exe shows it, for people."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("state", "state", "text", True),
        Member("covered", "covered", "flag", True),
        Member("digest", "digest", "digest", False),
        Member("path", "path", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class Finding(Members):
    """Finding is a yes or no with its reason."""

    yes: bool
    """The answer."""
    reason: str
    """Reason in words, for people."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("yes", "yes", "flag", True),
        Member("reason", "reason", "text", True),
    )


@dataclass(frozen=True, kw_only=True)
class GateStatus(Members):
    """GateStatus says how the gate does, which holds up programs of apps that ask for it."""

    present: bool
    """It is connected."""
    asked: int
    """Apps that ask for it."""
    guarded: int
    """Apps that it guards, by the log."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("present", "present", "flag", True),
        Member("asked", "asked", ("integer", 9007199254740991), True),
        Member("guarded", "guarded", ("integer", 9007199254740991), True),
    )


@dataclass(frozen=True, kw_only=True)
class HandedOver(Members):
    """HandedOver is the answer of POST /v1/upgrade/answer."""

    answer: bytes
    """Message for the successor, which alone can open it."""
    id: bytes
    """Of the request."""
    entries: int
    """Blobs that go over."""
    left: list[KeptBlob]
    """Blobs that do not open, and stay behind."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("answer", "answer", "bytes", True),
        Member("id", "id", "bytes", True),
        Member("entries", "entries", ("integer", 9007199254740991), True),
        Member("left", "left", ("list", ("object", "KeptBlob")), True),
    )


@dataclass(frozen=True, kw_only=True)
class IMA(Members):
    """IMA is the kernel's list of what it measured, as it shows it to programs, from entry Start
    on. It was read after the quote, so it may go on after what the quote contains.
    """

    start: int
    """Number of the first entry here, from 0."""
    entries: bytes
    """Entries, one after the other."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("start", "start", ("integer", 9007199254740991), True),
        Member("entries", "entries", "bytes", True),
    )


@dataclass(frozen=True, kw_only=True)
class Inclusion(Members):
    """An Inclusion proves that a statement is a leaf of the tree of its batch."""

    index: int
    """Index of the leaf, from 0."""
    path: list[bytes] | None = None
    """RFC 6962, section 2.1.1: sibling hashes from the leaf up."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("index", "index", ("integer", 9007199254740991), True),
        Member("path", "path", ("list", "digest"), False),
    )


@dataclass(frozen=True, kw_only=True)
class KeptBlob(Members):
    """KeptBlob is a blob that was left as it is."""

    app: str
    """Name of the app."""
    kind: str
    """"app root" or "secret"."""
    reason: str
    """The same in words."""
    code: str | None = None
    """Why it does not open."""
    name: str | None = None
    """Name of a secret."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("app", "app", "text", True),
        Member("kind", "kind", "text", True),
        Member("reason", "reason", "text", True),
        Member("code", "code", "text", False),
        Member("name", "name", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class KeyStatus(Members):
    """KeyStatus is the state of the store of sealed blobs."""

    state: Literal["ok", "degraded", "absent", "unknown"] | str
    """Whether blobs can be opened."""
    blobs: int
    """Sealed blobs that the manifest lists."""
    generation: int
    """Number of the manifest."""
    counted: bool
    """A counter in the TPM detects an older state of the files."""
    rewrap: bool
    """Some blobs are sealed to an older TCB or another kind of slot."""
    orphans: int
    """Files that the manifest does not list."""
    unproven: int
    """Blobs that were recovered although nothing told who wrote them."""
    code: str | None = None
    """Why nothing opens, if that has a code."""
    reason: str | None = None
    """The same in words, and what to do."""
    slot: str | None = None
    """Weakest slot of what is sealed now: "snp+tpm", "snp" or "tpm"."""
    store_key: str | None = None
    """Public half of the key that signs every blob, as "agentctl key store-key" prints it: keep it
    with the recovery identity.
    """

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("state", "state", "text", True),
        Member("blobs", "blobs", ("integer", 9007199254740991), True),
        Member("generation", "generation", ("integer", 9007199254740991), True),
        Member("counted", "counted", "flag", True),
        Member("rewrap", "rewrap", "flag", True),
        Member("orphans", "orphans", ("integer", 9007199254740991), True),
        Member("unproven", "unproven", ("integer", 9007199254740991), True),
        Member("code", "code", "text", False),
        Member("reason", "reason", "text", False),
        Member("slot", "slot", "text", False),
        Member("store_key", "storeKey", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class LedgerStatus(Members):
    """LedgerStatus is the state of measurement log and PCR."""

    pcr: int
    """Number of the PCR, 0 to 23."""
    synchronised: bool
    """Log and PCR explain each other; evidence is refused while they do not."""
    full: bool
    """The log takes no more records until the next boot."""
    records: int
    """Number of records."""
    bytes_: int
    """Size of the log."""
    head: LogHead
    events_pcr: int | None = None
    """PCR of the events of apps, 8 to 15, if the log has a second one for them."""
    limit: int | None = None
    """Size at which the log is full; absent while there is no log."""
    pending: str | None = None
    """What the configuration asks for and the next boot changes."""
    reason: str | None = None
    """Why not."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("pcr", "pcr", ("integer", 4294967295), True),
        Member("synchronised", "synchronised", "flag", True),
        Member("full", "full", "flag", True),
        Member("records", "records", ("integer", 9007199254740991), True),
        Member("bytes_", "bytes", ("integer", 9007199254740991), True),
        Member("head", "head", ("object", "LogHead"), True),
        Member("events_pcr", "eventsPCR", ("integer", 4294967295), False),
        Member("limit", "limit", ("integer", 9007199254740991), False),
        Member("pending", "pending", "text", False),
        Member("reason", "reason", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class Log(Members):
    """A Log is the measurement log as CEL-TLV, from record Start on. If Start is not 0, Previous
    is the digest of the log head before it. A reader compares it with the head of the records
    that it kept.
    """

    start: int
    """Number of the first record here."""
    records: bytes
    """CEL-TLV records, one after the other."""
    previous: bytes | None = None
    """Digest of the head before Start; absent at 0."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("start", "start", ("integer", 9007199254740991), True),
        Member("records", "records", "bytes", True),
        Member("previous", "previous", "digest", False),
    )


@dataclass(frozen=True, kw_only=True)
class LogHead(Members):
    """A LogHead names one state of the measurement log. See NextLogHead."""

    count: int
    """Records in the log."""
    digest: bytes
    """Chained digest of the records; all zero if Count is 0."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("count", "count", ("integer", 9007199254740991), True),
        Member("digest", "digest", "digest", True),
    )


@dataclass(frozen=True, kw_only=True)
class PCR(Members):
    """A PCR is one register and its value."""

    index: int
    """0 to 23."""
    value: bytes
    """One digest of the bank: 20, 32, 48 or 64 bytes."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("index", "index", ("integer", 23), True),
        Member("value", "value", "bytes", True),
    )


@dataclass(frozen=True, kw_only=True)
class PlatformStatus(Members):
    """PlatformStatus is the state of the confidential-computing platform."""

    state: Literal["ok", "degraded", "absent", "unknown"] | str
    """Whether it answers."""
    spacing_milliseconds: int
    """Current wait between two reports."""
    kind: Literal["sev-snp", "azure-hcl", "sev-snp-svsm"] | str | None = None
    """Kind of its reports; absent if there is no platform."""
    last_error: str | None = None
    """Error of the last report that failed since start."""
    machine: str | None = None
    """What the machine is: sev-snp, azure, svsm, gcp or aws; absent if not known."""
    reason: str | None = None
    """What is wrong."""
    source: str | None = None
    """How reports come: sev-guest, configfs, paravisor or svsm."""
    why: str | None = None
    """What was found that decided machine and source."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("state", "state", "text", True),
        Member("spacing_milliseconds", "spacingMilliseconds", ("integer", 9007199254740991), True),
        Member("kind", "kind", "text", False),
        Member("last_error", "lastError", "text", False),
        Member("machine", "machine", "text", False),
        Member("reason", "reason", "text", False),
        Member("source", "source", "text", False),
        Member("why", "why", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class PreparedUpgrade(Members):
    """PreparedUpgrade is the answer of POST /v1/upgrade/prepare: the contract of an upgrade before
    it.
    """

    offer: bytes
    """Message for the successor, which is not secret."""
    number: int
    """Of the release."""
    expires: int
    """Seconds since 1970, by the clock of this machine."""
    measurements: list[str]
    """Launch measurements that a successor may have, hexadecimal."""
    entries: int
    """Blobs that go over."""
    bytes_: int
    """Content of these."""
    left: list[KeptBlob]
    """Blobs that do not open, and stay behind."""
    contract: list[UpgradeSentence]
    """What the upgrade does and does not."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("offer", "offer", "bytes", True),
        Member("number", "number", ("integer", 9007199254740991), True),
        Member("expires", "expires", ("integer", 9007199254740991), True),
        Member("measurements", "measurements", ("list", "text"), True),
        Member("entries", "entries", ("integer", 9007199254740991), True),
        Member("bytes_", "bytes", ("integer", 9007199254740991), True),
        Member("left", "left", ("list", ("object", "KeptBlob")), True),
        Member("contract", "contract", ("list", ("object", "UpgradeSentence")), True),
    )


@dataclass(frozen=True, kw_only=True)
class ProbeFinding(Members):
    """ProbeFinding is one thing that was tried on the key derivation of the platform, or on the
    TPM.
    """

    name: str
    """What was tried."""
    ok: bool
    """Whether the result is as it should be."""
    text: str
    """Result in words."""
    todo: str | None = None
    """What to do, if the result is not as it should be."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("name", "name", "text", True),
        Member("ok", "ok", "flag", True),
        Member("text", "text", "text", True),
        Member("todo", "todo", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class Probed(Members):
    """Probed is the answer of POST /v1/store/probe and of POST /v1/tpm/try."""

    findings: list[ProbeFinding]
    """One for each thing that was tried."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("findings", "findings", ("list", ("object", "ProbeFinding")), True),
    )


@dataclass(frozen=True, kw_only=True)
class Problem(Members):
    """Problem is the body of every error answer (RFC 9457), and a Go error."""

    type: str
    """URI of a page with the meaning of the code."""
    title: str
    """The same for each answer with this code."""
    status: int
    """As in the status line."""
    code: str
    """What programs act on."""
    detail: str | None = None
    """What was attempted, what was found, what to do; for people."""
    offset: int | None = None
    """Byte of the body near which reading ended, from 0."""
    retry_after: int | None = None
    """Seconds after which the same request may succeed, as in the header."""
    where: str | None = None
    """JSON Pointer (RFC 6901) or name of the parameter at fault."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("type", "type", "text", True),
        Member("title", "title", "text", True),
        Member("status", "status", ("integer", 599), True),
        Member("code", "code", "text", True),
        Member("detail", "detail", "text", False),
        Member("offset", "offset", ("integer", 9007199254740991), False),
        Member("retry_after", "retryAfter", ("integer", 9007199254740991), False),
        Member("where", "where", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class Process(Members):
    """Process is the answer of GET /v1/process: who a process of this machine is to the agent. All
    of it is of one process, which had not ended when the answer was made.
    """

    pid: int
    """Number of the process."""
    started: int
    """When it started: CLOCK_BOOTTIME in milliseconds."""
    uid: int
    """Effective uid, seen from the agent's user namespace."""
    gid: int
    """Effective gid."""
    measured: Finding
    """Whether the log vouches for the app as its files are now."""
    since_start: Finding
    """Whether it has done so since before the first process of its unit started: measured before,
    covered and unchanged since.
    """
    app: str | None = None
    """Declared app with this unit and user, or of this container."""
    container: Container | None = None
    """Measured container that the process is in."""
    covered: Covered | None = None
    """Interval of coverage of the app; absent if none is open."""
    digest: bytes | None = None
    """Of what the log has of the app now: its manifest, or the root file system of the container;
    absent unless it is measured.
    """
    executable: Executable | None = None
    """An observation, never proof."""
    unit: str | None = None
    """Systemd system unit; absent if the process runs in none."""
    unit_reason: str | None = None
    """Why it runs in no unit."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("pid", "pid", ("integer", 4294967295), True),
        Member("started", "started", ("integer", 9007199254740991), True),
        Member("uid", "uid", ("integer", 4294967295), True),
        Member("gid", "gid", ("integer", 4294967295), True),
        Member("measured", "measured", ("object", "Finding"), True),
        Member("since_start", "sinceStart", ("object", "Finding"), True),
        Member("app", "app", "text", False),
        Member("container", "container", ("object", "Container"), False),
        Member("covered", "covered", ("object", "Covered"), False),
        Member("digest", "digest", "digest", False),
        Member("executable", "executable", ("object", "Executable"), False),
        Member("unit", "unit", "text", False),
        Member("unit_reason", "unitReason", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class ProvisionedSecret(Members):
    """ProvisionedSecret is a secret that root provisioned, without its content."""

    app: str
    """Name of the app."""
    name: str
    """Name of the secret, and of the credential."""
    bytes_: int
    """Size of the secret."""
    generation: int
    """Number of the manifest that first listed this content."""
    slot: str
    """Weakest slot of the machine."""
    rewrap: bool
    """Sealed to an older TCB or another kind of slot than this machine has now."""
    unproven: bool
    """Recovered although nothing told who wrote it: an attacker may have chosen what it contains."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("app", "app", "text", True),
        Member("name", "name", "text", True),
        Member("bytes_", "bytes", ("integer", 9007199254740991), True),
        Member("generation", "generation", ("integer", 9007199254740991), True),
        Member("slot", "slot", "text", True),
        Member("rewrap", "rewrap", "flag", True),
        Member("unproven", "unproven", "flag", True),
    )


@dataclass(frozen=True, kw_only=True)
class PublicKey(Members):
    """PublicKey is the answer of GET /v1/keys/public."""

    public_key: bytes
    """Public half of the key, DER SubjectPublicKeyInfo."""
    version: int
    """Version of the app's root that was used."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("public_key", "publicKey", "bytes", True),
        Member("version", "version", ("integer", 4294967295), True),
    )


@dataclass(frozen=True, kw_only=True)
class Quote(Members):
    """A Quote is the answer to a TPM2_Quote, exactly as the TPM produced it."""

    attest: bytes
    """TPMS_ATTEST (TPM 2.0 Part 2, section 10.12.12)."""
    signature: bytes
    """TPMT_SIGNATURE (TPM 2.0 Part 2, section 11.3.4)."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("attest", "attest", "bytes", True),
        Member("signature", "signature", "bytes", True),
    )


@dataclass(frozen=True, kw_only=True)
class Reading(Members):
    """Reading is how far the agent is with the files of an app."""

    since: int
    """Seconds that it has taken."""
    bytes_: int
    """Hashed, or known already."""
    of: int
    """Bytes of the files found so far, or of the reading before if that was more."""
    stuck: bool
    """The file system of the path does not answer: the app is measured when it does."""
    path: str | None = None
    """Looked at last."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("since", "since", ("integer", 9007199254740991), True),
        Member("bytes_", "bytes", ("integer", 9007199254740991), True),
        Member("of", "of", ("integer", 9007199254740991), True),
        Member("stuck", "stuck", "flag", True),
        Member("path", "path", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class ReceivedSecret(Members):
    """ReceivedSecret is the answer of POST /v1/secrets/receive: the secret is stored."""

    receipt: bytes
    """Message for the relying party; it is not secret."""
    id: bytes
    """Of the ticket."""
    app: str
    """Name of the app."""
    name: str
    """Name of the secret."""
    replaced: bool
    """It replaced one of that name."""
    again: bool
    """The same message was received before: this is its receipt, and nothing was stored."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("receipt", "receipt", "bytes", True),
        Member("id", "id", "digest", True),
        Member("app", "app", "text", True),
        Member("name", "name", "text", True),
        Member("replaced", "replaced", "flag", True),
        Member("again", "again", "flag", True),
    )


@dataclass(frozen=True, kw_only=True)
class RecordedEvent(Members):
    """RecordedEvent is the answer of POST /v1/events: the event is in the log and in the PCR."""

    app: str
    """Name of the declaration, as the log names it."""
    record: int
    """Number of the record in the log."""
    time: int
    """Of the record: CLOCK_BOOTTIME in milliseconds."""
    value: bytes
    """That rules of a policy compare: the digest, or SHA-256 of the content."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("app", "app", "text", True),
        Member("record", "record", ("integer", 9007199254740991), True),
        Member("time", "time", ("integer", 9007199254740991), True),
        Member("value", "value", "digest", True),
    )


@dataclass(frozen=True, kw_only=True)
class Recovered(Members):
    """Recovered says what a recovery rests on."""

    locked: bool
    """The whole store was recovered, not single blobs of one that was open."""
    generation: int
    """Number of the recovered manifest; 0 if it was lost."""
    newest: bool
    """The TPM's counter says that nothing newer was written; otherwise the age is unknown."""
    recipients_before: list[str]
    """Recovery recipients that the files named."""
    recipients: list[str]
    """Recovery recipients from now on."""
    unproven: bool
    """Nothing told who wrote some of it: an attacker may have chosen what it contains."""
    rotated: list[RootVersion]
    """App roots that got a new version because of that."""
    secrets: list[StoredName]
    """Stored secrets of which nothing told who wrote them."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("locked", "locked", "flag", True),
        Member("generation", "generation", ("integer", 9007199254740991), True),
        Member("newest", "newest", "flag", True),
        Member("recipients_before", "recipientsBefore", ("list", "text"), True),
        Member("recipients", "recipients", ("list", "text"), True),
        Member("unproven", "unproven", "flag", True),
        Member("rotated", "rotated", ("list", ("object", "RootVersion")), True),
        Member("secrets", "secrets", ("list", ("object", "StoredName")), True),
    )


@dataclass(frozen=True, kw_only=True)
class ReloadProblem(Members):
    """ReloadProblem is a declaration that was refused."""

    source: str
    """File of the declaration."""
    reason: str
    """With line and column if known."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("source", "source", "text", True),
        Member("reason", "reason", "text", True),
    )


@dataclass(frozen=True, kw_only=True)
class Reloaded(Members):
    """Reloaded is the answer of POST /v1/reload. Declarations without an error are in force."""

    apps: AppCounts
    errors: list[ReloadProblem] | None = None
    """Declarations that were refused."""
    measuring: list[str] | None = None
    """Apps whose files are still being read, in order."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("apps", "apps", ("object", "AppCounts"), True),
        Member("errors", "errors", ("list", ("object", "ReloadProblem")), False),
        Member("measuring", "measuring", ("list", "text"), False),
    )


@dataclass(frozen=True, kw_only=True)
class Replaced(Members):
    """Replaced is the answer of POST /v1/ak/replace: a new AK is in place of a stored one that
    this TPM does not load. Nothing is deleted.
    """

    new: bytes
    """TPM name of the AK from now on: verifiers have to enrol it."""
    backup: str
    """File with the old AK as it was stored."""
    reason: str
    """Why the old one does not load."""
    old: bytes | None = None
    """TPM name of the AK that was stored; absent if its file cannot be read."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("new", "new", "bytes", True),
        Member("backup", "backup", "text", True),
        Member("reason", "reason", "text", True),
        Member("old", "old", "bytes", False),
    )


@dataclass(frozen=True, kw_only=True)
class Report(Members):
    """A Report is a signed statement of the platform, exactly as the firmware produced it."""

    kind: Literal["sev-snp", "azure-hcl", "sev-snp-svsm"] | str
    """Platform that signed the report."""
    bytes_: bytes
    """The report."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("kind", "kind", "text", True),
        Member("bytes_", "bytes", "bytes", True),
    )


@dataclass(frozen=True, kw_only=True)
class Rewritten(Members):
    """Rewritten is the answer of calls that seal the whole store again."""

    written: int
    """Number of blobs sealed again."""
    kept: list[KeptBlob]
    """Blobs that did not open and were left as they are."""
    store_key: str
    """Public half of the key that signs every blob from now on."""
    new_store_key: bool
    """The store key is another than before: keep it with the recovery identity."""
    recovered: Recovered | None = None
    """After a recovery: what it rests on."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("written", "written", ("integer", 9007199254740991), True),
        Member("kept", "kept", ("list", ("object", "KeptBlob")), True),
        Member("store_key", "storeKey", "text", True),
        Member("new_store_key", "newStoreKey", "flag", True),
        Member("recovered", "recovered", ("object", "Recovered"), False),
    )


@dataclass(frozen=True, kw_only=True)
class RootVersion(Members):
    """RootVersion is the answer of POST /v1/store/rotate and /v1/store/retire: a version of the
    app's root that is now in use, or gone.
    """

    app: str
    """Name of the app."""
    version: int
    """Version of the root."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("app", "app", "text", True),
        Member("version", "version", ("integer", 4294967295), True),
    )


@dataclass(frozen=True, kw_only=True)
class Sealed(Members):
    """Sealed is the answer of POST /v1/seal: the secret is on disk."""

    name: str
    """Name of the secret."""
    bytes_: int
    """Size of the secret."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("name", "name", "text", True),
        Member("bytes_", "bytes", ("integer", 9007199254740991), True),
    )


@dataclass(frozen=True, kw_only=True)
class SealedBlob(Members):
    """SealedBlob is one sealed blob as the manifest lists it."""

    app: str
    """Name of the app."""
    kind: str
    """"app root" or "secret"."""
    generation: int
    """Number of the manifest that first listed the blob."""
    bytes_: int
    """Size of its file."""
    slot: str
    """Weakest slot of the machine."""
    rewrap: bool
    """Sealed to an older TCB or another kind of slot than this machine has now."""
    unproven: bool
    """Recovered although nothing told who wrote it: an attacker may have chosen what it contains."""
    name: str | None = None
    """Name of a secret."""
    tcb: str | None = None
    """TCB at sealing, hexadecimal, in the order of the report."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("app", "app", "text", True),
        Member("kind", "kind", "text", True),
        Member("generation", "generation", ("integer", 9007199254740991), True),
        Member("bytes_", "bytes", ("integer", 9007199254740991), True),
        Member("slot", "slot", "text", True),
        Member("rewrap", "rewrap", "flag", True),
        Member("unproven", "unproven", "flag", True),
        Member("name", "name", "text", False),
        Member("tcb", "tcb", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class Secrets(Members):
    """Secrets is the answer of GET /v1/secrets."""

    secrets: list[ProvisionedSecret]
    """Ascending by app and name."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("secrets", "secrets", ("list", ("object", "ProvisionedSecret")), True),
    )


@dataclass(frozen=True, kw_only=True)
class Self(Members):
    """Self is the answer of GET /v1/self: who the caller is to the agent. It has what the
    statement of an evidence would say, with the reasons.
    """

    uid: int
    """Effective uid at connect, seen from the agent's user namespace."""
    gid: int
    """Effective gid at connect."""
    pid: int
    """Number of the process, seen from the agent's namespace."""
    started: int
    """When the process started: CLOCK_BOOTTIME in milliseconds."""
    agent_key: bytes
    """Ed25519 public key of the running agent, 32 bytes; a proof of possession is for this agent."""
    method: Literal["pidfd", "start-time"] | str
    """How connection and process were tied."""
    measured: Finding
    """Whether the log vouches for the app."""
    keys: Finding
    """Whether the app may have keys."""
    app: str | None = None
    """Declared app with this unit and user."""
    container: Container | None = None
    """Measured container that the process is in."""
    covered: Covered | None = None
    """Its interval of coverage; absent if none is open."""
    executable: Executable | None = None
    """An observation, never proof."""
    unit: str | None = None
    """Systemd system unit; absent if the caller runs in none."""
    unit_reason: str | None = None
    """Why it runs in no unit."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("uid", "uid", ("integer", 4294967295), True),
        Member("gid", "gid", ("integer", 4294967295), True),
        Member("pid", "pid", ("integer", 4294967295), True),
        Member("started", "started", ("integer", 9007199254740991), True),
        Member("agent_key", "agentKey", "bytes", True),
        Member("method", "method", "text", True),
        Member("measured", "measured", ("object", "Finding"), True),
        Member("keys", "keys", ("object", "Finding"), True),
        Member("app", "app", "text", False),
        Member("container", "container", ("object", "Container"), False),
        Member("covered", "covered", ("object", "Covered"), False),
        Member("executable", "executable", ("object", "Executable"), False),
        Member("unit", "unit", "text", False),
        Member("unit_reason", "unitReason", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class Signed(Members):
    """Signed is the answer of POST /v1/sign."""

    signature: bytes
    """Ed25519: 64 bytes; ECDSA: DER."""
    public_key: bytes
    """Public half of the key, DER SubjectPublicKeyInfo."""
    version: int
    """Version of the app's root that was used."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("signature", "signature", "bytes", True),
        Member("public_key", "publicKey", "bytes", True),
        Member("version", "version", ("integer", 4294967295), True),
    )


@dataclass(frozen=True, kw_only=True)
class SigningKey(Members):
    """SigningKey names a signing key of the calling app."""

    label: str
    """What the key is for, 1 to 1024 bytes."""
    algorithm: Literal["ed25519", "ecdsa-p256", "ecdsa-p384", "tpm-ecdsa-p256"] | str
    """"ed25519", "ecdsa-p256", "ecdsa-p384" or "tpm-ecdsa-p256"."""
    version: int | None = None
    """Version of the app's root; default: the current one."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("label", "label", "text", True),
        Member("algorithm", "algorithm", "text", True),
        Member("version", "version", ("integer", 4294967295), False),
    )


@dataclass(frozen=True, kw_only=True)
class Snapshot(Members):
    """A Snapshot is one batch: its tree, the quote over it, the values of the quoted PCRs and the
    log head. All are of one moment: the agent takes them while nothing is measured.
    """

    tree: TreeHead
    time: int
    """When the quote was asked for: CLOCK_BOOTTIME of the guest in milliseconds."""
    log_head: LogHead
    quote: Quote
    pcrs: list[Bank]
    """Banks in the order of the quote's selection."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("tree", "tree", ("object", "TreeHead"), True),
        Member("time", "time", ("integer", 9007199254740991), True),
        Member("log_head", "logHead", ("object", "LogHead"), True),
        Member("quote", "quote", ("object", "Quote"), True),
        Member("pcrs", "pcrs", ("list", ("object", "Bank")), True),
    )


@dataclass(frozen=True, kw_only=True)
class Statement(Members):
    """A Statement is what one caller asked the agent to attest. The agent encodes it once, as
    JSON. From then on only these exact bytes are hashed and carried.
    """

    type: str
    """StatementType."""
    nonce: bytes
    """16 to 64 bytes, chosen by the verifier."""
    freshness: Literal["fresh", "anchored"] | str
    """What the caller asked for."""
    salt: bytes
    """16 to 64 random bytes: hashes do not show what others of the batch asked for."""
    caller: Caller
    """The process that asked, as the agent established it."""
    audience: str | None = None
    """Name of the verifier, at most 256 bytes; another verifier refuses it."""
    key_proof: bytes | None = None
    """Signature by the private half of PublicKey, up to 1 KiB; nil if the caller only names the
    key.
    """
    public_key: bytes | None = None
    """Up to 8 KiB, opaque to the agent; DER SubjectPublicKeyInfo by custom."""
    user_data: bytes | None = None
    """Up to 4 KiB, opaque to the agent."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("type", "type", "text", True),
        Member("nonce", "nonce", "bytes", True),
        Member("freshness", "freshness", "text", True),
        Member("salt", "salt", "bytes", True),
        Member("caller", "caller", ("object", "Caller"), True),
        Member("audience", "audience", "text", False),
        Member("key_proof", "keyProof", "bytes", False),
        Member("public_key", "publicKey", "bytes", False),
        Member("user_data", "userData", "bytes", False),
    )


@dataclass(frozen=True, kw_only=True)
class Status(Members):
    """Status is the answer of GET /v1/status."""

    version: str
    """Version of the agent."""
    evidence: EvidenceStatus
    """Whether the next request for evidence gets some."""
    tpm: TPMStatus
    platform: PlatformStatus
    ledger: LedgerStatus
    apps: AppCounts
    events: EventStatus
    watch: WatchStatus
    keys: KeyStatus
    batches: BatchCounts
    """Work since the agent started."""
    agent_key: bytes | None = None
    """Ed25519 public key of this run, 32 bytes."""
    ak_name: bytes | None = None
    """TPM name of the AK: algorithm and digest; absent while there is no AK."""
    anchor: AnchorStatus | None = None
    """Absent before the first report."""
    gate: GateStatus | None = None
    """Absent if no app asks for the gate, and none is there."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("version", "version", "text", True),
        Member("evidence", "evidence", ("object", "EvidenceStatus"), True),
        Member("tpm", "tpm", ("object", "TPMStatus"), True),
        Member("platform", "platform", ("object", "PlatformStatus"), True),
        Member("ledger", "ledger", ("object", "LedgerStatus"), True),
        Member("apps", "apps", ("object", "AppCounts"), True),
        Member("events", "events", ("object", "EventStatus"), True),
        Member("watch", "watch", ("object", "WatchStatus"), True),
        Member("keys", "keys", ("object", "KeyStatus"), True),
        Member("batches", "batches", ("object", "BatchCounts"), True),
        Member("agent_key", "agentKey", "bytes", False),
        Member("ak_name", "akName", "bytes", False),
        Member("anchor", "anchor", ("object", "AnchorStatus"), False),
        Member("gate", "gate", ("object", "GateStatus"), False),
    )


@dataclass(frozen=True, kw_only=True)
class Store(Members):
    """Store is the answer of GET /v1/store."""

    status: KeyStatus
    recipients: list[str]
    """Recovery recipients, from the authenticated manifest."""
    differ: bool
    """The configuration names other recipients, which are not used."""
    blobs: list[SealedBlob]
    """Blobs that the manifest lists."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("status", "status", ("object", "KeyStatus"), True),
        Member("recipients", "recipients", ("list", "text"), True),
        Member("differ", "differ", "flag", True),
        Member("blobs", "blobs", ("list", ("object", "SealedBlob")), True),
    )


@dataclass(frozen=True, kw_only=True)
class StoredName(Members):
    """StoredName names a stored secret."""

    app: str
    """Name of the app."""
    name: str
    """Name of the secret."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("app", "app", "text", True),
        Member("name", "name", "text", True),
    )


@dataclass(frozen=True, kw_only=True)
class SuccessorMessage(Members):
    """SuccessorMessage is the answer of POST /v1/upgrade/request."""

    request: bytes
    """Message for the old agent, with fresh evidence; it is not secret."""
    id: bytes
    """What names this successor: 32 bytes, the same until it gets another offer."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("request", "request", "bytes", True),
        Member("id", "id", "bytes", True),
    )


@dataclass(frozen=True, kw_only=True)
class TPMStatus(Members):
    """TPMStatus is the state of the TPM."""

    state: Literal["ok", "degraded", "absent", "unknown"] | str
    """Whether it answers."""
    code: str | None = None
    """Last failure, if a command repairs it."""
    reason: str | None = None
    """The same in words, and what to do."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("state", "state", "text", True),
        Member("code", "code", "text", False),
        Member("reason", "reason", "text", False),
    )


@dataclass(frozen=True, kw_only=True)
class TreeHead(Members):
    """A TreeHead names one Merkle tree by its root and its number of leaves. Every commitment
    takes both, since a root alone is also the root of trees of other shapes.
    """

    root: bytes
    """RFC 6962, section 2.1, with SHA-256."""
    size: int
    """Statements, 1 to MaxBatch."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("root", "root", "digest", True),
        Member("size", "size", ("integer", 4096), True),
    )


@dataclass(frozen=True, kw_only=True)
class Unsealed(Members):
    """Unsealed is the answer of POST /v1/unseal."""

    data: Secret
    """The secret."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("data", "data", "secret", True),
    )


@dataclass(frozen=True, kw_only=True)
class UpgradeSentence(Members):
    """UpgradeSentence says one thing about an upgrade."""

    about: str
    """What it is about."""
    text: str
    """For people."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("about", "about", "text", True),
        Member("text", "text", "text", True),
    )


@dataclass(frozen=True, kw_only=True)
class UpgradeStatus(Members):
    """UpgradeStatus is the answer of GET /v1/upgrade and of calls that end an upgrade."""

    state: Literal["none", "prepared", "answered", "asked", "accepted", "replaced"] | str
    """How far the upgrade is."""
    unproven: bool
    """A recovery could not tell who wrote the release key, so it is not used."""
    number: int
    """Of the release that this store came from; 0: from none."""
    text: str
    """All of it in words, and what to do next."""
    code: str | None = None
    """Why the store does not open."""
    expires: int | None = None
    """When the preparation ends: seconds since 1970, by the clock of this machine."""
    preparing: int | None = None
    """Number of the release that is prepared or was handed over to."""
    release_key: str | None = None
    """That signs releases: agentd-release-key: and a SubjectPublicKeyInfo in hexadecimal."""
    request: bytes | None = None
    """Id of the request that was answered here, or accepted."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("state", "state", "text", True),
        Member("unproven", "unproven", "flag", True),
        Member("number", "number", ("integer", 9007199254740991), True),
        Member("text", "text", "text", True),
        Member("code", "code", "text", False),
        Member("expires", "expires", ("integer", 9007199254740991), False),
        Member("preparing", "preparing", ("integer", 9007199254740991), False),
        Member("release_key", "releaseKey", "text", False),
        Member("request", "request", "bytes", False),
    )


@dataclass(frozen=True, kw_only=True)
class WatchStatus(Members):
    """WatchStatus says whether changes of the files of apps are noticed as they happen. While they
    are not, the agent looks at all files every 30 seconds.
    """

    state: Literal["ok", "degraded", "absent", "unknown"] | str
    """Ok, or degraded."""
    reason: str | None = None
    """Why it is degraded."""

    MEMBERS: ClassVar[tuple[Member, ...]] = (
        Member("state", "state", "text", True),
        Member("reason", "reason", "text", False),
    )
