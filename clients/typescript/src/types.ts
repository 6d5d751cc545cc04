// SPDX-License-Identifier: Apache-2.0
// Generated: `go test ./test/generate -update` writes this file.

import type { Secret } from "./secret.js";

/**
 * AK is the answer of GET /v1/ak: what a relying party needs to enrol this machine. The answer
 * proves nothing. Credential activation proves that EK and AK are in one TPM.
 */
export interface AK {
  /** TPMT_PUBLIC of the AK. */
  public: Uint8Array;
  /** TPM name of the AK: two bytes of algorithm, then the digest. */
  name: Uint8Array;
  /** X.509 DER of the EK and its issuers, as the TPM has them, unverified. */
  certificates?: Array<Uint8Array>;
  /** TPMT_PUBLIC of the EK that activation uses. */
  ek?: Uint8Array;
}
/** AbortedUpgrade is the answer of POST /v1/upgrade/abort. */
export interface AbortedUpgrade {
  /** The store of before the upgrade is in force again; what a successor stored here is lost. */
  returned: boolean;
  /** A successor got the roots, and may have taken them over. */
  answered: boolean;
  /** How it is now. */
  upgrade: UpgradeStatus;
}
/** AcceptUpgradeRequest is the body of POST /v1/upgrade/accept. */
export interface AcceptUpgradeRequest {
  /** Message of the old agent, at most 2.5 MiB. */
  answer: Uint8Array;
  /** Public half of the old store key, as root kept it: it must have signed the answer. */
  storeKey: string;
}
/** AcceptedUpgrade is the answer of POST /v1/upgrade/accept: the contract of an upgrade after it. */
export interface AcceptedUpgrade {
  /** Blobs that were taken over. */
  written: number;
  /** The answer was accepted before, and nothing was written. */
  again: boolean;
  /** How far it is. */
  upgrade: UpgradeStatus;
  /** What holds from now on. */
  contract: Array<UpgradeSentence>;
}
/**
 * ActivateRequest is the body of POST /v1/ak/activate: a challenge made for EK and AK name of one
 * machine (TPM 2.0 Part 1, section 24, "Credential Protection"). Package keys makes it.
 */
export interface ActivateRequest {
  /** Contents of TPM2B_ID_OBJECT (TPM 2.0 Part 2, section 12.4.2), without its size. */
  credential: Uint8Array;
  /** Contents of TPM2B_ENCRYPTED_SECRET (section 11.4.3), without its size. */
  secret: Uint8Array;
}
/**
 * Activated is the answer of POST /v1/ak/activate: the secret that only the TPM with that EK could
 * open, and only for that AK.
 */
export interface Activated {
  /** At most 64 bytes. */
  secret: Secret;
}
/** AnchorStatus is the report that anchored evidence would refer to now. */
export interface AnchorStatus {
  /** Age by the agent's monotonic clock. */
  ageMilliseconds: number;
  logHead: LogHead;
}
/** Container is the answer of POST /v1/containers. The container may start. */
export interface ApiContainer {
  /** Name of the engine. */
  engine: string;
  /** Id of the container. */
  id: string;
  /** The log has it; otherwise Reason says why that is not needed. */
  recorded: boolean;
  /** Declared app that the container is; empty if it is none. */
  app?: string;
  /** Bytes of these. */
  bytes?: number;
  /** Files and links in it. */
  files?: number;
  /**
   * Digest of the configuration of its image, as the engine says, "sha256:…"; empty if it does
   * not.
   */
  image?: string;
  /** Why it is not recorded. */
  reason?: string;
  /** Number of the record, if it is recorded. */
  record?: number;
  /** Digest of its root file system, if it is recorded. */
  root?: Uint8Array;
  /** That process has not ended. */
  running?: boolean;
  /** When its first process was made: CLOCK_BOOTTIME in milliseconds. */
  started?: number;
}
/** App is one declared app. */
export interface App {
  /** Name of the declaration. */
  name: string;
  /** Systemd system unit; empty if the declaration was refused. */
  unit: string;
  /** Whether the log has its files. */
  state: "measured" | "unmeasured" | "pending" | (string & {});
  /** SHA-256 of the declaration. */
  declaration: Uint8Array;
  /** Entries of the manifest. */
  files: number;
  /** Sum of their sizes. */
  bytes: number;
  /**
   * When the log got this digest: milliseconds of the guest's clock since the kernel started;
   * absent unless it is measured.
   */
  changed?: number;
  /** Its interval of coverage; absent if none is open. */
  covered?: Covered;
  /** Manifest digest, once measured. */
  digest?: Uint8Array;
  /** Systemd gives that user a uid at each start of the unit. */
  dynamicUser?: boolean;
  /**
   * Path of the interpreter, if interpreters and libraries are all that is measured: what it runs
   * is not covered.
   */
  interpreter?: string;
  /** The reading of its files that is under way; absent if none is. */
  reading?: Reading;
  /** Why it is not measured. */
  reason?: string;
  /** Number of its latest record in the log. */
  record?: number;
  /** File of the declaration. */
  source?: string;
  /** User that the unit runs as. */
  user?: string;
  /** Further users of the unit whose processes are the app; they have no keys. */
  users?: Array<string>;
}
/** AppCounts counts the declared apps. */
export interface AppCounts {
  /** All. */
  declared: number;
  /** In the log as they are now. */
  measured: number;
  /** Declared, but files missing, changing or refused. */
  unmeasured: number;
  /** Of those measured, apps of which only an interpreter is: what it runs is not covered. */
  interpreterOnly?: number;
}
/** Apps is the answer of GET /v1/apps. */
export interface Apps {
  /** In the order of their names. */
  apps: Array<App>;
}
/** A Bank is the values of some PCRs of one hash algorithm. */
export interface Bank {
  /** "sha1", "sha256", "sha384" or "sha512". */
  algorithm: "sha1" | "sha256" | "sha384" | "sha512";
  /** Ascending by index. */
  pcrs: Array<PCR>;
}
/** BatchCounts counts the work of the batcher since the agent started. */
export interface BatchCounts {
  /** Batches that got a report of their own. */
  fresh: number;
  /** Batches that refer to an anchor. */
  anchored: number;
  /** Batches that failed as a whole. */
  failed: number;
  /** Statements answered with evidence. */
  statements: number;
  /** Statements of the largest batch. */
  largest: number;
}
/**
 * A Caller is the process that asked, as the agent established it when it accepted the connection.
 * The boundary is unit and uid. The executable is an observation only: a process can pass its
 * connection to another process, or replace its own image.
 */
export interface Caller {
  /** Effective uid at connect (SO_PEERCRED), seen from the initial user namespace. */
  uid: number;
  /** Effective gid at connect. */
  gid: number;
  /** Number of the process as the agent sees it, 1 to 2^31 - 1. */
  pid: number;
  /** When the process started: CLOCK_BOOTTIME in milliseconds, rounded down to 10. */
  started: number;
  /** How connection and process were tied. */
  method: "pidfd" | "start-time" | (string & {});
  /** Declared application with this unit and user; empty if none. */
  app?: string;
  /** Container that the process is in, which the agent measured; nil if it is in none. */
  container?: Container;
  /** Observed image of the process; nil if it was not observed. */
  executable?: Executable;
  /** Systemd's id of this run of Unit, 16 bytes; nil if it is not known. */
  invocation?: Uint8Array;
  /** Systemd system unit; empty if the process is in none. */
  unit?: string;
  /**
   * When the earliest process of this run of Unit started that the agent saw; nil exactly if Unit
   * is empty.
   */
  unitStarted?: number;
}
/**
 * Certified is the answer of POST /v1/keys/certify: the TPM's word about a signing key that it
 * has, signed by the attestation key (TPM 2.0 Part 3, section 18.2). keys.Certification checks it.
 */
export interface Certified {
  /** TPMT_PUBLIC of the key. */
  public: Uint8Array;
  /** The same public half, DER SubjectPublicKeyInfo. */
  publicKey: Uint8Array;
  /** TPMS_ATTEST over the key's name, with the data as extraData. */
  attest: Uint8Array;
  /** TPMT_SIGNATURE of the AK over attest. */
  signature: Uint8Array;
  /** TPMT_PUBLIC of the AK. */
  akPublic: Uint8Array;
  /** Version of the app's root that was used. */
  version: number;
  /** Certificate of the AK that the platform made, X.509 DER, unverified. */
  akCertificate?: Uint8Array;
}
/** CertifyRequest is the body of POST /v1/keys/certify. */
export interface CertifyRequest {
  /** What the key is for, 1 to 1024 bytes. */
  label: string;
  /** "tpm-ecdsa-p256". */
  algorithm: "ed25519" | "ecdsa-p256" | "ecdsa-p384" | "tpm-ecdsa-p256";
  /** What the certification is over, 1 to 64 bytes: a nonce, or a digest that a protocol asks for. */
  data: Uint8Array;
  /** Version of the app's root; default: the current one. */
  version?: number;
}
/**
 * A kind of failure. docs/api.md says what each means. Later versions may add codes: treat one
 * that is not listed by its status.
 */
export type Code = "activation-failed" | "ak-unusable" | "altered" | "app-changed" | "bad-declaration" | "bad-derived-key" | "bad-key-proof" | "bad-signature" | "body-timeout" | "body-too-large" | "busy" | "certify-not-permitted" | "container-config" | "container-image" | "container-root" | "container-state" | "counter-behind" | "counter-lost" | "damaged" | "delivery-changed" | "digest-not-authorised" | "disk-changed" | "disk-cipher" | "disk-digest" | "disk-exists" | "disk-failed" | "disk-full" | "disk-header" | "disk-no-recovery" | "disk-older" | "disk-other" | "disk-read-only" | "disk-requirement" | "disk-segment" | "disk-slot" | "disk-token" | "disk-unprepared" | "disk-unproven" | "duplicate-member" | "event-quota" | "event-rate" | "evidence-replayed" | "exists" | "guest-policy-changed" | "handed-over" | "ima-not-permitted" | "ima-not-quoted" | "ima-start" | "ima-too-long" | "ima-unavailable" | "internal" | "interrupted" | "invalid-value" | "later-version" | "log-desynchronised" | "log-full" | "malformed" | "malformed-json" | "malformed-message" | "manifest-lost" | "measurement-failed" | "method-not-allowed" | "missing" | "no-app" | "no-preparation" | "no-recovery" | "no-release-key" | "no-sender" | "no-such-app" | "no-such-disk" | "no-such-path" | "no-such-process" | "no-system-unit" | "no-usable-slot" | "not-found" | "not-permitted" | "not-systemd" | "nothing-to-do" | "old-generation" | "other-app" | "other-associated-data" | "other-chip" | "other-measurement" | "other-preparation" | "other-request" | "other-sender" | "other-store-key" | "other-ticket" | "other-tpm" | "other-unit" | "other-user" | "other-vmpl" | "out-of-resources" | "pcr-mismatch" | "peer-gone" | "peer-unknown" | "platform-absent" | "platform-busy" | "platform-key-wiped" | "platform-malformed" | "platform-other-key" | "platform-refused" | "platform-stale" | "platform-timeout" | "platform-vmpl" | "preparation-expired" | "preparation-used" | "process-not-permitted" | "process-unknown" | "quota-exceeded" | "receipt-forged" | "recipients-needed" | "release-expired" | "release-older" | "release-policy" | "release-signature" | "renamed" | "rolled-back" | "root-unavailable" | "shutting-down" | "start-beyond-log" | "store-in-use" | "store-key-needed" | "successor-refused" | "tcb-below" | "throttled" | "ticket-expired" | "ticket-forged" | "ticket-unknown" | "ticket-used" | "timeout" | "too-many-connections" | "too-many-tickets" | "tpm-cleared" | "tpm-refuses" | "tpm-secret-damaged" | "tpm-secret-missing" | "tpm-timeout" | "tpm-unavailable" | "transfer-too-large" | "truncated" | "unavailable" | "unknown-member" | "unknown-parameter" | "unknown-version" | "upgrade-unfinished" | "weaker-slot" | "wrong-identity" | "wrong-key" | (string & {});
/**
 * A Container is the container that a process is in, as the agent measured it before its first
 * process ran: the log has an event of it.
 */
export interface Container {
  /** One of Engines. */
  engine: string;
  /** As the engine names it. */
  id: string;
  /** When its first process started: CLOCK_BOOTTIME in milliseconds, rounded down to 10. */
  started: number;
  /** Of its root file system, as in that event. */
  root: Uint8Array;
  /** SHA-256 of the image's configuration, as in that event; nil if the engine does not say it. */
  image?: Uint8Array;
}
/**
 * ContainerRequest names a container that is being created: none of its programs has run. The
 * agent reads itself what the container is. Of this request only the name of the engine is
 * recorded as it is.
 */
export interface ContainerRequest {
  /** "podman", "docker", "containerd" or "cri-o". */
  engine: string;
  /**
   * Id of the container: 1 to 128 letters, digits, "_", "." and "-", neither of the last two
   * first.
   */
  id: string;
  /** Process that will become its first program. */
  pid: number;
  /** Absolute path of the folder with its config.json. */
  bundle: string;
}
/** Containers is the answer of GET /v1/containers/running. */
export interface Containers {
  /** Recorded in this boot and not ended, by engine and id. */
  containers: Array<ApiContainer>;
}
/** Contract says what a blob opens on and what would lock it out. It contains no secret. */
export interface Contract {
  /** All of it, for people. */
  text: string;
  /** The blob was opened; otherwise this is what its file claims. */
  authenticated: boolean;
  /** There is no blob: what one would be sealed to now. */
  planned: boolean;
  /** Name of the app. */
  app: string;
  /** System unit of the app. */
  unit: string;
  /** User of the unit. */
  user: string;
  /** Number of the manifest that first listed the blob. */
  generation: number;
  /** Kinds of slots, the strongest first. */
  slots: Array<string>;
  /** Weakest slot of the machine. */
  weakest: string;
  /** Recovery recipients (age X25519). */
  recipients: Array<string>;
  /** Digests of which the app must have one; empty: not required. */
  digests: Array<Uint8Array>;
  /** A counter in the TPM detects an older state of the files. */
  counted: boolean;
  /** Recovered although nothing told who wrote it: an attacker may have chosen what it contains. */
  unproven: boolean;
  /** Other parties that could open it. */
  limit: string;
  /** Every party that can open it, and when. */
  openers: Array<ContractOpener>;
  /** Effect of each change. */
  changes: Array<ContractChange>;
  /** Why it does not open. */
  code?: Code;
  /** Name of a secret. */
  name?: string;
  /** The same in words. */
  reason?: string;
  /** Public half of the key that signs the blob: recovery needs it. */
  storeKey?: string;
}
/** ContractChange is the effect of one change to machine or app. */
export interface ContractChange {
  /** What happens to machine or app. */
  change: string;
  /** Whether the blob opens then. */
  opens: boolean;
  /** The recovery identity opens it then, with the store key. */
  recovery: boolean;
  /** Error if it does not open. */
  code?: Code;
  /** What else to know. */
  note?: string;
}
/** ContractOpener is a party that can open a blob. */
export interface ContractOpener {
  /** The party, in words. */
  who: string;
  /** On what that depends, in words. */
  when: string;
}
/** Covered is an interval in which the agent saw every change of an app's files. */
export interface Covered {
  /** When it began: milliseconds of the guest's clock since the kernel started. */
  since: number;
  /** Number of the record that began it. */
  record: number;
  /** How often a restart or a gap interrupted it, and it was carried on. */
  carried: number;
  /** Why a restart of the agent would end it; absent if it would go on. */
  endsWithAgent?: string;
}
/** DeliveryTicket is the answer of POST /v1/secrets/ticket. */
export interface DeliveryTicket {
  /** Message for the relying party, with fresh evidence; it is not secret. */
  ticket: Uint8Array;
  /** What names the ticket in messages and in the log of the agent. */
  id: Uint8Array;
  /** Name of the app. */
  app: string;
  /** Name of the secret. */
  name: string;
  /** Manifest digest of the app: it must have the same when the secret arrives. */
  digest: Uint8Array;
  /** Seconds that the ticket is valid. */
  validFor: number;
}
/** DeriveRequest is the body of POST /v1/keys/derive. */
export interface DeriveRequest {
  /** What the secret is for, at most 1024 bytes. */
  label: string;
  /** Bytes wanted, 1 to 1024. */
  length: number;
  /** Version of the app's root; default: the current one. */
  version?: number;
}
/** Derived is the answer of POST /v1/keys/derive: the same secret after each restart and reboot. */
export interface Derived {
  /** The derived secret. */
  secret: Secret;
  /** Version of the app's root that was used. */
  version: number;
}
/** DigestRequest is the body of POST /v1/store/digests. */
export interface DigestRequest {
  /** Name of the app. */
  app: string;
  /** What to do. */
  action: "require" | "authorize" | "withdraw" | "lift";
  /** Required for authorize and withdraw; for require, default: the one measured now. */
  digest?: Uint8Array;
}
/** DiscardRequest is the body of POST /v1/discard. */
export interface DiscardRequest {
  /** Name of the secret. */
  name: string;
}
/** Discarded is the answer of POST /v1/discard: the secret is gone for good. */
export interface Discarded {
  /** Name of the secret. */
  name: string;
}
/** Disk is one volume that the agent has the key of. */
export interface Disk {
  /** Name of the volume in crypttab. */
  name: string;
  /** Key slot of the agent. */
  slot: number;
  /** Other key slots, which open the volume without the agent. */
  recovery: Array<number>;
  /** Key slots of former keys of the agent, which agentctl disk rotate removes. */
  former: Array<number>;
  /** There is no other key slot, and root accepted that. */
  lossAcknowledged: boolean;
  /** A change of the header was begun and not ended: agentctl disk rotate ends it. */
  pending: boolean;
  /** Recovered although nothing told who wrote it: the key is not handed out. */
  unproven: boolean;
  /** Number of the manifest that first listed the record. */
  generation: number;
  /** Unit that may ask for the key. */
  unit: string;
  /** How data is encrypted. */
  cipher?: string;
  /** Why the record does not open. */
  code?: Code;
  /** Device that it was enrolled from. */
  device?: string;
  /** What is recorded of the header. */
  digest?: Uint8Array;
  /** Bits of the key of the volume, for AES in XTS mode twice those of AES. */
  keyBits?: number;
  /** The same in words. */
  reason?: string;
  /** LUKS2 UUID of the volume. */
  uuid?: string;
}
/** DiskArea is the area of one key slot. */
export interface DiskArea {
  /** Number of the key slot. */
  slot: number;
  /** SHA-256 of the area. */
  digest: Uint8Array;
}
/**
 * DiskChangeRequest is the body of POST /v1/disks/change: the header that the device is to have
 * next. Until POST /v1/disks/settle both are accepted.
 */
export interface DiskChangeRequest {
  /** Name of the volume. */
  name: string;
  /** The next header. */
  header: DiskHeader;
  /** Key slot of the agent in it. */
  slot: number;
  /** Opens it: 64 random bytes; absent: the same as now. */
  key?: Uint8Array | Secret;
}
/** DiskChecked is the answer of POST /v1/disks/check. */
export interface DiskChecked {
  /** The volume. */
  disk: Disk;
  /** Copy that is to be used, counted from 0 in the request. */
  copy: number;
  /** It is the header of a change that was begun. */
  next: boolean;
}
/** DiskEnrollRequest is the body of POST /v1/disks/enroll. */
export interface DiskEnrollRequest {
  /** Name of the volume in crypttab. */
  name: string;
  /** Path of the device. */
  device: string;
  /** The header with the key slot of the agent. */
  header: DiskHeader;
  /** That key slot. */
  slot: number;
  /** Opens it: 64 random bytes. */
  key: Uint8Array | Secret;
  /** Acknowledgement that is required if there is no other key slot. */
  loseOnHardwareChange?: boolean;
  /** Replace what is recorded under that name. */
  replace?: boolean;
}
/** DiskHeader is one copy of the LUKS2 header of a volume, as root read it from the device. */
export interface DiskHeader {
  /** Sequence number. */
  sequence: number;
  /** Bytes of the metadata area: binary header and JSON. */
  size: number;
  /** UUID of the volume. */
  uuid: string;
  /** The JSON of the header as it is, up to 12 KiB. */
  json: Uint8Array;
  /** Areas of the key slots. */
  areas: Array<DiskArea>;
  /** Label, up to 48 bytes. */
  label?: string;
  /** Subsystem, up to 48 bytes. */
  subsystem?: string;
}
/** DiskKey is the answer of POST /v1/disks/key: what root needs to add a key slot. */
export interface DiskKey {
  /** The volume. */
  disk: Disk;
  /** Copy that is to be used, counted from 0 in the request. */
  copy: number;
  /** It is the header of a change that was begun. */
  next: boolean;
  /** Opens the key slot of the agent. */
  key: Secret;
}
/** DiskName names a volume. */
export interface DiskName {
  /** Name of the volume. */
  name: string;
}
/** DiskRequest names a volume, with the copies of its header that have a right checksum. */
export interface DiskRequest {
  /** Name of the volume. */
  name: string;
  /** One or two copies, as the device has them. */
  headers: Array<DiskHeader>;
}
/** Disks is the answer of GET /v1/disks. */
export interface Disks {
  /** Enrolled volumes, by name. */
  disks: Array<Disk>;
}
/** Event is one event of the calling app. */
export interface Event {
  /** Number of the record in the log. */
  record: number;
  /** Of the record: CLOCK_BOOTTIME in milliseconds. */
  time: number;
  /** What the words are about. */
  domain: string;
  /** Container of that process; absent if there is a unit. */
  container?: EventContainer;
  /** Words; absent if there is a digest. */
  content?: Uint8Array;
  /** In place of words. */
  digest?: Uint8Array;
  /** Systemd system unit of the process that asked for it; absent if there is a container. */
  unit?: string;
}
/** EventContainer names the container that an event came from. */
export interface EventContainer {
  /** Engine of the container. */
  engine: string;
  /** That the engine gave it. */
  id: string;
}
/** EventQuota is how much of the log the events of an app have, since boot and at most. */
export interface EventQuota {
  /** Recorded. */
  events: number;
  /** Recorded at most. */
  eventsLimit: number;
  /** Of their records. */
  bytes: number;
  /** Of their records at most; less if many apps record much. */
  bytesLimit: number;
  /** Refused since the agent started, because a quota was used up or the app asked too often. */
  refused: number;
}
/**
 * EventRequest is the body of POST /v1/events: what the calling app says of itself. It has content
 * or digest, and not both.
 */
export interface EventRequest {
  /** What the words are about, 1 to 128 bytes; "agentd/" begins those of the agent. */
  domain: string;
  /** Words, 1 to 1024 bytes; each program that gets evidence reads them. */
  content?: Uint8Array;
  /** In place of words. */
  digest?: Uint8Array;
}
/** EventStatus says how much of the log events of apps have. */
export interface EventStatus {
  /** Events since boot. */
  recorded: number;
  /** Of their records. */
  bytes: number;
  /** Bytes that events of all apps together may have; the rest of the log is the agent's. */
  limit: number;
  /** Refused since the agent started, because a quota was used up or an app asked too often. */
  refused: number;
  /** Apps whose last event was refused because a quota was used up, until the next boot. */
  exhausted: number;
}
/** Events is the answer of GET /v1/events: events of the calling app since boot. */
export interface Events {
  /** Name of the declaration. */
  app: string;
  /** In the order of their records. */
  events: Array<Event>;
  quota: EventQuota;
  /** Number of the record from which to ask for more; absent if there are no more. */
  next?: number;
}
/**
 * Evidence is the whole document that a caller gives to a verifier. It is unverified: an attacker
 * can have written every part of it. Package verify checks them.
 */
export interface Evidence {
  /** Type. */
  type: "agentd/evidence/2";
  /** The exact bytes, see ParseStatement. */
  statement: Uint8Array;
  /** Of the statement in Batch.Tree. */
  inclusion: Inclusion;
  /** What was quoted for this statement. */
  batch: Snapshot;
  /** Ed25519 by AgentKey over BatchMessage, 64 bytes. */
  agentSignature: Uint8Array;
  /** Over Anchor if present, otherwise over Batch. */
  report: Report;
  /** Ed25519 public key, 32 bytes. */
  agentKey: Uint8Array;
  /** TPMT_PUBLIC of the attestation key. */
  ak: Uint8Array;
  /** What Report was made for; nil if fresh. */
  anchor?: Snapshot;
  /** X.509 DER, any order, unverified. */
  certificates?: Array<Uint8Array>;
  /** The firmware's event log as the kernel gives it; bound by the quoted PCRs alone. */
  firmwareLog?: Uint8Array;
  /**
   * The kernel's list of IMA, whole or from an index; absent when not asked for; bound by the
   * quoted PCR 10 alone.
   */
  ima?: IMA;
  /** Measurement log, whole or from an index; absent when not asked for. */
  log?: Log;
}
/**
 * EvidenceRequest is the body of POST /v1/evidence. The caller chooses neither report data nor
 * qualifying data nor its own identity: the agent does.
 */
export interface EvidenceRequest {
  /** 16 to 64 bytes, required. */
  nonce: Uint8Array;
  /** At most 256 bytes. */
  audience?: string;
  /** Whether to add the firmware's event log, if the machine has one. */
  firmwareLog?: boolean;
  /** Default "fresh". */
  freshness?: "fresh" | "anchored";
  /**
   * Whether to add the kernel's list of what it measured (IMA); for root and declared
   * applications, if PCR 10 is quoted.
   */
  ima?: boolean;
  /** With ima: first entry wanted. */
  imaStart?: number;
  /**
   * At most 1 KiB; signature by the private half of PublicKey over evidence.KeyProofMessage, with
   * what GET /v1/self says.
   */
  keyProof?: Uint8Array;
  /** Default "whole". */
  log?: "whole" | "from" | "none";
  /** With log "from": first record wanted. */
  logStart?: number;
  /** At most 8 KiB. */
  publicKey?: Uint8Array;
  /**
   * In place of publicKey and keyProof: the agent names a signing key of the calling app, and
   * proves its possession itself; on the client socket only.
   */
  signingKey?: SigningKey;
  /** At most 4 KiB. */
  userData?: Uint8Array;
}
/**
 * EvidenceStatus says whether the agent can make evidence. The other members of Status say more
 * about the causes. A program that wants to know whether the agent is ready reads this one.
 */
export interface EvidenceStatus {
  /** The next request gets fresh evidence, by what was found last. */
  ready: boolean;
  /** With which a request would be refused now. */
  code?: Code;
  /** The same in words. */
  reason?: string;
}
/** An Executable is the image that the process ran when it connected. */
export interface Executable {
  /** Kind of file. */
  state: "file" | "replaced" | "memfd" | "unreadable" | (string & {});
  /**
   * The app's manifest lists exactly this content; libraries and scripts it loads are not looked
   * at.
   */
  covered: boolean;
  /** SHA-256 of the content; nil if it could not be read. */
  digest?: Uint8Array;
  /** As /proc/PID/exe shows it, for people. */
  path?: string;
}
/** Finding is a yes or no with its reason. */
export interface Finding {
  /** The answer. */
  yes: boolean;
  /** Reason in words, for people. */
  reason: string;
}
/** GateStatus says how the gate does, which holds up programs of apps that ask for it. */
export interface GateStatus {
  /** It is connected. */
  present: boolean;
  /** Apps that ask for it. */
  asked: number;
  /** Apps that it guards, by the log. */
  guarded: number;
}
/** HandOverRequest is the body of POST /v1/upgrade/answer. */
export interface HandOverRequest {
  /** Message of the successor, at most 2.5 MiB. */
  request: Uint8Array;
}
/** HandedOver is the answer of POST /v1/upgrade/answer. */
export interface HandedOver {
  /** Message for the successor, which alone can open it. */
  answer: Uint8Array;
  /** Of the request. */
  id: Uint8Array;
  /** Blobs that go over. */
  entries: number;
  /** Blobs that do not open, and stay behind. */
  left: Array<KeptBlob>;
}
/**
 * IMA is the kernel's list of what it measured, as it shows it to programs, from entry Start on.
 * It was read after the quote, so it may go on after what the quote contains.
 */
export interface IMA {
  /** Number of the first entry here, from 0. */
  start: number;
  /** Entries, one after the other. */
  entries: Uint8Array;
}
/** An Inclusion proves that a statement is a leaf of the tree of its batch. */
export interface Inclusion {
  /** Index of the leaf, from 0. */
  index: number;
  /** RFC 6962, section 2.1.1: sibling hashes from the leaf up. */
  path?: Array<Uint8Array>;
}
/** KeptBlob is a blob that was left as it is. */
export interface KeptBlob {
  /** Name of the app. */
  app: string;
  /** "app root" or "secret". */
  kind: string;
  /** The same in words. */
  reason: string;
  /** Why it does not open. */
  code?: Code;
  /** Name of a secret. */
  name?: string;
}
/** KeyStatus is the state of the store of sealed blobs. */
export interface KeyStatus {
  /** Whether blobs can be opened. */
  state: "ok" | "degraded" | "absent" | "unknown" | (string & {});
  /** Sealed blobs that the manifest lists. */
  blobs: number;
  /** Number of the manifest. */
  generation: number;
  /** A counter in the TPM detects an older state of the files. */
  counted: boolean;
  /** Some blobs are sealed to an older TCB or another kind of slot. */
  rewrap: boolean;
  /** Files that the manifest does not list. */
  orphans: number;
  /** Blobs that were recovered although nothing told who wrote them. */
  unproven: number;
  /** Why nothing opens, if that has a code. */
  code?: Code;
  /** The same in words, and what to do. */
  reason?: string;
  /** Weakest slot of what is sealed now: "snp+tpm", "snp" or "tpm". */
  slot?: string;
  /**
   * Public half of the key that signs every blob, as "agentctl key store-key" prints it: keep it
   * with the recovery identity.
   */
  storeKey?: string;
}
/** LedgerStatus is the state of measurement log and PCR. */
export interface LedgerStatus {
  /** Number of the PCR, 0 to 23. */
  pcr: number;
  /** Log and PCR explain each other; evidence is refused while they do not. */
  synchronised: boolean;
  /** The log takes no more records until the next boot. */
  full: boolean;
  /** Number of records. */
  records: number;
  /** Size of the log. */
  bytes: number;
  head: LogHead;
  /** PCR of the events of apps, 8 to 15, if the log has a second one for them. */
  eventsPCR?: number;
  /** Size at which the log is full; absent while there is no log. */
  limit?: number;
  /** What the configuration asks for and the next boot changes. */
  pending?: string;
  /** Why not. */
  reason?: string;
}
/**
 * A Log is the measurement log as CEL-TLV, from record Start on. If Start is not 0, Previous is
 * the digest of the log head before it. A reader compares it with the head of the records that it
 * kept.
 */
export interface Log {
  /** Number of the first record here. */
  start: number;
  /** CEL-TLV records, one after the other. */
  records: Uint8Array;
  /** Digest of the head before Start; absent at 0. */
  previous?: Uint8Array;
}
/** A LogHead names one state of the measurement log. See NextLogHead. */
export interface LogHead {
  /** Records in the log. */
  count: number;
  /** Chained digest of the records; all zero if Count is 0. */
  digest: Uint8Array;
}
/** A PCR is one register and its value. */
export interface PCR {
  /** 0 to 23. */
  index: number;
  /** One digest of the bank: 20, 32, 48 or 64 bytes. */
  value: Uint8Array;
}
/** PlatformStatus is the state of the confidential-computing platform. */
export interface PlatformStatus {
  /** Whether it answers. */
  state: "ok" | "degraded" | "absent" | "unknown" | (string & {});
  /** Current wait between two reports. */
  spacingMilliseconds: number;
  /** Kind of its reports; absent if there is no platform. */
  kind?: "sev-snp" | "azure-hcl" | "sev-snp-svsm" | (string & {});
  /** Error of the last report that failed since start. */
  lastError?: string;
  /** What the machine is: sev-snp, azure, svsm, gcp or aws; absent if not known. */
  machine?: string;
  /** What is wrong. */
  reason?: string;
  /** How reports come: sev-guest, configfs, paravisor or svsm. */
  source?: string;
  /** What was found that decided machine and source. */
  why?: string;
}
/** PrepareRequest is the body of POST /v1/upgrade/prepare. */
export interface PrepareRequest {
  /** Release statement, the exact bytes that were signed; at most 64 KiB. */
  release: Uint8Array;
  /** Of the release key: 64 bytes of Ed25519, DER of ECDSA, or a file of minisign; at most 4 KiB. */
  signature: Uint8Array;
  /**
   * Seconds that the preparation is valid, at most 2592000 (30 days); the release may end it
   * sooner.
   */
  validFor: number;
}
/** PreparedUpgrade is the answer of POST /v1/upgrade/prepare: the contract of an upgrade before it. */
export interface PreparedUpgrade {
  /** Message for the successor, which is not secret. */
  offer: Uint8Array;
  /** Of the release. */
  number: number;
  /** Seconds since 1970, by the clock of this machine. */
  expires: number;
  /** Launch measurements that a successor may have, hexadecimal. */
  measurements: Array<string>;
  /** Blobs that go over. */
  entries: number;
  /** Content of these. */
  bytes: number;
  /** Blobs that do not open, and stay behind. */
  left: Array<KeptBlob>;
  /** What the upgrade does and does not. */
  contract: Array<UpgradeSentence>;
}
/** ProbeFinding is one thing that was tried on the key derivation of the platform, or on the TPM. */
export interface ProbeFinding {
  /** What was tried. */
  name: string;
  /** Whether the result is as it should be. */
  ok: boolean;
  /** Result in words. */
  text: string;
  /** What to do, if the result is not as it should be. */
  todo?: string;
}
/** Probed is the answer of POST /v1/store/probe and of POST /v1/tpm/try. */
export interface Probed {
  /** One for each thing that was tried. */
  findings: Array<ProbeFinding>;
}
/** Problem is the body of every error answer (RFC 9457), and a Go error. */
export interface Problem {
  /** URI of a page with the meaning of the code. */
  type: string;
  /** The same for each answer with this code. */
  title: string;
  /** As in the status line. */
  status: number;
  /** What programs act on. */
  code: Code;
  /** What was attempted, what was found, what to do; for people. */
  detail?: string;
  /** Byte of the body near which reading ended, from 0. */
  offset?: number;
  /** Seconds after which the same request may succeed, as in the header. */
  retryAfter?: number;
  /** JSON Pointer (RFC 6901) or name of the parameter at fault. */
  where?: string;
}
/**
 * Process is the answer of GET /v1/process: who a process of this machine is to the agent. All of
 * it is of one process, which had not ended when the answer was made.
 */
export interface Process {
  /** Number of the process. */
  pid: number;
  /** When it started: CLOCK_BOOTTIME in milliseconds. */
  started: number;
  /** Effective uid, seen from the agent's user namespace. */
  uid: number;
  /** Effective gid. */
  gid: number;
  /** Whether the log vouches for the app as its files are now. */
  measured: Finding;
  /**
   * Whether it has done so since before the first process of its unit started: measured before,
   * covered and unchanged since.
   */
  sinceStart: Finding;
  /** Declared app with this unit and user, or of this container. */
  app?: string;
  /** Measured container that the process is in. */
  container?: Container;
  /** Interval of coverage of the app; absent if none is open. */
  covered?: Covered;
  /**
   * Of what the log has of the app now: its manifest, or the root file system of the container;
   * absent unless it is measured.
   */
  digest?: Uint8Array;
  /** An observation, never proof. */
  executable?: Executable;
  /** Systemd system unit; absent if the process runs in none. */
  unit?: string;
  /** Why it runs in no unit. */
  unitReason?: string;
}
/** ProvisionedSecret is a secret that root provisioned, without its content. */
export interface ProvisionedSecret {
  /** Name of the app. */
  app: string;
  /** Name of the secret, and of the credential. */
  name: string;
  /** Size of the secret. */
  bytes: number;
  /** Number of the manifest that first listed this content. */
  generation: number;
  /** Weakest slot of the machine. */
  slot: string;
  /** Sealed to an older TCB or another kind of slot than this machine has now. */
  rewrap: boolean;
  /** Recovered although nothing told who wrote it: an attacker may have chosen what it contains. */
  unproven: boolean;
}
/** PublicKey is the answer of GET /v1/keys/public. */
export interface PublicKey {
  /** Public half of the key, DER SubjectPublicKeyInfo. */
  publicKey: Uint8Array;
  /** Version of the app's root that was used. */
  version: number;
}
/** A Quote is the answer to a TPM2_Quote, exactly as the TPM produced it. */
export interface Quote {
  /** TPMS_ATTEST (TPM 2.0 Part 2, section 10.12.12). */
  attest: Uint8Array;
  /** TPMT_SIGNATURE (TPM 2.0 Part 2, section 11.3.4). */
  signature: Uint8Array;
}
/** Reading is how far the agent is with the files of an app. */
export interface Reading {
  /** Seconds that it has taken. */
  since: number;
  /** Hashed, or known already. */
  bytes: number;
  /** Bytes of the files found so far, or of the reading before if that was more. */
  of: number;
  /** The file system of the path does not answer: the app is measured when it does. */
  stuck: boolean;
  /** Looked at last. */
  path?: string;
}
/** ReceiveRequest is the body of POST /v1/secrets/receive. */
export interface ReceiveRequest {
  /** Message of the relying party: the secret, encrypted to the key of a ticket. */
  sealed: Uint8Array;
}
/** ReceivedSecret is the answer of POST /v1/secrets/receive: the secret is stored. */
export interface ReceivedSecret {
  /** Message for the relying party; it is not secret. */
  receipt: Uint8Array;
  /** Of the ticket. */
  id: Uint8Array;
  /** Name of the app. */
  app: string;
  /** Name of the secret. */
  name: string;
  /** It replaced one of that name. */
  replaced: boolean;
  /** The same message was received before: this is its receipt, and nothing was stored. */
  again: boolean;
}
/** RecipientsRequest is the body of POST /v1/store/recipients. */
export interface RecipientsRequest {
  /** Recovery recipients (age X25519). */
  recipients: Array<string>;
  /** Acknowledgement that is required without recipients. */
  loseOnHardwareChange?: boolean;
}
/** RecordedEvent is the answer of POST /v1/events: the event is in the log and in the PCR. */
export interface RecordedEvent {
  /** Name of the declaration, as the log names it. */
  app: string;
  /** Number of the record in the log. */
  record: number;
  /** Of the record: CLOCK_BOOTTIME in milliseconds. */
  time: number;
  /** That rules of a policy compare: the digest, or SHA-256 of the content. */
  value: Uint8Array;
}
/**
 * RecoverRequest is the body of POST /v1/store/recover. Without identities and store key, a store
 * of which only the manifest is lost is salvaged.
 */
export interface RecoverRequest {
  /** Recover a state that does not match the TPM's counter. */
  acceptRollback?: boolean;
  /** A file as age-keygen writes it. */
  identities?: Uint8Array | Secret;
  /** Acknowledgement that is required without recipients. */
  loseOnHardwareChange?: boolean;
  /** Recovery recipients (age X25519) from now on; the files are not asked. */
  recipients?: Array<string>;
  /**
   * Public half of the store key, as "agentctl key store-key" prints it, which must have signed
   * what is recovered; required with identities.
   */
  storeKey?: string;
  /**
   * In place of storeKey: take over what an attacker may have written; every app root gets a new
   * version.
   */
  trustUnknownWriterOfThisDisk?: boolean;
}
/** Recovered says what a recovery rests on. */
export interface Recovered {
  /** The whole store was recovered, not single blobs of one that was open. */
  locked: boolean;
  /** Number of the recovered manifest; 0 if it was lost. */
  generation: number;
  /** The TPM's counter says that nothing newer was written; otherwise the age is unknown. */
  newest: boolean;
  /** Recovery recipients that the files named. */
  recipientsBefore: Array<string>;
  /** Recovery recipients from now on. */
  recipients: Array<string>;
  /** Nothing told who wrote some of it: an attacker may have chosen what it contains. */
  unproven: boolean;
  /** App roots that got a new version because of that. */
  rotated: Array<RootVersion>;
  /** Stored secrets of which nothing told who wrote them. */
  secrets: Array<StoredName>;
}
/** ReleaseKeyRequest is the body of POST /v1/upgrade/release-key. */
export interface ReleaseKeyRequest {
  /** File of a public key: PEM (Ed25519, ECDSA over P-256 or P-384) or minisign; at most 4 KiB. */
  key: Uint8Array;
}
/** ReloadProblem is a declaration that was refused. */
export interface ReloadProblem {
  /** File of the declaration. */
  source: string;
  /** With line and column if known. */
  reason: string;
}
/** Reloaded is the answer of POST /v1/reload. Declarations without an error are in force. */
export interface Reloaded {
  apps: AppCounts;
  /** Declarations that were refused. */
  errors?: Array<ReloadProblem>;
  /** Apps whose files are still being read, in order. */
  measuring?: Array<string>;
}
/** RemoveSecretRequest is the body of POST /v1/secrets/remove. */
export interface RemoveSecretRequest {
  /** Name of the app. */
  app: string;
  /** Name of the secret. */
  name: string;
}
/**
 * Replaced is the answer of POST /v1/ak/replace: a new AK is in place of a stored one that this
 * TPM does not load. Nothing is deleted.
 */
export interface Replaced {
  /** TPM name of the AK from now on: verifiers have to enrol it. */
  new: Uint8Array;
  /** File with the old AK as it was stored. */
  backup: string;
  /** Why the old one does not load. */
  reason: string;
  /** TPM name of the AK that was stored; absent if its file cannot be read. */
  old?: Uint8Array;
}
/** A Report is a signed statement of the platform, exactly as the firmware produced it. */
export interface Report {
  /** Platform that signed the report. */
  kind: "sev-snp" | "azure-hcl" | "sev-snp-svsm" | (string & {});
  /** The report. */
  bytes: Uint8Array;
}
/** RetireRequest is the body of POST /v1/store/retire. */
export interface RetireRequest {
  /** Name of the app. */
  app: string;
  /** A version other than the current one. */
  version: number;
}
/** Rewritten is the answer of calls that seal the whole store again. */
export interface Rewritten {
  /** Number of blobs sealed again. */
  written: number;
  /** Blobs that did not open and were left as they are. */
  kept: Array<KeptBlob>;
  /** Public half of the key that signs every blob from now on. */
  storeKey: string;
  /** The store key is another than before: keep it with the recovery identity. */
  newStoreKey: boolean;
  /** After a recovery: what it rests on. */
  recovered?: Recovered;
}
/**
 * RootVersion is the answer of POST /v1/store/rotate and /v1/store/retire: a version of the app's
 * root that is now in use, or gone.
 */
export interface RootVersion {
  /** Name of the app. */
  app: string;
  /** Version of the root. */
  version: number;
}
/** RotateRequest is the body of POST /v1/store/rotate. */
export interface RotateRequest {
  /** Name of the app. */
  app: string;
}
/** SealRequest is the body of POST /v1/seal. */
export interface SealRequest {
  /** Name that the app chooses, 1 to 256 bytes. */
  name: string;
  /** The secret, 1 byte to 64 KiB. */
  data: Uint8Array | Secret;
  /** Required again to unseal, at most 64 KiB, of which only a digest is kept. */
  associatedData?: Uint8Array;
  /** From now on only the app as it is measured now gets its keys, and digests authorised later. */
  requireDigest?: boolean;
}
/** Sealed is the answer of POST /v1/seal: the secret is on disk. */
export interface Sealed {
  /** Name of the secret. */
  name: string;
  /** Size of the secret. */
  bytes: number;
}
/** SealedBlob is one sealed blob as the manifest lists it. */
export interface SealedBlob {
  /** Name of the app. */
  app: string;
  /** "app root" or "secret". */
  kind: string;
  /** Number of the manifest that first listed the blob. */
  generation: number;
  /** Size of its file. */
  bytes: number;
  /** Weakest slot of the machine. */
  slot: string;
  /** Sealed to an older TCB or another kind of slot than this machine has now. */
  rewrap: boolean;
  /** Recovered although nothing told who wrote it: an attacker may have chosen what it contains. */
  unproven: boolean;
  /** Name of a secret. */
  name?: string;
  /** TCB at sealing, hexadecimal, in the order of the report. */
  tcb?: string;
}
/** SecretRequest is the body of POST /v1/secrets/put and /v1/secrets/rotate. */
export interface SecretRequest {
  /** Name of the app. */
  app: string;
  /** Name of the secret: 1 to 200 letters, digits and _.-+@. */
  name: string;
  /** The secret, 1 byte to 64 KiB. */
  data: Uint8Array | Secret;
}
/** Secrets is the answer of GET /v1/secrets. */
export interface Secrets {
  /** Ascending by app and name. */
  secrets: Array<ProvisionedSecret>;
}
/**
 * Self is the answer of GET /v1/self: who the caller is to the agent. It has what the statement of
 * an evidence would say, with the reasons.
 */
export interface Self {
  /** Effective uid at connect, seen from the agent's user namespace. */
  uid: number;
  /** Effective gid at connect. */
  gid: number;
  /** Number of the process, seen from the agent's namespace. */
  pid: number;
  /** When the process started: CLOCK_BOOTTIME in milliseconds. */
  started: number;
  /** Ed25519 public key of the running agent, 32 bytes; a proof of possession is for this agent. */
  agentKey: Uint8Array;
  /** How connection and process were tied. */
  method: "pidfd" | "start-time" | (string & {});
  /** Whether the log vouches for the app. */
  measured: Finding;
  /** Whether the app may have keys. */
  keys: Finding;
  /** Declared app with this unit and user. */
  app?: string;
  /** Measured container that the process is in. */
  container?: Container;
  /** Its interval of coverage; absent if none is open. */
  covered?: Covered;
  /** An observation, never proof. */
  executable?: Executable;
  /** Systemd system unit; absent if the caller runs in none. */
  unit?: string;
  /** Why it runs in no unit. */
  unitReason?: string;
}
/** SignRequest is the body of POST /v1/sign. It has exactly one of message and digest. */
export interface SignRequest {
  /** What the key is for, 1 to 1024 bytes. */
  label: string;
  /** "ed25519", "ecdsa-p256", "ecdsa-p384" or "tpm-ecdsa-p256". */
  algorithm: "ed25519" | "ecdsa-p256" | "ecdsa-p384" | "tpm-ecdsa-p256";
  /** Its digest, for ECDSA: SHA-256 with P-256, SHA-384 with P-384. */
  digest?: Uint8Array;
  /** What is signed, 1 byte to 64 KiB. */
  message?: Uint8Array;
  /** Version of the app's root; default: the current one. */
  version?: number;
}
/** Signed is the answer of POST /v1/sign. */
export interface Signed {
  /** Ed25519: 64 bytes; ECDSA: DER. */
  signature: Uint8Array;
  /** Public half of the key, DER SubjectPublicKeyInfo. */
  publicKey: Uint8Array;
  /** Version of the app's root that was used. */
  version: number;
}
/** SigningKey names a signing key of the calling app. */
export interface SigningKey {
  /** What the key is for, 1 to 1024 bytes. */
  label: string;
  /** "ed25519", "ecdsa-p256", "ecdsa-p384" or "tpm-ecdsa-p256". */
  algorithm: "ed25519" | "ecdsa-p256" | "ecdsa-p384" | "tpm-ecdsa-p256" | (string & {});
  /** Version of the app's root; default: the current one. */
  version?: number;
}
/**
 * A Snapshot is one batch: its tree, the quote over it, the values of the quoted PCRs and the log
 * head. All are of one moment: the agent takes them while nothing is measured.
 */
export interface Snapshot {
  tree: TreeHead;
  /** When the quote was asked for: CLOCK_BOOTTIME of the guest in milliseconds. */
  time: number;
  logHead: LogHead;
  quote: Quote;
  /** Banks in the order of the quote's selection. */
  pcrs: Array<Bank>;
}
/**
 * A Statement is what one caller asked the agent to attest. The agent encodes it once, as JSON.
 * From then on only these exact bytes are hashed and carried.
 */
export interface Statement {
  /** StatementType. */
  type: "agentd/statement/2";
  /** 16 to 64 bytes, chosen by the verifier. */
  nonce: Uint8Array;
  /** What the caller asked for. */
  freshness: "fresh" | "anchored" | (string & {});
  /** 16 to 64 random bytes: hashes do not show what others of the batch asked for. */
  salt: Uint8Array;
  /** The process that asked, as the agent established it. */
  caller: Caller;
  /** Name of the verifier, at most 256 bytes; another verifier refuses it. */
  audience?: string;
  /** Signature by the private half of PublicKey, up to 1 KiB; nil if the caller only names the key. */
  keyProof?: Uint8Array;
  /** Up to 8 KiB, opaque to the agent; DER SubjectPublicKeyInfo by custom. */
  publicKey?: Uint8Array;
  /** Up to 4 KiB, opaque to the agent. */
  userData?: Uint8Array;
}
/** Status is the answer of GET /v1/status. */
export interface Status {
  /** Version of the agent. */
  version: string;
  /** Whether the next request for evidence gets some. */
  evidence: EvidenceStatus;
  tpm: TPMStatus;
  platform: PlatformStatus;
  ledger: LedgerStatus;
  apps: AppCounts;
  events: EventStatus;
  watch: WatchStatus;
  keys: KeyStatus;
  /** Work since the agent started. */
  batches: BatchCounts;
  /** Ed25519 public key of this run, 32 bytes. */
  agentKey?: Uint8Array;
  /** TPM name of the AK: algorithm and digest; absent while there is no AK. */
  akName?: Uint8Array;
  /** Absent before the first report. */
  anchor?: AnchorStatus;
  /** Absent if no app asks for the gate, and none is there. */
  gate?: GateStatus;
}
/** Store is the answer of GET /v1/store. */
export interface Store {
  status: KeyStatus;
  /** Recovery recipients, from the authenticated manifest. */
  recipients: Array<string>;
  /** The configuration names other recipients, which are not used. */
  differ: boolean;
  /** Blobs that the manifest lists. */
  blobs: Array<SealedBlob>;
}
/** StoredName names a stored secret. */
export interface StoredName {
  /** Name of the app. */
  app: string;
  /** Name of the secret. */
  name: string;
}
/** SuccessorMessage is the answer of POST /v1/upgrade/request. */
export interface SuccessorMessage {
  /** Message for the old agent, with fresh evidence; it is not secret. */
  request: Uint8Array;
  /** What names this successor: 32 bytes, the same until it gets another offer. */
  id: Uint8Array;
}
/** SuccessorRequest is the body of POST /v1/upgrade/request. */
export interface SuccessorRequest {
  /** Message of the old agent. */
  offer: Uint8Array;
}
/** TPMStatus is the state of the TPM. */
export interface TPMStatus {
  /** Whether it answers. */
  state: "ok" | "degraded" | "absent" | "unknown" | (string & {});
  /** Last failure, if a command repairs it. */
  code?: Code;
  /** The same in words, and what to do. */
  reason?: string;
}
/**
 * TicketRequest is the body of POST /v1/secrets/ticket. It has exactly one of sender and
 * anySender.
 */
export interface TicketRequest {
  /** Name of the app that the secret is for. */
  app: string;
  /** Name of the secret: 1 to 200 letters, digits and _.-+@. */
  name: string;
  /** Of the relying party, 32 bytes. */
  challenge: Uint8Array;
  /** Seconds that the ticket is valid, at most 86400 (a day). */
  validFor: number;
  /** Any party that has the ticket may choose the secret: only the receipt tells the relying party. */
  anySender?: boolean;
  /** The secret replaces the one of that name; otherwise there must be none. */
  replace?: boolean;
  /** Ed25519 public key, 32 bytes, whose private half must sign the encrypted secret. */
  sender?: Uint8Array;
}
/**
 * A TreeHead names one Merkle tree by its root and its number of leaves. Every commitment takes
 * both, since a root alone is also the root of trees of other shapes.
 */
export interface TreeHead {
  /** RFC 6962, section 2.1, with SHA-256. */
  root: Uint8Array;
  /** Statements, 1 to MaxBatch. */
  size: number;
}
/** UnsealRequest is the body of POST /v1/unseal. */
export interface UnsealRequest {
  /** Name of the secret. */
  name: string;
  /** The same as at sealing. */
  associatedData?: Uint8Array;
}
/** Unsealed is the answer of POST /v1/unseal. */
export interface Unsealed {
  /** The secret. */
  data: Secret;
}
/** UpgradeSentence says one thing about an upgrade. */
export interface UpgradeSentence {
  /** What it is about. */
  about: string;
  /** For people. */
  text: string;
}
/** UpgradeStatus is the answer of GET /v1/upgrade and of calls that end an upgrade. */
export interface UpgradeStatus {
  /** How far the upgrade is. */
  state: "none" | "prepared" | "answered" | "asked" | "accepted" | "replaced" | (string & {});
  /** A recovery could not tell who wrote the release key, so it is not used. */
  unproven: boolean;
  /** Of the release that this store came from; 0: from none. */
  number: number;
  /** All of it in words, and what to do next. */
  text: string;
  /** Why the store does not open. */
  code?: Code;
  /** When the preparation ends: seconds since 1970, by the clock of this machine. */
  expires?: number;
  /** Number of the release that is prepared or was handed over to. */
  preparing?: number;
  /** That signs releases: agentd-release-key: and a SubjectPublicKeyInfo in hexadecimal. */
  releaseKey?: string;
  /** Id of the request that was answered here, or accepted. */
  request?: Uint8Array;
}
/**
 * WatchStatus says whether changes of the files of apps are noticed as they happen. While they are
 * not, the agent looks at all files every 30 seconds.
 */
export interface WatchStatus {
  /** Ok, or degraded. */
  state: "ok" | "degraded" | "absent" | "unknown" | (string & {});
  /** Why it is degraded. */
  reason?: string;
}
