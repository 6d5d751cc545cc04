// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"bytes"
	"cmp"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// AzureBase is the metadata service of Azure. Only a machine there reaches it, by a link-local
// address and without TLS: the answer is not trusted, as none is that this package fetches.
const AzureBase = "http://169.254.169.254"

const (
	azurePath = "/metadata/THIM/amd/certification"
	maxAzure  = 64 << 10 // bytes of the answer; a real one has about 7,000
)

// Azure fetches the certificate of this machine's chip and those above it from the metadata
// service of Azure, as PEM, the chip's first. It must fit each report that is given.
func (c *Client) Azure(ctx context.Context, reports ...*snp.Report) ([]byte, error) {
	from := *c
	if from.header = (http.Header{"Metadata": {"true"}}); from.Base == "" {
		from.Base = AzureBase
	}
	if from.HTTP == nil { // the service answers no proxy
		from.HTTP = &http.Client{CheckRedirect: plain.CheckRedirect, Transport: &http.Transport{MaxResponseHeaderBytes: maxAzure}}
	}
	var out []byte
	var other error
	_, err := from.get(ctx, azurePath, maxAzure, func(b []byte) error {
		certificates, leaf, err := azureCertificates(b)
		if err != nil {
			return err
		}
		out = certificates
		for _, r := range reports {
			other = cmp.Or(other, Fits(leaf, r))
		}
		return other
	})
	if err == nil {
		return out, nil
	}
	if page, ok := errors.AsType[*PageError](err); ok {
		page.Other = other != nil
	}
	return nil, err
}

// Fits returns an error if leaf is not the certificate of the key that signs reports as r is. It
// verifies no signature. A report in which the host masks the chip is of any.
func Fits(leaf *snp.EndorsementKey, r *snp.Report) error {
	masked := r.ChipID == [len(r.ChipID)]byte{}
	switch p := r.Product(); {
	case leaf.Signer != r.KeyInfo.Signer():
		return fmt.Errorf("it is the certificate of a %v, and the report is signed by a %v", leaf.Signer, r.KeyInfo.Signer())
	case p != snp.ProductUnknown && leaf.Product != p:
		return fmt.Errorf("it is the certificate of a processor %v, and the report is of a %v", leaf.Product, p)
	case leaf.Signer == snp.SignerVCEK && !masked && !bytes.Equal(leaf.HWID, r.ChipID[:len(leaf.HWID)]):
		return fmt.Errorf("it is the certificate of another chip (%.8x…) than the report's (%.8x…)", leaf.HWID, r.ChipID)
	case leaf.TCB != r.ReportedTCB:
		return fmt.Errorf("it is the certificate of another TCB (%v) than the report's (%v)", leaf.TCB, r.ReportedTCB)
	}
	return nil
}

// azureCertificates reads the answer: a JSON object with PEM in vcekCert and certificateChain.
func azureCertificates(b []byte) ([]byte, *snp.EndorsementKey, error) {
	var v struct {
		VCEK  string `json:"vcekCert"`
		Chain string `json:"certificateChain"`
	}
	if err := strictjson.DecodeForeign(b, maxAzure, &v); err != nil {
		return nil, nil, err
	}
	ders, err := snp.DecodeCertificates([]byte(v.VCEK + "\n" + v.Chain))
	if err != nil {
		return nil, nil, err
	}
	leaves, issuers, _ := snp.SortCertificates(ders)
	if len(leaves) != 1 || len(issuers) == 0 {
		return nil, nil, fmt.Errorf("it has %d certificates of chips and %d above them, want 1 and some", len(leaves), len(issuers))
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaves[0].Certificate.Raw})
	for _, x := range issuers {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Raw})...)
	}
	return out, leaves[0], nil
}
