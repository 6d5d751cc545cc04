// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/x509"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// PolicyVersion is the member "version" of every policy of this version.
const PolicyVersion = 1

// MaxPolicy is the largest policy text that is read, in bytes.
const MaxPolicy = 4 << 20

// A Policy says which evidence is acceptable. It is made by [ParsePolicy] only, so
// that every policy in use was checked for contradictions; docs/policy.md describes
// the text, its defaults and what each key protects against.
type Policy struct {
	digest evidence.Digest // SHA-256 of the text

	products         []string // lower case: "milan", "genoa", "turin"
	signers          []string // "vcek", "vlek"
	minReportVersion uint32
	vmpl             []uint32
	binding          Binding
	freshness        Freshness
	maxAnchorAge     time.Duration // 0 unless freshness is AnchoredReport
	allowProvisional bool
	revocation       string // "required", "optional", "off"

	launches          []launchRule
	allowUnlisted     bool // launch measurements that launches does not hold
	deniedLaunches    [][]byte
	chips             [][]byte // empty: any
	deniedChips       [][]byte
	allowMaskedChip   bool
	aks               [][]byte // names; with enrolments empty: any
	enrolments        []enrolmentRule
	ekRoots           []*x509.Certificate // that the certificate of a TPM's endorsement key must lead to; empty: not looked at
	akOrigin          AKOrigin            // that is asked for at least
	guest             guestRule
	image             imageRule
	platform          platformRule
	tcb               map[string]tcbRule // by product
	launchMitigation  uint64
	currentMitigation uint64

	pcrs        []pcrRule
	startValues map[pcr.Algorithm][][]byte

	logRequired        bool
	firmwareRequired   bool
	tolerateGaps       bool
	tolerateUnmeasured bool
	apps               []appRule
	refuseUnlistedApps bool
	agent              agentRule
	caller             callerRule
}

// Digest is SHA-256 over the text that the policy was made from.
func (p *Policy) Digest() evidence.Digest { return p.digest }

// launchRule is one [[launch]].
type launchRule struct {
	measurement []byte // 48 bytes
	kind        Binding
	covers      Cover
	label       string
}

// Cover says what a launch measurement was computed over.
type Cover string

const (
	CoversFirmware Cover = "firmware"                // the firmware alone; what it boots shows in PCRs only
	CoversKernel   Cover = "firmware+kernel+cmdline" // direct kernel boot: also kernel, initrd and command line
)

// guestRule is [guest_policy]: what the guest's owner allowed the host at launch.
type guestRule struct {
	allowDebug             bool
	allowMigrationAgent    bool
	allowSMT               bool
	allowCXL               bool
	requireSingleSocket    bool
	requireAES256XTS       bool
	requireRAPLDisabled    bool
	requireCiphertextHid   bool
	requirePageSwapOff     bool
	allowReserved          bool
	minABIMajor, minABIMin uint8
}

// imageRule is [image]: the ID block and host data of the launch.
type imageRule struct {
	minGuestSVN uint32
	familyID    []byte // 16 bytes; nil: any
	imageID     []byte
	hostData    [][]byte // 32 bytes each; empty: any
	idKeys      [][]byte // 48 bytes each: SHA-384 of the key
	authorKeys  [][]byte
}

// platformRule is [platform]: bits of PLATFORM_INFO.
type platformRule struct {
	require     snp.PlatformInfo
	refuse      snp.PlatformInfo
	refuseOther bool // bits that this version cannot name
}

// tcbRule is [tcb.PRODUCT]: floors of the components, by name.
type tcbRule struct {
	reported, committed, launch map[string]uint8
}

// pcrRule is one [[pcr]].
type pcrRule struct {
	bank   pcr.Algorithm
	index  uint32
	values [][]byte
}

// appRule is one [[app]].
type appRule struct {
	name     string
	unit     string // "": any
	user     string // "": any
	digests  map[evidence.Digest]bool
	required bool
}

// agentRule is [agent]: which agents may have written to the log.
type agentRule struct {
	versions map[string]bool          // empty: any
	digests  map[evidence.Digest]bool // empty: any
}

// callerRule is [caller]: who may have asked for the statement.
type callerRule struct {
	unit        string
	uid         *uint32
	app         string
	executables map[evidence.Digest]bool // empty: any
	covered     bool
}
