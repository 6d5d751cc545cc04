// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/verify/snp"
)

// Base is the address of AMD's service.
const Base = "https://kdsintf.amd.com"

// parameters name the levels of a TCB in an address.
var parameters = map[snp.Component]string{
	snp.FMC: "fmcSPL", snp.BootLoader: "blSPL", snp.TEE: "teeSPL", snp.SNP: "snpSPL", snp.Microcode: "ucodeSPL",
}

// hwidSize returns how many bytes of CHIP_ID name a chip: on Turin the first 8, and the
// service knows no longer form.
func hwidSize(p snp.Product) int {
	if p == snp.Turin {
		return 8
	}
	return 64
}

// vcekPath returns /vcek/v1/{product}/{hwid}?{levels}. Hwid may be the whole CHIP_ID.
func vcekPath(p snp.Product, hwid []byte, t snp.TCB) (string, error) {
	levels, _, err := t.Components(p)
	if err != nil {
		return "", err
	}
	n := hwidSize(p)
	if strings.Trim(string(hwid), "\x00") == "" {
		return "", errors.New("find the certificate of the chip: the report does not say which chip made it, because the host masks the chip's id: ask the host for the certificate, or put it into /etc/agentd/certs of the machine")
	}
	if len(hwid) < n {
		return "", fmt.Errorf("find the certificate of the chip: a chip id of %d bytes, want %d for %v", len(hwid), n, p)
	}
	var query []string
	for _, l := range levels { // in the order of the layout; the service accepts any
		query = append(query, parameters[l.Component]+"="+strconv.Itoa(int(l.Value)))
	}
	return fmt.Sprintf("/vcek/v1/%s/%s?%s", p, hex.EncodeToString(hwid[:n]), strings.Join(query, "&")), nil
}

// kind returns the part of an address that names the kind of key.
func kind(s snp.Signer) (string, error) {
	switch s {
	case snp.SignerVCEK:
		return "vcek", nil
	case snp.SignerVLEK:
		return "vlek", nil
	}
	return "", fmt.Errorf("the service has nothing for a signer of kind %v", s)
}

func join(base, path string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("address of the service: %w", err)
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return "", fmt.Errorf("address of the service %q: want https://HOST", base)
	}
	return strings.TrimSuffix(u.String(), "/") + path, nil
}
