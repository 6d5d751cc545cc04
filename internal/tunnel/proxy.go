// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"crypto/tls"
	"fmt"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/cvm-agentd/agentd/attestedtls"
)

// Types of the values that a header of PROXY protocol v2 has from us, in the range that the protocol
// leaves to applications (docs/tunnel.md). A type never gets another meaning. Each value is text.
const (
	tlvVerdict   proxyproto.PP2Type = 0xE0 + iota // accepted, warned or none
	tlvCode                                       // of what was warned of
	tlvEvidence                                   // SHA-256 of the client's evidence
	tlvPolicy                                     // SHA-256 of the policy
	tlvUnit                                       // of the caller
	tlvContainer                                  // of the caller
	tlvAK                                         // name of the attestation key
	tlvLaunch                                     // launch measurement
	tlvBinding                                    // of the vTPM to the report
)

// maxTLV is the longest value that a header has from a client. A longer one is left out.
const maxTLV = 255

// verdictNone is the verdict if this end does not verify.
const verdictNone = "none"

// proxyHeader returns what the service is told of a connection before its first byte.
func proxyHeader(c *attestedtls.Conn, r *Record) ([]byte, error) {
	state := c.ConnectionState()
	values, err := headerTLVs(&state, c.Verdict(), r)
	if err != nil {
		return nil, err
	}
	h := proxyproto.HeaderProxyFromAddrs(2, c.RemoteAddr(), c.LocalAddr())
	if err := h.SetTLVs(values); err != nil {
		return nil, fmt.Errorf("make the header of PROXY protocol: %w", err)
	}
	return h.Format()
}

// headerTLVs returns all values of a header: those that the protocol defines, and ours.
func headerTLVs(state *tls.ConnectionState, v *attestedtls.Verdict, r *Record) ([]proxyproto.TLV, error) {
	values, err := standardTLVs(state, r)
	if err != nil {
		return nil, err
	}
	for _, x := range verdictTLVs(v) {
		if n := len(x.value); n > 0 && n <= maxTLV {
			values = append(values, proxyproto.TLV{Type: x.kind, Value: []byte(x.value)})
		}
	}
	return values, nil
}

// standardTLVs returns the values that the protocol itself defines.
func standardTLVs(state *tls.ConnectionState, r *Record) ([]proxyproto.TLV, error) {
	ssl := tlvparse.PP2SSL{Client: tlvparse.PP2_BITFIELD_CLIENT_SSL, Verify: 1, TLV: []proxyproto.TLV{
		{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte("TLSv1.3")},
		{Type: proxyproto.PP2_SUBTYPE_SSL_CIPHER, Value: []byte(tls.CipherSuiteName(state.CipherSuite))},
	}}
	if len(state.PeerCertificates) > 0 {
		ssl.Client |= tlvparse.PP2_BITFIELD_CLIENT_CERT_CONN
	}
	if len(state.VerifiedChains) > 0 { // not if evidence alone names the key
		ssl.Verify = 0
	}
	of, err := ssl.Marshal()
	if err != nil {
		return nil, fmt.Errorf("make the header of PROXY protocol: %w", err)
	}
	values := []proxyproto.TLV{
		{Type: proxyproto.PP2_TYPE_ALPN, Value: []byte(state.NegotiatedProtocol)},
		{Type: proxyproto.PP2_TYPE_UNIQUE_ID, Value: []byte(r.ID)},
		of,
	}
	if n := len(state.ServerName); n > 0 && n <= maxTLV { // the client chose it
		values = append(values, proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte(state.ServerName)})
	}
	return values, nil
}

// tlv is a value of ours.
type tlv struct {
	kind  proxyproto.PP2Type
	value string
}

// verdictTLVs returns the verdict on a client, and what is known of one that was accepted. Of evidence
// that was not accepted no claim is passed on.
func verdictTLVs(v *attestedtls.Verdict) []tlv {
	if v == nil {
		return []tlv{{tlvVerdict, verdictNone}}
	}
	out := []tlv{{tlvEvidence, v.Evidence.String()}}
	if v.Appraisal != nil {
		out = append(out, tlv{tlvPolicy, v.Appraisal.Policy})
	}
	if v.Refusal != nil || v.Claims == nil {
		out = append(out, tlv{tlvVerdict, verdictWarned})
		if v.Refusal != nil {
			out = append(out, tlv{tlvCode, string(v.Refusal.Code)})
		}
		return out
	}
	c := v.Claims
	out = append(out, tlv{tlvVerdict, verdictAccepted}, tlv{tlvUnit, c.Statement.Caller.Unit},
		tlv{tlvAK, c.AKName}, tlv{tlvLaunch, c.Machine.Measurement}, tlv{tlvBinding, string(v.Appraisal.Binding)})
	if x := c.Statement.Caller.Container; x != nil {
		out = append(out, tlv{tlvContainer, x.ID})
	}
	return out
}
