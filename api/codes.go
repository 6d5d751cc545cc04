// SPDX-License-Identifier: Apache-2.0

package api

import (
	"slices"
	"strings"
)

// Code names a kind of failure. Codes are stable: programs may act on them. A Code is
// an error, so that errors.Is(err, api.CodeBusy) reports whether err has that code.
type Code string

// Error returns the code itself.
func (c Code) Error() string { return string(c) }

// Codes of the request.
const (
	CodeMalformed        Code = "malformed-json"
	CodeDuplicateMember  Code = "duplicate-member"
	CodeUnknownMember    Code = "unknown-member"
	CodeInvalidValue     Code = "invalid-value"
	CodeUnknownParameter Code = "unknown-parameter"
	CodeTooLarge         Code = "body-too-large"
	CodeBodyTimeout      Code = "body-timeout"
	CodeNoSuchPath       Code = "no-such-path"
	CodeMethod           Code = "method-not-allowed"
	CodeStartBeyondLog   Code = "start-beyond-log"
	CodeNoSuchApp        Code = "no-such-app"
	CodeNoSuchProcess    Code = "no-such-process"
	CodeProcessUnknown   Code = "process-unknown"
	CodeBadKeyProof      Code = "bad-key-proof"
	CodeIMANotQuoted     Code = "ima-not-quoted"
	CodeIMATooLong       Code = "ima-too-long"
	CodeIMAStart         Code = "ima-start"
)

// Codes of the caller, and of how much it asks for.
const (
	CodePeerGone     Code = "peer-gone"
	CodePeerUnknown  Code = "peer-unknown"
	CodeNotPermitted Code = "not-permitted"
	CodeThrottled    Code = "throttled"
	CodeBusy         Code = "busy"
	CodeConnections  Code = "too-many-connections"
	CodeShuttingDown Code = "shutting-down"

	CodeIMANotPermitted     Code = "ima-not-permitted"
	CodeProcessNotPermitted Code = "process-not-permitted"
	CodeCertifyNotPermitted Code = "certify-not-permitted"
)

// Codes of the agent and of the devices that it needs.
const (
	CodeDesynchronised    Code = "log-desynchronised"
	CodePCRMismatch       Code = "pcr-mismatch"
	CodeLogFull           Code = "log-full"
	CodeTPM               Code = "tpm-unavailable"
	CodeTPMRefuses        Code = "tpm-refuses"
	CodeAKUnusable        Code = "ak-unusable"
	CodeTPMTimeout        Code = "tpm-timeout"
	CodePlatformAbsent    Code = "platform-absent"
	CodePlatformBusy      Code = "platform-busy"
	CodePlatformTimeout   Code = "platform-timeout"
	CodePlatformKeyWiped  Code = "platform-key-wiped"
	CodePlatformVMPL      Code = "platform-vmpl"
	CodePlatformRefused   Code = "platform-refused"
	CodePlatformMalformed Code = "platform-malformed"
	CodePlatformStale     Code = "platform-stale"
	CodePlatformOtherKey  Code = "platform-other-key"
	CodeMeasureFailed     Code = "measurement-failed"
	CodeBadDeclaration    Code = "bad-declaration"
	CodeActivation        Code = "activation-failed"
	CodeDiskFull          Code = "disk-full"
	CodeDiskReadOnly      Code = "disk-read-only"
	CodeDiskFailed        Code = "disk-failed"
	CodeResources         Code = "out-of-resources"
	CodeLaterVersion      Code = "later-version"
	CodeIMAUnavailable    Code = "ima-unavailable"
	CodeTimeout           Code = "timeout"
	CodeUnavailable       Code = "unavailable"
	CodeInternal          Code = "internal"
)

// Codes of keys, sealed secrets and events: the caller's right to them, the state of the store, and
// how much an app may record.
const (
	CodeNoSystemUnit        Code = "no-system-unit"
	CodeNoApp               Code = "no-app"
	CodeNotSystemd          Code = "not-systemd"
	CodeOtherUnit           Code = "other-unit"
	CodeOtherApp            Code = "other-app"
	CodeOtherUser           Code = "other-user"
	CodeDigestNotAuthorised Code = "digest-not-authorised"
	CodeOtherAssociatedData Code = "other-associated-data"
	CodeNotFound            Code = "not-found"
	CodeExists              Code = "exists"
	CodeQuotaExceeded       Code = "quota-exceeded"
	CodeNoRecovery          Code = "no-recovery"
	CodeRootUnavailable     Code = "root-unavailable"
	CodeBadDerivedKey       Code = "bad-derived-key"
	CodeInterrupted         Code = "interrupted"
	CodeNothingToDo         Code = "nothing-to-do"
	CodeEventQuota          Code = "event-quota"
	CodeEventRate           Code = "event-rate"
	CodeStoreKeyNeeded      Code = "store-key-needed"
	CodeRecipientsNeeded    Code = "recipients-needed"
)

// Codes of an upgrade to another launch measurement: docs/upgrades.md. The first is for all messages
// between machines.
const (
	CodeMalformedMessage   Code = "malformed-message"
	CodeNoReleaseKey       Code = "no-release-key"
	CodeReleaseSignature   Code = "release-signature"
	CodeReleaseOlder       Code = "release-older"
	CodeReleaseExpired     Code = "release-expired"
	CodeReleasePolicy      Code = "release-policy"
	CodeNoPreparation      Code = "no-preparation"
	CodeOtherPreparation   Code = "other-preparation"
	CodePreparationExpired Code = "preparation-expired"
	CodePreparationUsed    Code = "preparation-used"
	CodeEvidenceReplayed   Code = "evidence-replayed"
	CodeSuccessorRefused   Code = "successor-refused"
	CodeHandedOver         Code = "handed-over"
	CodeOtherRequest       Code = "other-request"
	CodeStoreInUse         Code = "store-in-use"
	CodeTransferTooLarge   Code = "transfer-too-large"
	CodeUpgradeUnfinished  Code = "upgrade-unfinished"
)

// Codes of a secret that a relying party delivers: docs/delivery.md. The last three are those of
// the relying party's side.
const (
	CodeTicketUnknown   Code = "ticket-unknown"
	CodeTicketExpired   Code = "ticket-expired"
	CodeTicketUsed      Code = "ticket-used"
	CodeTooManyTickets  Code = "too-many-tickets"
	CodeDeliveryChanged Code = "delivery-changed"
	CodeOtherSender     Code = "other-sender"
	CodeAppChanged      Code = "app-changed"
	CodeOtherTicket     Code = "other-ticket"
	CodeTicketForged    Code = "ticket-forged"
	CodeReceiptForged   Code = "receipt-forged"
)

// Codes of a sealed blob that does not open: the machine does not have the key, the
// file is damaged, or an older state of the store was put back. What a code of the first
// kind says is an explanation, from what the report says now and said at sealing. What
// enforces it is the key.
const (
	CodeOtherChip          Code = "other-chip"
	CodeOtherMeasurement   Code = "other-measurement"
	CodeGuestPolicyChanged Code = "guest-policy-changed"
	CodeOtherVMPL          Code = "other-vmpl"
	CodeTCBBelow           Code = "tcb-below"
	CodeWrongKey           Code = "wrong-key"
	CodeTPMCleared         Code = "tpm-cleared"
	CodeOtherTPM           Code = "other-tpm"
	CodeTPMSecretMissing   Code = "tpm-secret-missing"
	CodeTPMSecretDamaged   Code = "tpm-secret-damaged"
	CodeNoUsableSlot       Code = "no-usable-slot"
	CodeWrongIdentity      Code = "wrong-identity"
	CodeTruncated          Code = "truncated"
	CodeDamaged            Code = "damaged"
	CodeMalformedBlob      Code = "malformed"
	CodeUnknownVersion     Code = "unknown-version"
	CodeAltered            Code = "altered"
	CodeRenamed            Code = "renamed"
	CodeMissing            Code = "missing"
	CodeOldGeneration      Code = "old-generation"
	CodeRolledBack         Code = "rolled-back"
	CodeCounterBehind      Code = "counter-behind"
	CodeCounterLost        Code = "counter-lost"
	CodeManifestLost       Code = "manifest-lost"
	CodeWeakerSlot         Code = "weaker-slot"
	CodeNoSender           Code = "no-sender"
	CodeOtherStoreKey      Code = "other-store-key"
	CodeBadSignature       Code = "bad-signature"
)

// Codes of a volume that the agent has the key of. None of them hands the key out.
const (
	CodeDiskHeader      Code = "disk-header"
	CodeDiskCipher      Code = "disk-cipher"
	CodeDiskSegment     Code = "disk-segment"
	CodeDiskSlot        Code = "disk-slot"
	CodeDiskDigest      Code = "disk-digest"
	CodeDiskToken       Code = "disk-token"
	CodeDiskRequirement Code = "disk-requirement"
	CodeDiskOther       Code = "disk-other"
	CodeDiskOlder       Code = "disk-older"
	CodeDiskChanged     Code = "disk-changed"
	CodeDiskUnprepared  Code = "disk-unprepared"
	CodeDiskUnproven    Code = "disk-unproven"
	CodeDiskNoRecovery  Code = "disk-no-recovery"
	CodeNoSuchDisk      Code = "no-such-disk"
	CodeDiskExists      Code = "disk-exists"
)

// Codes of a container that is not measured, so that it does not start.
const (
	CodeContainerState  Code = "container-state"
	CodeContainerConfig Code = "container-config"
	CodeContainerRoot   Code = "container-root"
	CodeContainerImage  Code = "container-image"
)

// CodeInfo is what is known about a code.
type CodeInfo struct {
	Code    Code
	Status  int    // HTTP status of the answer
	Exit    int    // exit code of agentctl
	Title   string // short, the same for each answer with this code
	Meaning string // one sentence: what happened
	Hint    string // what to do next, for people
}

// Exit codes of agentctl.
const (
	exitMisuse       = 1 // the request is at fault, or the failure has no exit code of its own
	exitForged       = 2 // a signature or binding is broken, as of "agentctl verify"
	exitUnavailable  = 6 // agent or device not available
	exitNotPermitted = 7 // not allowed to this caller
	exitSealed       = 8 // a sealed blob cannot be opened
)

// Hints that several codes share.
const (
	hintWait    = "try again in a few seconds; `retryAfter` says how many"
	hintReboot  = "reboot the machine"
	hintRestore = "put the file back from a backup; nothing was deleted. If only the manifest is at fault, root can salvage what this machine opens itself: `agentctl key recover --recipient AGE`, better with `--store-key KEY`"
	hintAccept  = "; root can accept it: `agentctl key accept-rollback`"
	hintForged  = "another party may have written the file: find out who wrote this disk, and put the files back from a backup; nothing was deleted"
)

// hintDisk is the hint of a header that is refused.
const hintDisk = "find out who wrote this disk: the host can write to it at any time. Put the header back from a backup (`cryptsetup luksHeaderRestore`), or, if you changed it yourself, enroll the volume again: `agentctl disk enroll DEVICE --name NAME --key-file FILE --replace`"

// hintClaim returns the hint of a code that only the files explain. An attacker who writes
// the disk chooses that explanation, so what to check comes first.
func hintClaim(check string) string {
	return check + ". Only if so, root can recover what the store key signed: `agentctl key recover --identity FILE --store-key KEY --recipient AGE`, with the key that you kept; nothing was deleted"
}

// codes is the one table of codes: status, exit code, title, meaning and hint. Server,
// client, agentctl, openapi.json and docs/api.md have them from here.
var codes = []CodeInfo{
	{CodeMalformed, 400, exitMisuse, "Body is not one JSON value", "The body is not exactly one JSON value in UTF-8.", "send one JSON object and nothing after it; `offset` says where reading ended"},
	{CodeDuplicateMember, 400, exitMisuse, "Member occurs twice", "A member occurs twice.", "send it once"},
	{CodeUnknownMember, 400, exitMisuse, "Member is not known", "A member is not known, or is spelled in another case.", "check the spelling, upper and lower case included; an older agent may not know a newer member"},
	{CodeInvalidValue, 400, exitMisuse, "Value is not allowed", "A member or parameter has a type, size or word that is not allowed.", "correct the member or parameter that the error names"},
	{CodeUnknownParameter, 400, exitMisuse, "Query parameter is not known", "A query parameter is not known or occurs twice.", "use only the parameters that the error lists"},
	{CodeTooLarge, 413, exitMisuse, "Body is too long", "The body is longer than the endpoint reads.", "the table of endpoints has the limit"},
	{CodeBodyTimeout, 408, exitMisuse, "Body did not arrive", "The body did not arrive in time.", "send the body at once"},
	{CodeNoSuchPath, 404, exitMisuse, "No such path", "Nothing is served at this path.", "see the table of endpoints"},
	{CodeMethod, 405, exitMisuse, "Method is not allowed here", "The path is served, but not with this method.", "the header `Allow` lists the methods"},
	{CodeStartBeyondLog, 400, exitMisuse, "Log has no such record", "The log does not have that record yet.", "`GET /v1/status` says how many records there are; a log that became shorter belongs to another boot"},
	{CodeNoSuchApp, 404, exitMisuse, "No such app", "No app of that name is declared.", "`agentctl app list` lists the declared apps; after a change run `agentctl app reload`"},
	{CodeNoSuchProcess, 404, exitMisuse, "No such process", "No process has that number, or it ended while the agent looked at it.", "ask about a process that runs, by the number that it has on this machine"},
	{CodeProcessUnknown, 409, exitUnavailable, "Process could not be identified", "The agent could not establish who the process is.", "the detail says what the kernel did not report"},
	{CodeBadKeyProof, 400, exitMisuse, "Key does not prove its possession", "`keyProof` is not a signature by `publicKey` over this request of this process to this agent, or no such proof can be made with a key of this kind.", "ask `GET /v1/self` again, sign what it says now with the private half of the key, and send that from the same process; the agent's key changes when it is started again"},
	{CodeIMANotQuoted, 409, exitUnavailable, "PCR 10 is not quoted", "The kernel's list of IMA was asked for, and the agent does not quote PCR 10, whose value alone binds the list.", "add PCR 10 to `pcrs` in the table `[tpm]` of /etc/agentd/config.toml, such as `sha256:0-15`, and restart the agent"},
	{CodeIMATooLong, 409, exitMisuse, "List of IMA is too long for evidence", "What follows the asked entry in the kernel's list of IMA is more than 8 MiB.", "ask from a later entry, which the detail names (agentctl: `--ima-from`); the verifier must know the entries before it: root copies the list once, for `agentctl verify --ima-list FILE --save-log FILE`"},
	{CodeIMAStart, 400, exitMisuse, "List of IMA has no such entry", "The kernel's list of IMA does not have that entry yet.", "a list that became shorter belongs to another boot: ask for the whole list"},

	{CodePeerGone, 403, exitNotPermitted, "Process that connected has ended", "The process that connected has ended.", "connect from the process that asks"},
	{CodePeerUnknown, 403, exitNotPermitted, "Caller could not be identified", "The agent could not establish who connected.", "run it as an ordinary process on this machine; the detail says what the kernel did not report"},
	{CodeNotPermitted, 403, exitNotPermitted, "Not permitted on this socket", "The endpoint is served on the other socket, or this user may not use the admin socket.", "administration is for root, on the admin socket (agentctl: `--admin`); keys and secrets are for applications, on the client socket (agentctl: `--socket`)"},
	{CodeThrottled, 429, exitUnavailable, "Too many requests of this user", "This user asks too often.", hintWait},
	{CodeBusy, 503, exitUnavailable, "Too many requests are waiting", "Too many requests are waiting.", hintWait},
	{CodeConnections, 503, exitUnavailable, "Too many connections", "Too many connections are open.", "reuse connections"},
	{CodeShuttingDown, 503, exitUnavailable, "Agent is stopping", "The agent is stopping; the next one will answer.", "try again"},
	{CodeProcessNotPermitted, 403, exitNotPermitted, "Not permitted to ask about other processes", "The agent says who another process is to root, on the admin socket, and to the units that `processes.askers` names. They must know processes by the same numbers as the agent.", "ask as root on the admin socket, or name the unit that asks in `askers` of the table `[processes]` of /etc/agentd/config.toml and restart the agent; run it without a pid namespace of its own"},
	{CodeCertifyNotPermitted, 403, exitNotPermitted, "Not permitted to have keys certified", "The attestation key certifies keys only of the apps that `keys.certify_apps` names: a relying party that knows only that key does not learn which app asked.", "name the app in `certify_apps` of the table `[keys]` of /etc/agentd/config.toml and restart the agent"},
	{CodeIMANotPermitted, 403, exitNotPermitted, "List of IMA is not for this caller", "The kernel shows its list of IMA, with the path of each file that was used, to root alone. The agent hands it to root and to declared applications.", "ask as root, or from the unit of a declared application: `agentctl app add UNIT` declares one"},

	{CodeDesynchronised, 503, exitUnavailable, "Log and PCR do not match", "Log and PCR do not explain each other. Only a boot repairs that.", hintReboot + "; `agentctl status` says what does not match"},
	{CodePCRMismatch, 503, exitUnavailable, "Log does not explain the quoted PCR values", "The TPM quoted values that the log does not explain: something else extended the PCR, or the TPM lies.", "find out what else extends the PCR, then reboot the machine"},
	{CodeLogFull, 507, exitUnavailable, "Measurement log is full", "The log takes no more records until the next boot.", hintReboot + "; declare an app that changes all the time with fewer files"},
	{CodeTPM, 503, exitUnavailable, "TPM is not available", "There is no TPM, or it fails, or its quote is not for what was asked.", "if waiting may help, `retryAfter` says how long; `agentctl doctor` tries the TPM and names the cause"},
	{CodeTPMRefuses, 503, exitUnavailable, "TPM refuses in the state that it is in", "The TPM works and refuses: an authorization is set, an algorithm is missing, or its NV memory is full.", "the error names the cause and the command that helps; after that run `systemctl restart agentd`"},
	{CodeAKUnusable, 503, exitUnavailable, "Attestation key does not load in this TPM", "The stored attestation key does not load: the TPM was cleared or replaced, or the key's file is damaged.", "bring the TPM or the file back, or have root accept a new key: `agentctl key replace-ak` keeps the old one; then `agentctl key recover --identity FILE --store-key KEY --recipient AGE` opens what was sealed and signed"},
	{CodeTPMTimeout, 504, exitUnavailable, "TPM did not answer", "The TPM did not answer in time.", "try again; the agent opens the TPM again"},
	{CodePlatformAbsent, 503, exitUnavailable, "No report device", "This machine is not a confidential VM, or the agent may not open its report device.", "check that this is an SEV-SNP guest with the sev-guest driver: `agentctl doctor` looks for it"},
	{CodePlatformBusy, 503, exitUnavailable, "Reports are throttled", "Host or firmware throttles reports.", "try again in a few seconds, or ask for anchored evidence (agentctl: `--anchored`)"},
	{CodePlatformTimeout, 504, exitUnavailable, "Report device did not answer", "No report arrived in time.", "try again, or ask for anchored evidence (agentctl: `--anchored`)"},
	{CodePlatformKeyWiped, 503, exitUnavailable, "Guest message key is wiped", "The guest's message key is gone until the next boot.", hintReboot},
	{CodePlatformVMPL, 503, exitUnavailable, "Wrong VM privilege level", "Reports are not available at this VMPL.", "the machine runs under a paravisor or SVSM that this agent was not told of"},
	{CodePlatformRefused, 502, exitUnavailable, "Firmware refused the report", "The firmware answered with an error status.", "the error names the status and its meaning; give it to the operator of the host"},
	{CodePlatformStale, 503, exitUnavailable, "Report is of before", "The platform hands out reports over something else than what was asked for.", "find out whether another program asks the paravisor for reports all the time (NV index 0x01400002); try again"},
	{CodePlatformOtherKey, 502, exitUnavailable, "Platform vouches for another key", "The structure around the report names another attestation key than the TPM has.", "restart the machine; if it goes on, report it to the operator of the host"},
	{CodePlatformMalformed, 502, exitUnavailable, "Report is malformed", "The device answered with something that is not a report.", "report it to the operator of the host"},
	{CodeMeasureFailed, 422, exitMisuse, "App could not be measured", "The app could not be measured.", "repair the file that the error names"},
	{CodeBadDeclaration, 422, exitMisuse, "Declarations could not be read", "Configuration or declarations could not be read at all.", "correct the file at the line that the error names"},
	{CodeActivation, 422, exitMisuse, "Credential cannot be activated", "The credential was not made for this EK and AK.", "make the challenge from what `GET /v1/ak` answers now"},
	{CodeDiskFull, 507, exitUnavailable, "Disk of the agent is full", "A file system with files of the agent is full, or its quota is used up.", "free room on the file system of the file that the error names: `df -h /var/lib/agentd /run/log/agentd` shows how full they are; the agent tries again by itself"},
	{CodeDiskReadOnly, 503, exitUnavailable, "Disk of the agent is read-only", "A file system with files of the agent is mounted read-only.", "find out why with `findmnt` and `dmesg`, as a file system that failed is made read-only, and mount it writable; the agent tries again by itself"},
	{CodeDiskFailed, 503, exitUnavailable, "File of the agent cannot be read or written", "The agent could not read or write one of its own files.", "repair what the error says of the file; if it is an input/output error, look for the disk in `dmesg`; the agent tries again by itself"},
	{CodeResources, 503, exitUnavailable, "Agent is short of resources", "The agent is short of file descriptors or memory for the moment.", "try again; if that does not help, raise `LimitNOFILE` or `MemoryMax` of agentd.service"},
	{CodeLaterVersion, 503, exitUnavailable, "File of a later version", "A later version of the agent wrote one of its files.", "install the version that wrote it, or a later one; nothing was changed"},
	{CodeIMAUnavailable, 503, exitUnavailable, "List of IMA is not available", "The kernel shows no list of IMA, or the agent cannot read it.", "boot a kernel with IMA, which has /sys/kernel/security/ima/binary_runtime_measurements, with `ima_policy=tcb` on its command line"},
	{CodeTimeout, 504, exitUnavailable, "No answer in time", "The agent gave up.", "try again; the table of endpoints has the times"},
	{CodeUnavailable, 503, exitUnavailable, "Part of the agent is not running", "A part of the agent is not running.", "`agentctl status` says what is missing"},
	{CodeInternal, 500, exitMisuse, "Fault in the agent", "The agent has a fault.", "please report it, with the log of the agent"},

	{CodeNoSystemUnit, 403, exitNotPermitted, "Caller is not in a system unit", "The caller does not run in a system unit, and only system units have keys and events.", "start it as a systemd system unit, not as a unit of a user's manager: `agentctl self` says who the caller is"},
	{CodeNoApp, 403, exitNotPermitted, "No app has this unit and user", "No app is declared for the caller's unit and user.", "if the error says no more, declare the app in `apps.d` with the unit and user that it names, and run `agentctl app reload`"},
	{CodeNotSystemd, 403, exitNotPermitted, "Not asked by systemd", "A process asked on the socket for credentials that is not systemd while it starts a unit.", "let systemd ask: `agentctl app enable --credential NAME UNIT` writes the line for the unit; after an upgrade of systemd run `systemctl daemon-reexec`"},
	{CodeOtherUnit, 403, exitNotPermitted, "Asked from another unit", "The process that asked is in another unit than the one that it names.", "find out which program asked: its unit is in the error; systemd itself names the unit that it starts"},
	{CodeOtherApp, 403, exitNotPermitted, "Sealed for another app", "The secret was sealed for another app or unit.", "give the app its old unit back"},
	{CodeOtherUser, 403, exitNotPermitted, "Sealed for another user", "The secret was sealed for the app under another user.", "give the app its old user back"},
	{CodeDigestNotAuthorised, 403, exitNotPermitted, "Digest of the app is not authorised", "The app requires a digest, and was not measured as one that is authorised.", "root can authorise the digest: `agentctl key authorize --app NAME --digest DIGEST`; an app that is not measured does not have one"},
	{CodeOtherAssociatedData, 403, exitSealed, "Associated data does not match", "The associated data differs from that at sealing.", "give the associated data of sealing"},
	{CodeNotFound, 404, exitMisuse, "No such key or secret", "There is no such secret, app or version of a root.", "seal it first; an app does not see the secrets of another"},
	{CodeExists, 409, exitMisuse, "Secret exists already", "The app has a secret of that name already.", "replace its content with `agentctl secret rotate`; the old content stays until the new one is durable"},
	{CodeQuotaExceeded, 507, exitMisuse, "App may not store more", "The app would store more than it may.", "discard a secret, or raise the limit in `[keys]` of the configuration"},
	{CodeEventQuota, 507, exitMisuse, "App may not record more events", "The app has recorded as many events in this boot as it may, or all apps together have.", "record less, such as one digest over several facts; root can raise the limits in `[events]` of the configuration, which a restart of the agent puts into force; a boot begins a new log"},
	{CodeEventRate, 429, exitUnavailable, "App records events too often", "The app records events more often than it may.", "try again when `retryAfter` has passed; record less, such as one digest over several facts, or have root raise `per_minute` in `[events]`"},
	{CodeNoRecovery, 503, exitUnavailable, "No recovery recipient", "There is no recovery recipient, and the loss was not acknowledged.", "set `recovery_recipients` in `[keys]` of the configuration, or acknowledge the loss there"},
	{CodeRootUnavailable, 503, exitUnavailable, "Root key is not available now", "A device or disk is busy or failing, which says nothing about the blob.", hintWait},
	{CodeBadDerivedKey, 502, exitUnavailable, "Firmware derived an invalid key", "The firmware answered with an all-zero key or one of a wrong size.", "the firmware is at fault: update it"},
	{CodeInterrupted, 503, exitUnavailable, "Change was interrupted", "A write failed; the agent looks at what it left before the next operation.", hintWait + "; check whether the disk is full"},
	{CodeNothingToDo, 409, exitMisuse, "Nothing to accept or to replace", "There is no rollback to accept, or the attestation key loads and is not replaced.", "nothing to do: nothing was changed"},
	{CodeStoreKeyNeeded, 400, exitMisuse, "Store key is needed", "Any party can seal to a recovery recipient, so recovery needs the store key to tell who wrote the disk.", "give the key that was kept with the recovery identity: `--store-key KEY`; `agentctl key store-key` printed it when the store was open"},
	{CodeRecipientsNeeded, 400, exitMisuse, "Recovery recipients are needed", "The recipients of a store that is recovered are named anew, and not taken from its files.", "name those that stay, once for each: `--recipient AGE`, or `--lose-on-hardware-change` for none"},

	{CodeMalformedMessage, 422, exitMisuse, "Message is malformed", "The file is not the message that belongs here, or it was cut or changed.", "give the file that the command before wrote: docs/upgrades.md and docs/delivery.md list them"},
	{CodeNoReleaseKey, 409, exitMisuse, "No release key is pinned", "The store knows no key that could sign releases, or a recovery could not tell who wrote it.", "root pins one: `agentctl key pin-release-key FILE`; before the first start, `release_key` in `[keys]` of the configuration does"},
	{CodeReleaseSignature, 403, exitNotPermitted, "Release is not signed by the release key", "The signature over the release statement does not verify under the key that the store pinned.", "check that statement and signature belong together, and that the key is the one that `agentctl key upgrade-status` names"},
	{CodeReleaseOlder, 403, exitNotPermitted, "Release is older than this image", "The release has a lower number than the one that this store came from: it would be a downgrade.", "name a release with the same number or a higher one"},
	{CodeReleaseExpired, 403, exitNotPermitted, "Release is expired", "The release statement says that it is not valid any more.", "have the release signed again, or check the clock of this machine"},
	{CodeReleasePolicy, 422, exitMisuse, "Policy of the release names no image", "The policy of the release is refused, or does not say which launch measurements a successor may have.", "correct the policy as the error says, and have the release signed again"},
	{CodeNoPreparation, 409, exitMisuse, "No upgrade is prepared", "No successor was named here, or the preparation was given up.", "prepare one on the old machine: `agentctl key prepare-upgrade`"},
	{CodeOtherPreparation, 409, exitMisuse, "Request for another preparation", "The request answers another offer than the last one of this store.", "give the successor the last offer: `agentctl key upgrade-request OFFER`"},
	{CodePreparationExpired, 403, exitNotPermitted, "Preparation is expired", "The time for this preparation is over.", "prepare the upgrade again: `agentctl key prepare-upgrade`"},
	{CodePreparationUsed, 409, exitNotPermitted, "Preparation was used", "The roots went to one successor, and another one asks for them.", "find out which successor got them; `agentctl key upgrade-abort` on the old machine ends this upgrade, and then prepare another"},
	{CodeEvidenceReplayed, 403, exitNotPermitted, "Evidence is of another request", "The evidence of the request was not made for this preparation and this key.", "have the successor ask again: `agentctl key upgrade-request OFFER`; if the request was not yours, find out who sent it"},
	{CodeSuccessorRefused, 403, exitNotPermitted, "Successor is not one of the release", "The evidence of the successor does not meet the policy of the release.", "the error names the checks that failed; nothing was handed over"},
	{CodeHandedOver, 409, exitUnavailable, "Store was handed over", "The roots went to a successor, which would not learn of a change made here.", "go on at the successor, or give the upgrade up: `agentctl key upgrade-abort`"},
	{CodeOtherRequest, 409, exitMisuse, "Answer to another request", "This agent has no key for the answer: it was made for another request, or was accepted already.", "ask again with the last offer: `agentctl key upgrade-request OFFER`"},
	{CodeStoreInUse, 409, exitMisuse, "Store is in use", "The store of this machine has secrets of its own, which an upgrade would replace.", "an upgrade needs a machine whose store is new, or is that of the predecessor"},
	{CodeTransferTooLarge, 507, exitMisuse, "Too large for one message", "What would be handed over, or the evidence with its log, is larger than one message can be.", "for an upgrade, have apps discard secrets that they do not need; if the log is too long for a ticket, " + hintReboot},
	{CodeUpgradeUnfinished, 409, exitMisuse, "Upgrade before is not finished", "The store came from another image, which can still go back, and a later upgrade would leave it so.", "root ends that on this machine: `agentctl key upgrade-finish`; to go back instead, launch the image of before, and then `agentctl key upgrade-abort`"},

	{CodeTicketUnknown, 404, exitMisuse, "No such ticket", "This agent has no ticket that the secret was encrypted to: another machine made it, or the agent was restarted since, or a later ticket for the same secret took its place.", "make a new ticket here: `agentctl secret ticket`, with a new challenge of the relying party"},
	{CodeTicketExpired, 409, exitMisuse, "Ticket is expired", "The time for this ticket is over, and its key is gone.", "make a new ticket: `agentctl secret ticket`, with a new challenge of the relying party"},
	{CodeTicketUsed, 409, exitMisuse, "Ticket was used", "Another secret was stored by this ticket, or perhaps was, as a write failed. A ticket serves one.", "`agentctl secret list` shows what is stored. If the other message was not the relying party's, replace the secret: a new ticket with `--replace`, and with `--sender FILE`"},
	{CodeTooManyTickets, 429, exitUnavailable, "Too many open tickets", "As many tickets are open as may be, of this app or in all.", "wait until some are used or expire; a new ticket for the same app and name takes the place of the one before"},
	{CodeDeliveryChanged, 422, exitMisuse, "Encrypted secret was changed", "The message does not open with the key of its ticket: it was changed on the way, or made for other values. The ticket stays open.", "give the file that `agentctl secret send` wrote, as it is"},
	{CodeOtherSender, 403, exitNotPermitted, "Encrypted secret is of another sender", "The message is not signed as its ticket asks. Any party that has a ticket can encrypt to it.", "have the relying party send with the key whose public half the ticket names: `agentctl secret send --sender-key`"},
	{CodeAppChanged, 409, exitMisuse, "App is not as the ticket says", "The app has other files or another declaration than when the ticket was made, or is not measured any more. The relying party did not verify that.", "`agentctl app diff` says what changed; put it back, or make a new ticket"},
	{CodeOtherTicket, 422, exitMisuse, "Ticket of another delivery", "The ticket was made for another challenge, app, secret or sender than the relying party asks for.", "give the ticket that was made with this challenge, app and name; another one may be a replay"},
	{CodeTicketForged, 422, exitForged, "Ticket is not the agent's", "The agent of the evidence did not make the ticket: any program of its machine can ask for evidence over a key of its own.", "do not send. Find out who gave you the ticket"},
	{CodeReceiptForged, 422, exitForged, "Receipt is not for this delivery", "The receipt is of another delivery, of another message, or not signed by the agent that made the ticket.", "treat the secret as not delivered. If another message was opened, the machine has a secret that another party chose: replace it, with a ticket that names the sender: `--sender FILE`"},

	{CodeOtherChip, 422, exitSealed, "Sealed on another chip", "The report names another chip than at sealing.", hintClaim("the file says so, which proves nothing: check whether this VM moved to another chip: the host's operator or your own records tell")},
	{CodeOtherMeasurement, 422, exitSealed, "Sealed under another launch measurement", "The guest was launched from something else.", hintClaim("the file says so, which proves nothing: check whether the launch measurement changed, as an update of firmware or image does; launched as before, it opens")},
	{CodeGuestPolicyChanged, 422, exitSealed, "Sealed under another guest policy", "The guest was launched under another guest policy.", hintClaim("the file says so, which proves nothing: check whether the guest policy was changed; under the old one it opens")},
	{CodeOtherVMPL, 422, exitSealed, "Sealed at another VMPL", "The guest runs at another VM privilege level.", hintClaim("the file says so, which proves nothing: check whether the agent ran at another VMPL; there it opens")},
	{CodeTCBBelow, 422, exitSealed, "Firmware is older than at sealing", "The firmware is older than at sealing.", hintClaim("the file says so, which proves nothing: check whether the host's firmware was taken back; updated again, it opens")},
	{CodeWrongKey, 422, exitSealed, "Wrong key", "The file names the report of this machine, but the key differs.", hintForged + ". If chip ids are masked here, ask the host's operator whether the VM moved"},
	{CodeTPMCleared, 422, exitSealed, "TPM was cleared", "It is the same TPM, but its owner seed was replaced.", hintClaim("the file says so, which proves nothing: check whether the TPM was cleared")},
	{CodeOtherTPM, 422, exitSealed, "Sealed in another TPM", "The secret was sealed in another TPM.", hintClaim("the file says so, which proves nothing: check whether the vTPM's state was lost or belongs to another VM; with the old TPM it opens")},
	{CodeTPMSecretMissing, 422, exitSealed, "Secret of the TPM is missing", "The file with the TPM's sealed secret is missing.", hintClaim("put the file back from a backup; if there is none, check whether it was lost")},
	{CodeTPMSecretDamaged, 422, exitSealed, "Secret of the TPM is damaged", "The TPM does not load the file with its sealed secret, although the file is its own.", hintClaim("put the file back from a backup; if there is none, check whether the disk was damaged")},
	{CodeNoUsableSlot, 422, exitSealed, "No slot for this machine", "No slot of the blob fits what this machine has.", hintClaim("check whether this machine lost its SNP firmware keys or its TPM; with them it opens")},
	{CodeWrongIdentity, 422, exitSealed, "Wrong recovery identity", "The recovery identity does not belong to any of the recipients.", "use the identity of a recipient that the error names; nothing was deleted"},
	{CodeTruncated, 422, exitSealed, "Sealed blob is truncated", "A sealed blob ends too early.", hintRestore},
	{CodeDamaged, 422, exitSealed, "Sealed blob is damaged", "A checksum in a sealed blob is wrong.", hintRestore},
	{CodeMalformedBlob, 422, exitSealed, "Sealed blob is malformed", "The checksums of a sealed blob are right, but a value in it is not allowed.", hintRestore},
	{CodeUnknownVersion, 422, exitSealed, "Sealed blob of a later version", "A later version wrote the sealed blob.", "install the version that wrote it, or a later one; nothing was deleted"},
	{CodeAltered, 422, exitSealed, "Sealed blob was altered", "The key is right, but the content was changed or belongs to another blob.", hintRestore},
	{CodeRenamed, 422, exitSealed, "File of another sealed blob", "The file contains another sealed blob.", hintRestore},
	{CodeMissing, 422, exitSealed, "Sealed blob is missing", "The manifest lists a file that is missing.", hintRestore},
	{CodeOldGeneration, 409, exitSealed, "Sealed blob of an older state", "A later file replaced this one, which was put back.", "find out who put the old file back, and restore the newer one; nothing was deleted"},
	{CodeRolledBack, 409, exitSealed, "Store was rolled back", "The TPM counted further than the manifest: an older state of the files was put back.", "find out who put the older state back" + hintAccept},
	{CodeCounterBehind, 409, exitSealed, "TPM was rolled back", "The manifest is further than the TPM's counter: an older state of the TPM was put back.", "find out who put the TPM's older state back" + hintAccept},
	{CodeCounterLost, 409, exitSealed, "Counter of the store is lost", "The counter is gone from the TPM, or does not take its authorization.", "find out who removed the counter" + hintAccept},
	{CodeManifestLost, 409, exitSealed, "Manifest of the store is lost", "There are sealed blobs without the manifest that lists them.", "put the manifest back, or have root salvage what this machine opens itself: `agentctl key recover --recipient AGE`, better with `--store-key KEY`"},
	{CodeWeakerSlot, 422, exitSealed, "Sealed to less than this machine has", "The blob opens by a slot that is weaker than what this machine seals to, so another party may have made it.", "check whether the machine got its TPM or its SNP firmware keys after the store was made. Only if so, root can recover what the store key signed: `agentctl key recover --store-key KEY --recipient AGE`, with the key that you kept; nothing was deleted"},
	{CodeNoSender, 422, exitSealed, "Nothing tells who wrote the blob", "The blob is of version 1, which was not signed.", hintForged + "; docs/sealing.md says what is left if there is none"},
	{CodeOtherStoreKey, 422, exitSealed, "Signed by another store key", "The blob is not signed by the store key that was given.", "check that it is the newest store key that you kept. If it is, " + hintForged},
	{CodeBadSignature, 422, exitSealed, "Signature of the store key is wrong", "The blob names the store key, but was not signed by it as it is.", hintForged},

	{CodeDiskHeader, 422, exitSealed, "Not a LUKS2 header that is accepted", "The volume does not begin with a LUKS2 header, or that has a value which is not allowed.", hintDisk},
	{CodeDiskCipher, 422, exitSealed, "Header asks for another cipher", "The header of the volume has data or a key slot encrypted in another way than with AES in XTS mode, or not at all.", hintDisk},
	{CodeDiskSegment, 422, exitSealed, "Header has another segment", "The header of the volume has other data read or written than one encrypted segment to the end of the device.", hintDisk},
	{CodeDiskSlot, 422, exitSealed, "Key slot is not accepted", "The header of the volume has a key slot that is not recorded or of a kind that is not allowed, or one is missing.", hintDisk},
	{CodeDiskDigest, 422, exitSealed, "Header is for another volume key", "The digest by which cryptsetup knows the key of the volume is not the recorded one, or not allowed.", hintDisk},
	{CodeDiskToken, 422, exitSealed, "Header has a token", "The header of the volume has a token, with which another party could open it.", "find out who wrote the token; if it is yours, remove it with `cryptsetup token remove` before the volume is enrolled"},
	{CodeDiskRequirement, 422, exitSealed, "Header has requirements", "The header of the volume has flags or requirements that are not allowed, such as those of a volume that is being encrypted anew.", "let `cryptsetup reencrypt` end, then enroll the volume; if you did not start it, find out who wrote this disk"},
	{CodeDiskOther, 422, exitSealed, "Another volume", "The device has another volume than the one that was enrolled.", "attach the right disk; the name of a device does not say which volume it has"},
	{CodeDiskOlder, 409, exitSealed, "Older header was put back", "The header of the volume is from before the recorded one.", hintDisk},
	{CodeDiskChanged, 422, exitSealed, "Header was changed", "The header of the volume is not the recorded one.", hintDisk},
	{CodeDiskUnprepared, 403, exitNotPermitted, "Header was not checked", "systemd-cryptsetup would not use the checked copy of the header, or there is none.", "start the volume by its unit, with the crypttab line and the drop-in that `agentctl disk enroll` wrote"},
	{CodeDiskUnproven, 409, exitSealed, "Nothing tells who wrote the record", "The record of the volume was recovered although nothing told who wrote it, so an attacker may have chosen key and header.", "enroll the volume again: `agentctl disk enroll DEVICE --name NAME --key-file FILE --replace`"},
	{CodeDiskNoRecovery, 409, exitMisuse, "Only the agent would open the volume", "The volume has no key slot besides the agent's, or would have none, so that another chip or a cleared TPM would lose it.", "add a key slot of your own with `cryptsetup luksAddKey`; `agentctl disk enroll --lose-on-hardware-change` accepts the loss, and `agentctl disk remove --forget` forgets the key all the same"},
	{CodeNoSuchDisk, 404, exitMisuse, "No such volume", "No volume of that name is enrolled.", "`agentctl disk list` lists the enrolled ones"},
	{CodeDiskExists, 409, exitMisuse, "Volume is enrolled already", "A volume of that name is enrolled already.", "choose another name, or replace what is recorded: `--replace`"},

	{CodeContainerState, 409, exitMisuse, "Container is not being created", "The process that was named is not that of a container which is being created: it ended, is another one, or has no control group of its own.", "start the container again with its engine; `agentctl container list` says how the engines are set up"},
	{CodeContainerConfig, 422, exitMisuse, "Configuration of the container is not accepted", "The config.json of the container cannot be read, another user can write it, or runtimes would understand it differently.", "start the container again with its engine; the error names the member"},
	{CodeContainerRoot, 422, exitUnavailable, "Root file system of the container cannot be measured", "The files of the container cannot be found, read or told apart from what is mounted over them.", "the error names the path; the limits are in docs/containers.md"},
	{CodeContainerImage, 409, exitMisuse, "Container fits several apps", "Several declared apps are of this image.", "tell them apart by `unit` in their declarations, or remove one: `agentctl app list`"},
}

// Codes returns every code in alphabetical order.
func Codes() []CodeInfo {
	return slices.SortedFunc(slices.Values(codes), func(a, b CodeInfo) int { return strings.Compare(string(a.Code), string(b.Code)) })
}

// Info returns what is known about c. For a code of a later version that is status 500
// and exit code 1, without words.
func (c Code) Info() CodeInfo {
	if i := slices.IndexFunc(codes, func(x CodeInfo) bool { return x.Code == c }); i >= 0 {
		return codes[i]
	}
	return CodeInfo{Code: c, Status: 500, Exit: exitMisuse}
}
