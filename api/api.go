// SPDX-License-Identifier: Apache-2.0

// Package api holds the types that travel over the agent's sockets, the paths they
// travel under, and the codes of its errors. It holds no server code, so that
// clients can import it. The same is described for other languages in openapi.json
// and for people in docs/api.md.
//
// # Encoding
//
// HTTP/1.1 over unix sockets. Bodies are JSON, read strictly: unknown, duplicate or
// differently-cased members and anything behind the value are errors. Byte strings
// are standard base64 with padding, in its one canonical spelling. The header
// Content-Type of a request is not looked at.
//
// # Evolution
//
// Within /v1 an answer may gain members, a list of words (a state, a problem code)
// may gain words, and a request may gain optional members; clients must pass over
// members that they do not know. Nothing is renamed, removed, or given another
// meaning: that takes /v2. The evidence document has a version of its own in its
// member "type". A server refuses a request member that it does not know, so a
// client learns at once that it asked for something this version cannot do.
package api

import _ "embed"

// Where the agent listens, and the variables that tell clients of another place.
const (
	Socket      = "/run/agentd/agentd.sock" // for programs on the VM, 0660
	AdminSocket = "/run/agentd/admin.sock"  // for root, 0600
	SocketEnv   = "AGENTD_SOCKET"
	AdminEnv    = "AGENTD_ADMIN_SOCKET"
)

// Paths of the API. docs/api.md says on which socket each is served.
const (
	PathSelf     = "/v1/self"
	PathStatus   = "/v1/status"
	PathLog      = "/v1/log"
	PathEvidence = "/v1/evidence"
	PathAK       = "/v1/ak"
	PathApps     = "/v1/apps"
	PathMeasure  = "/v1/apps/{name}/measure"
	PathReload   = "/v1/reload"
	PathActivate = "/v1/ak/activate"
	PathReplace  = "/v1/ak/replace"

	PathDerive   = "/v1/keys/derive"
	PathSeal     = "/v1/seal"
	PathUnseal   = "/v1/unseal"
	PathDiscard  = "/v1/discard"
	PathContract = "/v1/contract"

	PathStore         = "/v1/store"
	PathStoreContract = "/v1/store/contract"
	PathRewrap        = "/v1/store/rewrap"
	PathRotate        = "/v1/store/rotate"
	PathRetire        = "/v1/store/retire"
	PathRecover       = "/v1/store/recover"
	PathRecipients    = "/v1/store/recipients"
	PathAccept        = "/v1/store/accept-rollback"
	PathDigests       = "/v1/store/digests"
	PathProbe         = "/v1/store/probe"
)

// Parameters of PathContract and PathStoreContract.
const (
	QueryName = "name" // of a secret; absent: the app's root, from which secrets are derived
	QueryApp  = "app"
)

// OpenAPI is the description of the API for tools (OpenAPI 3.1, JSON).
//
//go:embed openapi.json
var OpenAPI []byte
