// SPDX-License-Identifier: Apache-2.0

package verify

// The text form of a policy, as go-toml fills it. Pointers tell an absent key from
// a zero; every value that has a form of its own (hexadecimal, durations, names) is
// text here and is converted by policyReader, which knows its line.

type policyText struct {
	Version           *int64             `toml:"version"`
	Products          *[]string          `toml:"products"`
	Signers           *[]string          `toml:"signers"`
	MinReportVersion  *int64             `toml:"min_report_version"`
	VMPL              *[]int64           `toml:"vmpl"`
	Binding           *string            `toml:"binding"`
	Freshness         *string            `toml:"freshness"`
	MaxAnchorAge      *string            `toml:"max_anchor_age"`
	AllowProvisional  *bool              `toml:"allow_provisional_firmware"`
	Revocation        *string            `toml:"revocation"`
	UnlistedLaunch    *string            `toml:"unlisted_launch"`
	DeniedLaunches    *[]string          `toml:"denied_measurements"`
	Chips             *[]string          `toml:"chips"`
	DeniedChips       *[]string          `toml:"denied_chips"`
	AllowMaskedChip   *bool              `toml:"allow_masked_chip"`
	AKNames           *[]string          `toml:"ak_names"`
	AKOrigin          *string            `toml:"ak_origin"`
	EKRoots           *string            `toml:"ek_roots"`
	Enrolment         []enrolmentText    `toml:"enrolment"`
	Log               *string            `toml:"log"`
	FirmwareLog       *string            `toml:"firmware_log"`
	TolerateGaps      *bool              `toml:"tolerate_gaps"`
	TolerateUnmeasure *bool              `toml:"tolerate_unmeasured"`
	UnlistedApps      *string            `toml:"unlisted_apps"`
	Launch            []launchText       `toml:"launch"`
	Guest             guestText          `toml:"guest_policy"`
	Image             imageText          `toml:"image"`
	Platform          platformText       `toml:"platform"`
	TCB               map[string]tcbText `toml:"tcb"`
	Mitigations       mitigationsText    `toml:"mitigations"`
	PCR               []pcrText          `toml:"pcr"`
	StartValue        []startText        `toml:"start_value"`
	App               []appText          `toml:"app"`
	Agent             agentText          `toml:"agent"`
	Caller            callerText         `toml:"caller"`
}

type launchText struct {
	Measurement *string `toml:"measurement"`
	Kind        *string `toml:"kind"`
	Covers      *string `toml:"covers"`
	Label       *string `toml:"label"`
}

// enrolmentText is a keys.Enrolment, member for member.
type enrolmentText struct {
	Type           *string `toml:"type"`
	EK             *string `toml:"ek"`
	AK             *string `toml:"ak"`
	EKIssuer       *string `toml:"ek_issuer"`
	EKCertificates *string `toml:"ek_certificates"`
	Enrolled       *string `toml:"enrolled"`
}

type guestText struct {
	AllowDebug          *bool   `toml:"allow_debug"`
	AllowMigrationAgent *bool   `toml:"allow_migration_agent"`
	AllowSMT            *bool   `toml:"allow_smt"`
	AllowCXL            *bool   `toml:"allow_cxl"`
	AllowReserved       *bool   `toml:"allow_reserved_bits"`
	SingleSocket        *bool   `toml:"require_single_socket"`
	AES256XTS           *bool   `toml:"require_aes_256_xts"`
	RAPLDisabled        *bool   `toml:"require_rapl_disabled"`
	CiphertextHiding    *bool   `toml:"require_ciphertext_hiding"`
	PageSwapDisabled    *bool   `toml:"require_page_swap_disabled"`
	MinABI              *string `toml:"min_abi"`
}

type imageText struct {
	MinGuestSVN *int64    `toml:"min_guest_svn"`
	FamilyID    *string   `toml:"family_id"`
	ImageID     *string   `toml:"image_id"`
	HostData    *[]string `toml:"host_data"`
	IDKeys      *[]string `toml:"id_key_digests"`
	AuthorKeys  *[]string `toml:"author_key_digests"`
}

type platformText struct {
	Require     *[]string `toml:"require"`
	Refuse      *[]string `toml:"refuse"`
	UnknownBits *string   `toml:"unknown_bits"`
}

type tcbText struct {
	Reported  map[string]int64 `toml:"reported"`
	Committed map[string]int64 `toml:"committed"`
	Launch    map[string]int64 `toml:"launch"`
}

type mitigationsText struct {
	Launch  *int64 `toml:"launch"`
	Current *int64 `toml:"current"`
}

type pcrText struct {
	Bank   *string   `toml:"bank"`
	Index  *int64    `toml:"index"`
	Values *[]string `toml:"values"`
}

type startText struct {
	Bank  *string `toml:"bank"`
	Value *string `toml:"value"`
}

type appText struct {
	Name     *string   `toml:"name"`
	Unit     *string   `toml:"unit"`
	User     *string   `toml:"user"`
	Digests  *[]string `toml:"digests"`
	Required *bool     `toml:"required"`
}

type agentText struct {
	Versions *[]string `toml:"versions"`
	Digests  *[]string `toml:"digests"`
}

type callerText struct {
	Unit        *string   `toml:"unit"`
	UID         *int64    `toml:"uid"`
	App         *string   `toml:"app"`
	Executables *[]string `toml:"executables"`
	Covered     *bool     `toml:"covered"`
}
