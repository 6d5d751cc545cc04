// SPDX-License-Identifier: Apache-2.0

package registers_test

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/tpm/registers"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

var allBanks = []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512}

func selection(t *testing.T, s string) pcr.Selection {
	t.Helper()
	sel, err := pcr.ParseSelection(s)
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

// case 21: a PCR that software can reset, or that locality 0 cannot extend, is refused.
func TestCheckIndex(t *testing.T) {
	s := swtpm.Start(t)
	for i := range uint32(pcr.Count + 2) {
		err := registers.CheckIndex(s, i)
		var index *registers.IndexError
		switch good := i < 16; {
		case good && err != nil:
			t.Errorf("PCR %d: %v", i, err)
		case !good && (!errors.As(err, &index) || index.Index != i):
			t.Errorf("PCR %d: got %v, want an IndexError", i, err)
		case i >= pcr.Count && index.Reason != "the last PCR is 23":
			t.Errorf("PCR %d: %v", i, err)
		}
	}
}

// A property that the TPM does not list is not taken as harmless.
func TestCheckIndexSilentTPM(t *testing.T) {
	all := []byte{0xff, 0xff, 0xff}
	none := []byte{0, 0, 0}
	prop := func(tag tpm2.TPMPTPCR, bits []byte) tpm2.TPMSTaggedPCRSelect {
		return tpm2.TPMSTaggedPCRSelect{Tag: tag, PCRSelect: bits}
	}
	for name, c := range map[string]struct {
		props []tpm2.TPMSTaggedPCRSelect
		banks []tpm2.TPMSPCRSelection
		want  string // "" if no error
	}{
		"good":               {props: []tpm2.TPMSTaggedPCRSelect{prop(1, all), prop(2, none)}},
		"nothing said":       {want: "does not say which PCRs locality 0 can extend"},
		"not extendable":     {props: []tpm2.TPMSTaggedPCRSelect{prop(1, none), prop(2, none)}, want: "locality 0 cannot extend it"},
		"reset not said":     {props: []tpm2.TPMSTaggedPCRSelect{prop(1, all)}, want: "does not say which PCRs locality 0 can reset"},
		"reset, locality 3":  {props: []tpm2.TPMSTaggedPCRSelect{prop(1, all), prop(2, none), prop(8, all)}, want: "locality 3"},
		"reset by D-RTM":     {props: []tpm2.TPMSTaggedPCRSelect{prop(1, all), prop(2, none), prop(0x12, all)}, want: "D-RTM"},
		"out of order":       {props: []tpm2.TPMSTaggedPCRSelect{prop(2, none), prop(1, all)}, want: "out of order"},
		"PCR past the last":  {props: []tpm2.TPMSTaggedPCRSelect{prop(1, []byte{0, 0, 0, 1})}, want: "PCR 24"},
		"absent from a bank": {props: []tpm2.TPMSTaggedPCRSelect{prop(1, all), prop(2, none)}, banks: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: all}, {Hash: tpm2.TPMAlgSHA1, PCRSelect: []byte{1, 0, 0}}}, want: "bank sha1 is active without it"},
	} {
		banks := c.banks
		if banks == nil {
			banks = []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: all}}
		}
		err := registers.CheckIndex(&lying{props: c.props, banks: banks}, 14)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// A TPM that lets no software reset PCR 16 is still refused: no verifier would accept its log.
func TestCheckIndexOfLyingTPM(t *testing.T) {
	all, none := []byte{0xff, 0xff, 0xff}, []byte{0, 0, 0}
	l := &lying{
		props: []tpm2.TPMSTaggedPCRSelect{{Tag: 1, PCRSelect: all}, {Tag: 2, PCRSelect: none}},
		banks: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: all}},
	}
	for i := range uint32(pcr.Count) {
		err := registers.CheckIndex(l, i)
		if good := i <= pcr.LastStatic; good != (err == nil) || !good && !strings.Contains(err.Error(), "verifiers accept no log") {
			t.Errorf("PCR %d: %v", i, err)
		}
	}
}

// An active bank that cannot be hashed is refused, with the command that helps.
func TestActiveBanksUnknown(t *testing.T) {
	all, none := []byte{0xff, 0xff, 0xff}, []byte{0, 0, 0}
	bank := func(alg uint16, bits []byte) tpm2.TPMSPCRSelection {
		return tpm2.TPMSPCRSelection{Hash: tpm2.TPMIAlgHash(alg), PCRSelect: bits}
	}
	for name, c := range map[string]struct {
		banks   []tpm2.TPMSPCRSelection
		command string // of the UnknownBankError
		want    string // of another error
	}{
		"sm3":              {banks: []tpm2.TPMSPCRSelection{bank(0x0b, all), bank(0x12, all)}, command: "tpm2_pcrallocate sha256:all+sm3_256:none"},
		"sha3 and none":    {banks: []tpm2.TPMSPCRSelection{bank(0x04, all), bank(0x0b, all), bank(0x27, all), bank(0x28, all), bank(0x12, none)}, command: "tpm2_pcrallocate sha1:all+sha256:all+sha3_256:none+sha3_384:none"},
		"only unknown":     {banks: []tpm2.TPMSPCRSelection{bank(0x29, all)}, command: "tpm2_pcrallocate sha256:all+sha3_512:none"},
		"without a name":   {banks: []tpm2.TPMSPCRSelection{bank(0x0b, all), bank(0x99, []byte{1})}, command: "tpm2_pcrallocate sha256:all+0x99:none"},
		"none active":      {banks: []tpm2.TPMSPCRSelection{bank(0x0b, none)}, want: "no bank is active"},
		"none listed":      {want: "no bank is active"},
		"twice":            {banks: []tpm2.TPMSPCRSelection{bank(0x0b, all), bank(0x0b, all)}, want: "twice"},
		"seventeen":        {banks: make([]tpm2.TPMSPCRSelection, 17), want: "17 banks"},
		"PCR past the end": {banks: []tpm2.TPMSPCRSelection{bank(0x0b, []byte{1, 0, 0, 1})}, want: "PCR 24"},
	} {
		_, err := registers.ActiveBanks(&lying{banks: c.banks})
		var unknown *registers.UnknownBankError
		switch {
		case c.command != "" && (!errors.As(err, &unknown) || unknown.Command() != c.command || !strings.Contains(err.Error(), c.command)):
			t.Errorf("%s: got %v, want it to name %q", name, err, c.command)
		case name == "sm3" && !strings.HasPrefix(err.Error(), "PCR bank sm3_256 is active"):
			t.Errorf("%s: got %v, want it to name %q", name, err, c.command)
		case c.command == "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// case 22: every active bank is extended, exactly once, whatever banks there are.
func TestExtendAllActiveBanks(t *testing.T) {
	for _, banks := range [][]pcr.Algorithm{{pcr.SHA256}, {pcr.SHA1, pcr.SHA256}, {pcr.SHA256, pcr.SHA384}, allBanks} {
		t.Run(fmt.Sprint(banks), func(t *testing.T) {
			s := swtpm.Start(t, swtpm.WithBanks(banks...))
			active, err := registers.ActiveBanks(s)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(active) != fmt.Sprint(banks) {
				t.Fatalf("active banks %v, want %v", active, banks)
			}
			content := []byte("what ran")
			if err := registers.Extend(s, 14, pcr.Digests(active, content)); err != nil {
				t.Fatal(err)
			}
			for _, a := range banks {
				got, err := registers.Read(s, pcr.Selection{{Algorithm: a, PCRs: []uint32{13, 14}}})
				if err != nil {
					t.Fatal(err)
				}
				// PCR_new = H(PCR_old || digest), TPM 2.0 Part 1.
				if want := a.Sum(make([]byte, a.Size()), a.Sum(content)); !bytes.Equal(got[a][14], want) {
					t.Errorf("bank %s: PCR 14 is %x, want %x", a, got[a][14], want)
				}
				if !bytes.Equal(got[a][13], make([]byte, a.Size())) {
					t.Errorf("bank %s: PCR 13 moved", a)
				}
			}
		})
	}
}

// case 22: an extend that leaves a bank out, or names one twice, reaches no bank.
func TestExtendRefused(t *testing.T) {
	s := swtpm.Start(t, swtpm.WithBanks(pcr.SHA1, pcr.SHA256))
	good := pcr.Digests([]pcr.Algorithm{pcr.SHA1, pcr.SHA256}, []byte("x"))
	for name, c := range map[string]struct {
		index   uint32
		digests []pcr.Digest
		want    string
	}{
		"bank left out":    {14, good[:1], "no digest for active bank sha256"},
		"nothing":          {14, nil, "no digest for active bank sha1"},
		"bank twice":       {14, append(good[:2:2], good[1]), "bank sha256 is named twice"},
		"inactive bank":    {14, append(good[:2:2], pcr.Digests([]pcr.Algorithm{pcr.SHA384}, nil)...), "bank sha384 is not active"},
		"unknown bank":     {14, append(good[:2:2], pcr.Digest{Algorithm: 0x12, Value: make([]byte, 32)}), "is not active"},
		"short digest":     {14, []pcr.Digest{good[0], {Algorithm: pcr.SHA256, Value: make([]byte, 31)}}, "digest of 31 bytes"},
		"PCR past the end": {24, good, "the last PCR is 23"},
		"locality":         {17, good, "TPM_RC_LOCALITY"},
	} {
		err := registers.Extend(s, c.index, c.digests)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	v, err := registers.Read(s, selection(t, "sha1:14+sha256:14"))
	if err != nil {
		t.Fatal(err)
	}
	for a, m := range v {
		if !bytes.Equal(m[14], make([]byte, a.Size())) {
			t.Errorf("bank %s was extended", a)
		}
	}
}

// case 34: values that are read with several commands are of one moment, also if
// another program extends between the commands.
func TestReadConsistent(t *testing.T) {
	s := swtpm.Start(t)
	sel := selection(t, "sha1:0-15+sha256:0-15+sha384:0-15+sha512:0-15")
	extend := func(i uint32, n int) {
		if err := registers.Extend(s, i, pcr.Digests(allBanks, fmt.Append(nil, n))); err != nil {
			t.Fatal(err)
		}
	}
	// Between any two commands, PCR 15 and then PCR 0 are extended with the same
	// content: at every moment PCR 15 is as far as PCR 0, or one step ahead.
	steps := map[string]int{string(make([]byte, 32)): 0}
	last := make([]byte, 32)
	for n := range 100 {
		last = pcr.SHA256.Sum(last, pcr.SHA256.Sum(fmt.Append(nil, n)))
		steps[string(last)] = n + 1
	}
	const interruptions = 5
	n := 0
	between := hook(func(send func() ([]byte, error)) ([]byte, error) {
		rsp, err := send()
		if n < interruptions {
			extend(15, n)
			extend(0, n)
			n++
		}
		return rsp, err
	})
	v, err := registers.Read(between.over(s), sel)
	if err != nil {
		t.Fatal(err)
	}
	if n != interruptions {
		t.Fatalf("%d interruptions, want %d: the test does not test", n, interruptions)
	}
	first, ok := steps[string(v[pcr.SHA256][0])]
	second, ok2 := steps[string(v[pcr.SHA256][15])]
	if !ok || !ok2 || first != second || first != interruptions {
		t.Errorf("PCR 0 after %d steps (known %t), PCR 15 after %d (known %t): not of one moment", first, ok, second, ok2)
	}

	// Without end it is an error, not a wrong answer.
	n = 0
	endless := hook(func(send func() ([]byte, error)) ([]byte, error) {
		rsp, err := send()
		extend(15, n)
		n++
		return rsp, err
	})
	if _, err := registers.Read(endless.over(s), sel); !errors.Is(err, registers.ErrUnsettled) {
		t.Errorf("got %v, want ErrUnsettled", err)
	}
}

func TestReadInactiveBank(t *testing.T) {
	s := swtpm.Start(t, swtpm.WithBanks(pcr.SHA256))
	_, err := registers.Read(s, selection(t, "sha256:14+sha384:14"))
	if err == nil || !strings.Contains(err.Error(), "PCR 14 of bank sha384: is the bank active?") {
		t.Errorf("got %v", err)
	}
}

// A TPM that answers something else than it was asked is not believed.
func TestReadLyingTPM(t *testing.T) {
	sel := selection(t, "sha256:3")
	one := func(alg tpm2.TPMAlgID, bits ...byte) tpm2.TPMLPCRSelection {
		return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: alg, PCRSelect: bits}}}
	}
	digests := func(sizes ...int) (l tpm2.TPMLDigest) {
		for _, n := range sizes {
			l.Digests = append(l.Digests, tpm2.TPM2BDigest{Buffer: make([]byte, n)})
		}
		return l
	}
	for name, c := range map[string]struct {
		selection tpm2.TPMLPCRSelection
		values    tpm2.TPMLDigest
		want      string // "" if no error
	}{
		"good":           {one(tpm2.TPMAlgSHA256, 8, 0, 0), digests(32), ""},
		"another PCR":    {one(tpm2.TPMAlgSHA256, 4, 0, 0), digests(32), "was not asked for"},
		"another bank":   {one(tpm2.TPMAlgSHA1, 8, 0, 0), digests(20), "was not asked for"},
		"one more":       {one(tpm2.TPMAlgSHA256, 24, 0, 0), digests(32, 32), "was not asked for"},
		"value too few":  {one(tpm2.TPMAlgSHA256, 8, 0, 0), digests(), "sends no value"},
		"value too many": {one(tpm2.TPMAlgSHA256, 8, 0, 0), digests(32, 32), "without naming their PCRs"},
		"wrong size":     {one(tpm2.TPMAlgSHA256, 8, 0, 0), digests(20), "20 bytes"},
		"nothing":        {one(tpm2.TPMAlgSHA256, 0, 0, 0), digests(), "is the bank active?"},
		"past the last":  {one(tpm2.TPMAlgSHA256, 8, 0, 0, 1), digests(32, 32), "PCR 24"},
	} {
		_, err := registers.Read(&lying{read: &tpm2.PCRReadResponse{PCRSelectionOut: c.selection, PCRValues: c.values}}, sel)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// The composite is what a quote of a real TPM says.
func TestCompositeOfTPM(t *testing.T) {
	s := swtpm.Start(t)
	ak, err := tpmkeys.Provision(s, nil, tpmkeys.Auths{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(4) {
		if err := registers.Extend(s, 12+i, pcr.Digests(allBanks, []byte{byte(i)})); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"sha256:14", "sha256:0-15", "sha384:14+sha256:0,15", "sha512:12,14+sha1:13", "sha1:0-23+sha256:0-23+sha384:0-23+sha512:0-23"} {
		sel := selection(t, text)
		v, err := registers.Read(s, sel)
		if err != nil {
			t.Fatal(err)
		}
		got, err := sel.Composite(v, crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		signed, _, err := ak.Quote(s, nil, sel)
		if err != nil {
			t.Fatal(err)
		}
		attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](signed)
		if err != nil {
			t.Fatal(err)
		}
		quote, err := attest.Attested.Quote()
		if err != nil {
			t.Fatal(err)
		}
		back, err := pcr.SelectionFromTPM(quote.PCRSelect)
		if err != nil || back.String() != sel.String() {
			t.Errorf("%s: the quote selects %s, %v", text, back, err)
		}
		if want := quote.PCRDigest.Buffer; !bytes.Equal(got, want) {
			t.Errorf("%s: composite %x, the TPM says %x", text, got, want)
		}
	}
}
