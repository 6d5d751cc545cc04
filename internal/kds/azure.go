// SPDX-License-Identifier: Apache-2.0

package kds

import (
	"context"
	"encoding/pem"
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
// service of Azure, as PEM, the chip's first.
func (c *Client) Azure(ctx context.Context) ([]byte, error) {
	from := *c
	if from.header = (http.Header{"Metadata": {"true"}}); from.Base == "" {
		from.Base = AzureBase
	}
	if from.HTTP == nil { // the service answers no proxy
		from.HTTP = &http.Client{CheckRedirect: plain.CheckRedirect, Transport: &http.Transport{}}
	}
	var out []byte
	_, err := from.get(ctx, azurePath, maxAzure, func(b []byte) (err error) {
		out, err = azureCertificates(b)
		return err
	})
	return out, err
}

// azureCertificates reads the answer: a JSON object with PEM in vcekCert and certificateChain.
func azureCertificates(b []byte) ([]byte, error) {
	var v struct {
		VCEK  string `json:"vcekCert"`
		Chain string `json:"certificateChain"`
	}
	if err := strictjson.DecodeForeign(b, maxAzure, &v); err != nil {
		return nil, err
	}
	ders, err := snp.DecodeCertificates([]byte(v.VCEK + "\n" + v.Chain))
	if err != nil {
		return nil, err
	}
	leaves, issuers, _ := snp.SortCertificates(ders)
	if len(leaves) != 1 || len(issuers) == 0 {
		return nil, fmt.Errorf("it has %d certificates of chips and %d above them, want 1 and some", len(leaves), len(issuers))
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaves[0].Certificate.Raw})
	for _, x := range issuers {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Raw})...)
	}
	return out, nil
}
