// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

// ProblemType is the media type of every error answer (RFC 9457).
const ProblemType = "application/problem+json"

// ProblemBase and a code make the member "type": a page with the code's meaning.
const ProblemBase = "https://github.com/cvm-agentd/agentd/blob/main/docs/api.md#"

// Code names a kind of failure. Codes are stable: programs may act on them.
type Code string

// The request.
const (
	CodeMalformed        Code = "malformed-json"     // not one JSON value in UTF-8 and nothing behind it
	CodeDuplicateMember  Code = "duplicate-member"   // a member stands twice
	CodeUnknownMember    Code = "unknown-member"     // a member is not known, or spelled in another case
	CodeInvalidValue     Code = "invalid-value"      // a member or parameter has a type, size or word that is not allowed
	CodeUnknownParameter Code = "unknown-parameter"  // a query parameter is not known or stands twice
	CodeTooLarge         Code = "body-too-large"     // the body is longer than the route reads
	CodeBodyTimeout      Code = "body-timeout"       // the body did not arrive in time
	CodeNoSuchPath       Code = "no-such-path"       // nothing is served there
	CodeMethod           Code = "method-not-allowed" // the path is served, not with this method
	CodeStartBeyondLog   Code = "start-beyond-log"   // the log has no such record yet
	CodeNoSuchApp        Code = "no-such-app"        // no declaration of that name
)

// Who is asking, and how much.
const (
	CodePeerGone     Code = "peer-gone"            // the process that connected has ended
	CodePeerUnknown  Code = "peer-unknown"         // the agent could not establish who connected
	CodeNotPermitted Code = "not-permitted"        // served on the admin socket alone, or to another user
	CodeThrottled    Code = "throttled"            // this user asks too often
	CodeBusy         Code = "busy"                 // too many requests are waiting
	CodeConnections  Code = "too-many-connections" // too many connections are open
	CodeShuttingDown Code = "shutting-down"        // the agent is stopping; another one will answer
)

// The agent and what it stands on.
const (
	CodeDesynchronised    Code = "log-desynchronised" // log and PCR do not explain each other; only a boot repairs that
	CodePCRMismatch       Code = "pcr-mismatch"       // the TPM quoted values that the log does not explain
	CodeLogFull           Code = "log-full"           // the log takes no more records until the next boot
	CodeTPM               Code = "tpm-unavailable"    // no TPM, or it fails
	CodeAKUnusable        Code = "ak-unusable"        // the stored attestation key does not load in this TPM
	CodeTPMTimeout        Code = "tpm-timeout"        // the TPM did not answer in time
	CodePlatformAbsent    Code = "platform-absent"    // no report device on this machine
	CodePlatformBusy      Code = "platform-busy"      // host or firmware throttles reports
	CodePlatformTimeout   Code = "platform-timeout"   // no report in time
	CodePlatformKeyWiped  Code = "platform-key-wiped" // the guest's message key is gone until the next boot
	CodePlatformVMPL      Code = "platform-vmpl"      // reports are not to be had at this VM privilege level
	CodePlatformRefused   Code = "platform-refused"   // the firmware answered with an error status
	CodePlatformMalformed Code = "platform-malformed" // the device answered with something else than a report
	CodeMeasureFailed     Code = "measurement-failed" // the app could not be measured; see detail
	CodeBadDeclaration    Code = "bad-declaration"    // configuration or declarations could not be read at all
	CodeActivation        Code = "activation-failed"  // the credential was not made for this EK and AK
	CodeTimeout           Code = "timeout"            // the agent gave up
	CodeUnavailable       Code = "unavailable"        // a part of the agent is not running; see detail
	CodeInternal          Code = "internal"           // a fault in the agent
)

// Keys: who asks, and how the store stands. docs/sealing.md says what each rests on.
const (
	CodeNoSystemUnit        Code = "no-system-unit"        // the caller runs in no system unit, and there are no keys without one
	CodeNoApp               Code = "no-app"                // no app is declared for the caller's unit and user
	CodeOtherApp            Code = "other-app"             // sealed for another app or unit
	CodeOtherUser           Code = "other-user"            // sealed for the app under another user
	CodeDigestNotAuthorised Code = "digest-not-authorised" // the app requires a digest, and was not measured as one that is listed
	CodeOtherAssociatedData Code = "other-associated-data" // not the associated data of sealing
	CodeNotFound            Code = "not-found"             // no such secret, app or version of a root
	CodeQuotaExceeded       Code = "quota-exceeded"        // more than the app may store
	CodeNoRecovery          Code = "no-recovery"           // no recovery recipient, and nobody acknowledged that
	CodeRootUnavailable     Code = "root-unavailable"      // a device or disk is busy or failing, which says nothing about the blob
	CodeBadDerivedKey       Code = "bad-derived-key"       // the firmware answered with an all-zero key or one of a wrong size
	CodeInterrupted         Code = "interrupted"           // a write failed; what it left is looked at before the next operation
	CodeNothingToDo         Code = "nothing-to-do"         // there is no rollback to accept, or no attestation key to replace
)

// A sealed blob cannot be opened: the machine is another, the file is damaged, or the
// store was turned back.
const (
	CodeOtherChip          Code = "other-chip"           // the report names another chip
	CodeOtherMeasurement   Code = "other-measurement"    // the guest was launched from something else
	CodeGuestPolicyChanged Code = "guest-policy-changed" // the guest was launched under another policy
	CodeOtherVMPL          Code = "other-vmpl"           // the guest runs at another VM privilege level
	CodeTCBBelow           Code = "tcb-below"            // firmware older than the one at sealing
	CodeWrongKey           Code = "wrong-key"            // every reading is as it was, and the key is another one
	CodeTPMCleared         Code = "tpm-cleared"          // the TPM's owner seed was replaced
	CodeOtherTPM           Code = "other-tpm"            // the secret was sealed in another TPM
	CodeTPMSecretMissing   Code = "tpm-secret-missing"   // the file with the TPM's sealed secret is not there
	CodeTPMSecretDamaged   Code = "tpm-secret-damaged"   // the TPM does not take that file, although it is its own
	CodeNoUsableSlot       Code = "no-usable-slot"       // no slot is meant for what this machine has
	CodeWrongIdentity      Code = "wrong-identity"       // the recovery identity belongs to none of the recipients
	CodeTruncated          Code = "truncated"            // a blob ends too early
	CodeDamaged            Code = "damaged"              // a checksum of a blob is wrong
	CodeMalformedBlob      Code = "malformed"            // checksums of a blob are right, a value in it is not allowed
	CodeUnknownVersion     Code = "unknown-version"      // a blob was written by a later version
	CodeAltered            Code = "altered"              // the key is right, and the content was changed or belongs to another blob
	CodeRenamed            Code = "renamed"              // the file of another blob
	CodeMissing            Code = "missing"              // the manifest names a file that is not there
	CodeOldGeneration      Code = "old-generation"       // the file was replaced by a later one
	CodeRolledBack         Code = "rolled-back"          // an older state of the files was put back
	CodeCounterBehind      Code = "counter-behind"       // the state of the TPM was put back
	CodeCounterLost        Code = "counter-lost"         // the counter is gone from the TPM, or is not ours
	CodeManifestLost       Code = "manifest-lost"        // there are blobs without the manifest that lists them
)

// codes is the one table of statuses and titles.
var codes = map[Code]struct {
	status int
	title  string
}{
	CodeMalformed:           {http.StatusBadRequest, "Body is not one JSON value"},
	CodeDuplicateMember:     {http.StatusBadRequest, "Member stands twice"},
	CodeUnknownMember:       {http.StatusBadRequest, "Member is not known"},
	CodeInvalidValue:        {http.StatusBadRequest, "Value is not allowed"},
	CodeUnknownParameter:    {http.StatusBadRequest, "Query parameter is not known"},
	CodeTooLarge:            {http.StatusRequestEntityTooLarge, "Body is too long"},
	CodeBodyTimeout:         {http.StatusRequestTimeout, "Body did not arrive"},
	CodeNoSuchPath:          {http.StatusNotFound, "No such path"},
	CodeMethod:              {http.StatusMethodNotAllowed, "Method is not allowed here"},
	CodeStartBeyondLog:      {http.StatusBadRequest, "Log has no such record"},
	CodeNoSuchApp:           {http.StatusNotFound, "No such app"},
	CodePeerGone:            {http.StatusForbidden, "Process that connected has ended"},
	CodePeerUnknown:         {http.StatusForbidden, "Caller could not be established"},
	CodeNotPermitted:        {http.StatusForbidden, "Not permitted on this socket"},
	CodeThrottled:           {http.StatusTooManyRequests, "Too many requests of this user"},
	CodeBusy:                {http.StatusServiceUnavailable, "Too many requests are waiting"},
	CodeConnections:         {http.StatusServiceUnavailable, "Too many connections"},
	CodeShuttingDown:        {http.StatusServiceUnavailable, "Agent is stopping"},
	CodeDesynchronised:      {http.StatusServiceUnavailable, "Log and PCR do not agree"},
	CodePCRMismatch:         {http.StatusServiceUnavailable, "Quoted PCR values are not explained by the log"},
	CodeLogFull:             {http.StatusInsufficientStorage, "Measurement log is full"},
	CodeTPM:                 {http.StatusServiceUnavailable, "TPM is not available"},
	CodeAKUnusable:          {http.StatusServiceUnavailable, "Attestation key does not load in this TPM"},
	CodeTPMTimeout:          {http.StatusGatewayTimeout, "TPM did not answer"},
	CodePlatformAbsent:      {http.StatusServiceUnavailable, "No report device"},
	CodePlatformBusy:        {http.StatusServiceUnavailable, "Reports are throttled"},
	CodePlatformTimeout:     {http.StatusGatewayTimeout, "Report device did not answer"},
	CodePlatformKeyWiped:    {http.StatusServiceUnavailable, "Guest message key is wiped"},
	CodePlatformVMPL:        {http.StatusServiceUnavailable, "Wrong VM privilege level"},
	CodePlatformRefused:     {http.StatusBadGateway, "Firmware refused the report"},
	CodePlatformMalformed:   {http.StatusBadGateway, "Report is malformed"},
	CodeMeasureFailed:       {http.StatusUnprocessableEntity, "App could not be measured"},
	CodeBadDeclaration:      {http.StatusUnprocessableEntity, "Declarations could not be read"},
	CodeActivation:          {http.StatusUnprocessableEntity, "Credential cannot be activated"},
	CodeNoSystemUnit:        {http.StatusForbidden, "No keys outside a system unit"},
	CodeNoApp:               {http.StatusForbidden, "No app of this unit and user"},
	CodeOtherApp:            {http.StatusForbidden, "Sealed for another app"},
	CodeOtherUser:           {http.StatusForbidden, "Sealed for another user"},
	CodeDigestNotAuthorised: {http.StatusForbidden, "Digest of the app is not authorised"},
	CodeOtherAssociatedData: {http.StatusForbidden, "Associated data are others"},
	CodeNotFound:            {http.StatusNotFound, "No such key or secret"},
	CodeQuotaExceeded:       {http.StatusInsufficientStorage, "App may not store more"},
	CodeNoRecovery:          {http.StatusServiceUnavailable, "No recovery recipient"},
	CodeRootUnavailable:     {http.StatusServiceUnavailable, "Root key cannot be had now"},
	CodeBadDerivedKey:       {http.StatusBadGateway, "Firmware derived a key that is none"},
	CodeInterrupted:         {http.StatusServiceUnavailable, "Change was interrupted"},
	CodeNothingToDo:         {http.StatusConflict, "Nothing to accept or to replace"},
	CodeOtherChip:           {http.StatusUnprocessableEntity, "Sealed on another chip"},
	CodeOtherMeasurement:    {http.StatusUnprocessableEntity, "Sealed under another launch measurement"},
	CodeGuestPolicyChanged:  {http.StatusUnprocessableEntity, "Sealed under another guest policy"},
	CodeOtherVMPL:           {http.StatusUnprocessableEntity, "Sealed at another VM privilege level"},
	CodeTCBBelow:            {http.StatusUnprocessableEntity, "Firmware is older than at sealing"},
	CodeWrongKey:            {http.StatusUnprocessableEntity, "Key is another one"},
	CodeTPMCleared:          {http.StatusUnprocessableEntity, "TPM was cleared"},
	CodeOtherTPM:            {http.StatusUnprocessableEntity, "Sealed in another TPM"},
	CodeTPMSecretMissing:    {http.StatusUnprocessableEntity, "Secret of the TPM is missing"},
	CodeTPMSecretDamaged:    {http.StatusUnprocessableEntity, "Secret of the TPM is damaged"},
	CodeNoUsableSlot:        {http.StatusUnprocessableEntity, "No slot for this machine"},
	CodeWrongIdentity:       {http.StatusUnprocessableEntity, "Recovery identity is another one"},
	CodeTruncated:           {http.StatusUnprocessableEntity, "Sealed blob is truncated"},
	CodeDamaged:             {http.StatusUnprocessableEntity, "Sealed blob is damaged"},
	CodeMalformedBlob:       {http.StatusUnprocessableEntity, "Sealed blob is malformed"},
	CodeUnknownVersion:      {http.StatusUnprocessableEntity, "Sealed blob of a later version"},
	CodeAltered:             {http.StatusUnprocessableEntity, "Sealed blob was altered"},
	CodeRenamed:             {http.StatusUnprocessableEntity, "File of another sealed blob"},
	CodeMissing:             {http.StatusUnprocessableEntity, "Sealed blob is missing"},
	CodeOldGeneration:       {http.StatusConflict, "Sealed blob of an older state"},
	CodeRolledBack:          {http.StatusConflict, "Store was turned back"},
	CodeCounterBehind:       {http.StatusConflict, "TPM was turned back"},
	CodeCounterLost:         {http.StatusConflict, "Counter of the store is lost"},
	CodeManifestLost:        {http.StatusConflict, "Manifest of the store is lost"},
	CodeTimeout:             {http.StatusGatewayTimeout, "No answer in time"},
	CodeUnavailable:         {http.StatusServiceUnavailable, "Part of the agent is not running"},
	CodeInternal:            {http.StatusInternalServerError, "Fault in the agent"},
}

// Codes lists every code in alphabetical order.
func Codes() []Code {
	out := make([]Code, 0, len(codes))
	for c := range codes {
		out = append(out, c)
	}
	slices.Sort(out)
	return out
}

// Status is the HTTP status that goes with c: 500 for a code of a later version.
func (c Code) Status() int {
	if x, ok := codes[c]; ok {
		return x.status
	}
	return http.StatusInternalServerError
}

// Problem is the body of every error answer (RFC 9457), and a Go error.
type Problem struct {
	Type       string `json:"type"`                // ProblemBase and the code
	Title      string `json:"title"`               // the same for each answer with this code
	Status     int    `json:"status"`              // as in the status line
	Code       Code   `json:"code"`                // what programs act on
	Detail     string `json:"detail,omitzero"`     // what was attempted, what was found, what to do; for people
	Where      string `json:"where,omitzero"`      // JSON Pointer (RFC 6901) or name of the parameter at fault
	Offset     *int64 `json:"offset,omitzero"`     // byte of the body near which reading ended, from 0
	RetryAfter int    `json:"retryAfter,omitzero"` // seconds after which the same request may succeed, as in the header
}

// NewProblem makes a problem with what its code fixes.
func NewProblem(c Code, detail string) *Problem {
	return &Problem{Type: ProblemBase + string(c), Title: codes[c].title, Status: c.Status(), Code: c, Detail: detail}
}

// After is p with a time to wait, in whole seconds and at least one.
func (p *Problem) After(d time.Duration) *Problem {
	p.RetryAfter = max(1, int((d+time.Second-1)/time.Second))
	return p
}

// Error says code, place and detail.
func (p *Problem) Error() string {
	s := fmt.Sprintf("agentd: %s", p.Code)
	if p.Where != "" {
		s += " at " + p.Where
	}
	if p.Detail != "" {
		return s + ": " + p.Detail
	}
	return s + ": " + p.Title
}

// Is reports whether target is a problem with the same code, so that
// errors.Is(err, &api.Problem{Code: api.CodeBusy}) reads as it should.
func (p *Problem) Is(target error) bool {
	t, ok := target.(*Problem)
	return ok && t.Code == p.Code
}
