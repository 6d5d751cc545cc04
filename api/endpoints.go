// SPDX-License-Identifier: Apache-2.0

package api

import (
	"time"

	"github.com/cvm-agentd/agentd/evidence"
)

// Sockets says on which sockets an endpoint is served.
type Sockets string

const (
	OnBoth   Sockets = "both"
	OnAdmin  Sockets = "admin"  // administration
	OnClient Sockets = "client" // secrets of an app, which an administrator never gets
)

// Route is what an endpoint is called by, and its limits.
type Route struct {
	Name    string // operationId in openapi.json
	Method  string
	Path    string        // a segment in braces matches any one segment
	On      Sockets       // sockets that serve it
	Timeout time.Duration // time for the answer, once the body has arrived
	Body    int64         // bytes of the body that are read; 0: there is no body, and a small one is ignored
	Query   []Parameter   // known parameters, each allowed once
	Example string        // body that the server accepts; empty if there is no body
	Summary string        // one sentence
}

// Parameter is a query parameter.
type Parameter struct {
	Name     string
	Required bool
	Number   bool     // a decimal number: 0 if absent, so at least 1 if it is required
	Words    []string // allowed values, the default first; nil for any text
	Summary  string   // one sentence
}

// Endpoint is one call of the API: its route, and the types of request and answer.
type Endpoint[Request, Answer any] struct{ Route }

// None is the request of an endpoint that has no body.
type None struct{}

// Query parameters.
const (
	QueryStart  = "start"
	QueryFormat = "format" // a LogFormat
	QueryName   = "name"
	QueryApp    = "app"
	QueryCheck  = "check"
	QueryPID    = "pid"

	QueryLabel     = "label"
	QueryAlgorithm = "algorithm"
	QueryVersion   = "version"
	QueryDomain    = "domain"
)

// CheckNow is a value of QueryCheck: the agent tries first whether it can make evidence.
// Otherwise the answer is from memory.
const CheckNow = "now"

var (
	byName = Parameter{Name: QueryName, Summary: "Name of a secret; absent: the root of the app, from which secrets are derived."}
	byApp  = Parameter{Name: QueryApp, Required: true, Summary: "Name of the app."}
	byPID  = Parameter{Name: QueryPID, Required: true, Number: true, Summary: "Number of the process, as the agent knows it."}
	ofApp  = Parameter{Name: QueryApp, Summary: "Name of the app; absent: all apps."}
	ofKey  = []Parameter{
		{Name: QueryLabel, Required: true, Summary: "What the key is for, 1 to 1024 bytes."},
		{Name: QueryAlgorithm, Required: true, Summary: "Algorithm of the key: ed25519, ecdsa-p256, ecdsa-p384 or tpm-ecdsa-p256."},
		{Name: QueryVersion, Number: true, Summary: "Version of the app's root; 0: the current one."},
	}
	ofEvents = []Parameter{
		{Name: QueryStart, Number: true, Summary: "Number of the first record wanted."},
		{Name: QueryDomain, Summary: "Domain of the events wanted; absent: all domains."},
	}
	checks = Parameter{Name: QueryCheck, Words: []string{"none", CheckNow}, Summary: "Whether the agent tries first, for up to 5 seconds, if it can make evidence now."}
	inLog  = []Parameter{
		{Name: QueryStart, Number: true, Summary: "Number of the first record wanted."},
		{Name: QueryFormat, Words: []string{string(LogTLV), string(LogCELJSON)}, Summary: "Spelling of the records."},
	}
)

// Times for the answer. A host was seen to delay a report for 62 seconds, and a root
// key may have to wait for the SNP firmware just as long. The largest app, 16 GiB, takes 17 minutes
// to read at 16 MiB/s, which the drop-in of its unit allows for.
const (
	fromMemory = 10 * time.Second
	fromDevice = 30 * time.Second
	fromSNP    = 90 * time.Second
	ofMany     = 5 * time.Minute
	ofFiles    = 20 * time.Minute
)

// Endpoints on both sockets.
var (
	CallSelf     = Endpoint[None, Self]{Route{"self", "GET", "/v1/self", OnBoth, fromMemory, 0, nil, "", "Who the caller is to the agent, and why."}}
	CallStatus   = Endpoint[None, Status]{Route{"status", "GET", "/v1/status", OnBoth, fromMemory, 0, []Parameter{checks}, "", "The state of the agent."}}
	CallLog      = Endpoint[None, evidence.Log]{Route{"log", "GET", "/v1/log", OnBoth, fromDevice, 0, inLog, "", "The measurement log. With format cel-json the answer is a TCG Canonical Event Log in JSON encoding."}}
	CallEvidence = Endpoint[EvidenceRequest, evidence.Evidence]{Route{"evidence", "POST", "/v1/evidence", OnBoth, fromSNP, 32 << 10, nil, `{"nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}`, "Evidence over the caller's nonce and key."}}
	CallOpenAPI  = Endpoint[None, OpenAPI]{Route{"openAPI", "GET", "/v1/openapi.json", OnBoth, fromMemory, 0, nil, "", "This API as an OpenAPI document."}}
	CallAK       = Endpoint[None, AK]{Route{"ak", "GET", "/v1/ak", OnBoth, fromDevice, 0, nil, "", "The attestation key, for enrolment."}}
	CallProcess  = Endpoint[None, Process]{Route{"process", "GET", "/v1/process", OnBoth, fromMemory, 0, []Parameter{byPID}, "", "Who a process is to the agent, and why. The client socket answers only the units that processes.askers names."}}
	CallMetrics  = Endpoint[None, Metrics]{Route{"metrics", "GET", "/v1/metrics", OnBoth, fromMemory, 0, nil, "", "What the agent counts, for Prometheus. The client socket leaves out what tells of other users and apps."}}
)

// Endpoints of administration.
var (
	CallApps     = Endpoint[None, Apps]{Route{"apps", "GET", "/v1/apps", OnAdmin, fromMemory, 0, nil, "", "The declared apps."}}
	CallMeasure  = Endpoint[None, App]{Route{"measure", "POST", "/v1/apps/{name}/measure", OnAdmin, ofFiles, 0, nil, "", "Measure an app now and answer once the log has it."}}
	CallReload   = Endpoint[None, Reloaded]{Route{"reload", "POST", "/v1/reload", OnAdmin, ofMany, 0, nil, "", "Read the declarations again."}}
	CallReplace  = Endpoint[None, Replaced]{Route{"replaceAK", "POST", "/v1/ak/replace", OnAdmin, ofMany, 0, nil, "", "Make a new attestation key in place of one that this TPM does not load."}}
	CallTryTPM   = Endpoint[None, Probed]{Route{"tryTPM", "POST", "/v1/tpm/try", OnAdmin, ofMany, 0, nil, "", "Try what the agent needs of the TPM. It changes nothing."}}
	CallActivate = Endpoint[ActivateRequest, Activated]{Route{"activate", "POST", "/v1/ak/activate", OnAdmin, fromDevice, 8 << 10, nil, `{"credential":"AAAA","secret":"AAAA"}`, "Open a credential with the TPM."}}
)

// Endpoints for the secrets of the calling app. 64 KiB of secret and as much associated
// data fit into a body of 256 KiB, in base64, and a message of 64 KiB into one of 128 KiB.
var (
	CallDerive   = Endpoint[DeriveRequest, Derived]{Route{"derive", "POST", "/v1/keys/derive", OnClient, fromSNP, 4 << 10, nil, `{"label":"disk","length":32}`, "Derive a secret for the calling app, the same after each restart."}}
	CallSign     = Endpoint[SignRequest, Signed]{Route{"sign", "POST", "/v1/sign", OnClient, fromSNP, 128 << 10, nil, `{"label":"host","algorithm":"ed25519","message":"AAAA"}`, "Sign with a key of the calling app, which no answer contains."}}
	CallPublic   = Endpoint[None, PublicKey]{Route{"publicKey", "GET", "/v1/keys/public", OnClient, fromSNP, 0, ofKey, "", "The public half of a signing key of the calling app."}}
	CallCertify  = Endpoint[CertifyRequest, Certified]{Route{"certify", "POST", "/v1/keys/certify", OnClient, fromSNP, 4 << 10, nil, `{"label":"acme","algorithm":"tpm-ecdsa-p256","data":"AAAA"}`, "Have the attestation key certify that a signing key of the calling app is in the TPM. Only for apps that keys.certify_apps names."}}
	CallSeal     = Endpoint[SealRequest, Sealed]{Route{"seal", "POST", "/v1/seal", OnClient, fromSNP, 256 << 10, nil, `{"name":"token","data":"AAAA"}`, "Store a secret of the calling app."}}
	CallUnseal   = Endpoint[UnsealRequest, Unsealed]{Route{"unseal", "POST", "/v1/unseal", OnClient, fromSNP, 256 << 10, nil, `{"name":"token"}`, "Open a secret of the calling app."}}
	CallDiscard  = Endpoint[DiscardRequest, Discarded]{Route{"discard", "POST", "/v1/discard", OnClient, fromSNP, 4 << 10, nil, `{"name":"token"}`, "Delete a secret of the calling app."}}
	CallContract = Endpoint[None, Contract]{Route{"plan", "GET", "/v1/contract", OnClient, fromSNP, 0, []Parameter{byName}, "", "What a secret of the calling app would be sealed to now, and what would lock it out."}}
)

// Endpoints for what the calling app says of itself.
var (
	CallEmit   = Endpoint[EventRequest, RecordedEvent]{Route{"emit", "POST", "/v1/events", OnClient, fromDevice, 4 << 10, nil, `{"domain":"model","content":"AAAA"}`, "Record an event of the calling app, and answer once log and PCR have it."}}
	CallEvents = Endpoint[None, Events]{Route{"events", "GET", "/v1/events", OnClient, fromDevice, 0, ofEvents, "", "The events of the calling app since boot, at most 100."}}
)

// Endpoints for the store of sealed blobs. A file of recovery identities fits into a body
// of 128 KiB, in base64.
var (
	CallStore         = Endpoint[None, Store]{Route{"store", "GET", "/v1/store", OnAdmin, fromSNP, 0, nil, "", "State of the store, and every sealed blob."}}
	CallStoreContract = Endpoint[None, Contract]{Route{"contract", "GET", "/v1/store/contract", OnAdmin, fromSNP, 0, []Parameter{byApp, byName}, "", "What a blob opens on and what would lock it out."}}
	CallRewrap        = Endpoint[None, Rewritten]{Route{"rewrap", "POST", "/v1/store/rewrap", OnAdmin, ofMany, 0, nil, "", "Seal every blob again to the machine as it is now."}}
	CallRotate        = Endpoint[RotateRequest, RootVersion]{Route{"rotate", "POST", "/v1/store/rotate", OnAdmin, ofMany, 4 << 10, nil, `{"app":"billing"}`, "Give an app a new version of its root."}}
	CallRetire        = Endpoint[RetireRequest, RootVersion]{Route{"retire", "POST", "/v1/store/retire", OnAdmin, fromSNP, 4 << 10, nil, `{"app":"billing","version":1}`, "Forget an older version of an app's root."}}
	CallRecover       = Endpoint[RecoverRequest, Rewritten]{Route{"recover", "POST", "/v1/store/recover", OnAdmin, ofMany, 128 << 10, nil, `{}`, "Open what this machine cannot open and the store key signed, and seal it to this machine."}}
	CallRotateKey     = Endpoint[None, Rewritten]{Route{"rotateStoreKey", "POST", "/v1/store/rotate-store-key", OnAdmin, ofMany, 0, nil, "", "Give the store a new key, and sign every blob with it."}}
	CallRecipients    = Endpoint[RecipientsRequest, Rewritten]{Route{"recipients", "POST", "/v1/store/recipients", OnAdmin, ofMany, 4 << 10, nil, `{"recipients":[]}`, "Seal every blob to other recovery recipients."}}
	CallAccept        = Endpoint[None, Store]{Route{"acceptRollback", "POST", "/v1/store/accept-rollback", OnAdmin, fromSNP, 0, nil, "", "Make an older state that was put back the current one."}}
	CallDigests       = Endpoint[DigestRequest, Contract]{Route{"digests", "POST", "/v1/store/digests", OnAdmin, fromSNP, 4 << 10, nil, `{"app":"billing","action":"require"}`, "Change which digests an app must have for its keys."}}
	CallSecrets       = Endpoint[None, Secrets]{Route{"secrets", "GET", "/v1/secrets", OnAdmin, fromSNP, 0, []Parameter{ofApp}, "", "The secrets that root provisioned, by name."}}
	CallPutSecret     = Endpoint[SecretRequest, ProvisionedSecret]{Route{"putSecret", "POST", "/v1/secrets/put", OnAdmin, fromSNP, 128 << 10, nil, `{"app":"billing","name":"db-password","data":"AAAA"}`, "Store a secret for an app, which systemd hands to its unit. No answer contains it."}}
	CallRotateSecret  = Endpoint[SecretRequest, ProvisionedSecret]{Route{"rotateSecret", "POST", "/v1/secrets/rotate", OnAdmin, fromSNP, 128 << 10, nil, `{"app":"billing","name":"db-password","data":"AAAA"}`, "Replace the content of a provisioned secret; the old one stays until the new one is durable."}}
	CallRemoveSecret  = Endpoint[RemoveSecretRequest, StoredName]{Route{"removeSecret", "POST", "/v1/secrets/remove", OnAdmin, fromSNP, 4 << 10, nil, `{"app":"billing","name":"db-password"}`, "Delete a provisioned secret."}}
	CallProbe         = Endpoint[None, Probed]{Route{"probe", "POST", "/v1/store/probe", OnAdmin, ofMany, 0, nil, "", "Try out the key derivation of the platform: up to five requests to its firmware."}}
)

// Endpoints for secrets that a relying party delivers: docs/delivery.md. An app may have to be
// measured first. 64 KiB of secret fit into a body of 128 KiB, encrypted and in base64.
var (
	CallTicket  = Endpoint[TicketRequest, DeliveryTicket]{Route{"ticket", "POST", "/v1/secrets/ticket", OnAdmin, ofFiles, 4 << 10, nil, `{"app":"billing","name":"db-password","challenge":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","validFor":3600,"anySender":true}`, "Make a ticket, by which a relying party encrypts one secret to this agent."}}
	CallReceive = Endpoint[ReceiveRequest, ReceivedSecret]{Route{"receive", "POST", "/v1/secrets/receive", OnAdmin, ofFiles, 128 << 10, nil, `{"sealed":"AAAA"}`, "Store the secret that a relying party encrypted by a ticket."}}
)

// Endpoints for volumes. Two headers with JSON of 12 KiB fit into a body of 64 KiB, in base64.
var (
	CallDisks      = Endpoint[None, Disks]{Route{"disks", "GET", "/v1/disks", OnAdmin, fromSNP, 0, nil, "", "The volumes that the agent has the keys of."}}
	CallDiskCheck  = Endpoint[DiskRequest, DiskChecked]{Route{"diskCheck", "POST", "/v1/disks/check", OnAdmin, fromSNP, 64 << 10, nil, `{"name":"data","headers":[]}`, "Whether the header of a volume is the recorded one."}}
	CallDiskKey    = Endpoint[DiskRequest, DiskKey]{Route{"diskKey", "POST", "/v1/disks/key", OnAdmin, fromSNP, 64 << 10, nil, `{"name":"data","headers":[]}`, "The key of the agent's key slot, for root, who changes the header."}}
	CallDiskEnroll = Endpoint[DiskEnrollRequest, Disk]{Route{"diskEnroll", "POST", "/v1/disks/enroll", OnAdmin, fromSNP, 64 << 10, nil, `{"name":"data","device":"/dev/vdb","header":{"sequence":1,"size":16384,"uuid":"","json":"","areas":[]},"slot":1,"key":""}`, "Record the key and the header of a volume."}}
	CallDiskChange = Endpoint[DiskChangeRequest, Disk]{Route{"diskChange", "POST", "/v1/disks/change", OnAdmin, fromSNP, 64 << 10, nil, `{"name":"data","header":{"sequence":1,"size":16384,"uuid":"","json":"","areas":[]},"slot":1}`, "Record the header that a volume is to have next."}}
	CallDiskSettle = Endpoint[DiskRequest, Disk]{Route{"diskSettle", "POST", "/v1/disks/settle", OnAdmin, fromSNP, 64 << 10, nil, `{"name":"data","headers":[]}`, "End a change: the volume has its next header."}}
	CallDiskRemove = Endpoint[DiskName, DiskName]{Route{"diskRemove", "POST", "/v1/disks/remove", OnAdmin, fromSNP, 4 << 10, nil, `{"name":"data"}`, "Forget the key of a volume."}}
)

// Endpoints for containers.
var (
	CallContainers      = Endpoint[None, Containers]{Route{"containers", "GET", "/v1/containers/running", OnAdmin, fromMemory, 0, nil, "", "The measured containers that run."}}
	CallRecordContainer = Endpoint[ContainerRequest, Container]{Route{"recordContainer", "POST", "/v1/containers", OnAdmin, ofFiles, 16 << 10, nil, `{"engine":"podman","id":"4f1c","pid":4711,"bundle":"/var/lib/containers/storage/overlay-containers/4f1c/userdata"}`, "Measure a container that is being created, and answer once the log has it. If the answer is an error, it must not start."}}
)

// Endpoints for an upgrade to another launch measurement: docs/upgrades.md. A message of 2.5 MiB
// fits into a body of 4 MiB, in base64.
var (
	CallUpgrade        = Endpoint[None, UpgradeStatus]{Route{"upgrade", "GET", "/v1/upgrade", OnAdmin, fromSNP, 0, nil, "", "How far an upgrade to another launch measurement is."}}
	CallPinReleaseKey  = Endpoint[ReleaseKeyRequest, UpgradeStatus]{Route{"pinReleaseKey", "POST", "/v1/upgrade/release-key", OnAdmin, fromSNP, 8 << 10, nil, `{"key":"AAAA"}`, "Pin the key that signs releases."}}
	CallPrepareUpgrade = Endpoint[PrepareRequest, PreparedUpgrade]{Route{"prepareUpgrade", "POST", "/v1/upgrade/prepare", OnAdmin, ofMany, 128 << 10, nil, `{"release":"AAAA","signature":"AAAA","validFor":86400}`, "Name the images that may take the store over, and say what would go over."}}
	CallSuccessor      = Endpoint[SuccessorRequest, SuccessorMessage]{Route{"requestUpgrade", "POST", "/v1/upgrade/request", OnAdmin, ofMany, 4 << 10, nil, `{"offer":"AAAA"}`, "Ask to take a store over, with fresh evidence of this machine."}}
	CallHandOver       = Endpoint[HandOverRequest, HandedOver]{Route{"answerUpgrade", "POST", "/v1/upgrade/answer", OnAdmin, ofMany, 4 << 20, nil, `{"request":"AAAA"}`, "Verify the request of a successor, and seal the store to its key."}}
	CallAcceptUpgrade  = Endpoint[AcceptUpgradeRequest, AcceptedUpgrade]{Route{"acceptUpgrade", "POST", "/v1/upgrade/accept", OnAdmin, ofMany, 4 << 20, nil, `{"answer":"AAAA","storeKey":"agentd-store-key:dde3bccec7f3a66a1115f45d720f4dc135c3ae7c4e22dca38fdb1efd6a495ff8c78c4543"}`, "Take over the store that an answer contains."}}
	CallAbortUpgrade   = Endpoint[None, AbortedUpgrade]{Route{"abortUpgrade", "POST", "/v1/upgrade/abort", OnAdmin, ofMany, 0, nil, "", "Give an upgrade up, or go back to the store of before it."}}
	CallFinishUpgrade  = Endpoint[None, UpgradeStatus]{Route{"finishUpgrade", "POST", "/v1/upgrade/finish", OnAdmin, ofMany, 0, nil, "", "Remove what the predecessor left here: it cannot go back any more."}}
)
