// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/launch"
	"github.com/cvm-agentd/agentd/verify/snp"
)

const policyIDBlockUsage = `Usage: agentctl policy id-block COMMAND [flags]

Make and check ID blocks, with which the owner of a guest signs what a host may launch.
Reports of the guest then name the key, and a policy can demand that (docs/launch.md).

  create   sign a launch measurement and a guest policy
  check    check an ID block and its signatures

Example:
  agentctl policy id-block create --measurement 5f2b... --id-key id.pem \
      --block id-block --auth id-auth
`

const policyIDBlockCreateUsage = `Usage: agentctl policy id-block create --measurement VALUE --id-key FILE --block FILE --auth FILE [flags]

Sign a launch measurement and a guest policy with a key of your own. The command
writes the ID block and its ID authentication information in base64, as QEMU and
libvirt take them. It prints the [image] rule with the digests of the keys.

  --measurement VALUE    launch measurement, 48 bytes: hexadecimal, base64 or @FILE;
                         agentctl policy launch computes it
  --id-key FILE          private key for the ID block, ECDSA on P-384, PEM
  --author-key FILE      private key that signs the ID key, for the owner of many
                         guests: ECDSA on P-384, PEM
  --guest-policy N       guest policy that the guest is launched with (default: 0x30000)
  --guest-svn N          security version of the guest (default: 0)
  --family-id VALUE      16 bytes that reports show: hexadecimal, base64 or @FILE
  --image-id VALUE       likewise
  --block FILE           file to write the ID block to
  --auth FILE            file to write the ID authentication information to
  --json                 digests and content as JSON

The same keys and values make the same signatures (RFC 6979), so two builds agree.

Example:
  openssl ecparam -name secp384r1 -genkey -noout -out id.pem
  agentctl policy id-block create --measurement 5f2b... --id-key id.pem \
      --guest-svn 3 --block id-block --auth id-auth >> policy.toml
`

const policyIDBlockCheckUsage = `Usage: agentctl policy id-block check --block FILE --auth FILE [--measurement VALUE]

Check that the keys in ID authentication information signed the ID block. The command
prints the [image] rule with their digests. Whose keys they are is for you to know. The
exit code is 2 if a signature is wrong, and 5 if the block is over another measurement.

  --block FILE           the ID block, 96 bytes, or base64 of it
  --auth FILE            the ID authentication information, 4096 bytes, or base64 of it
  --measurement VALUE    launch measurement that the block must be over: hexadecimal,
                         base64 or @FILE
  --json                 digests and content as JSON

Example:
  agentctl policy id-block check --block id-block --auth id-auth
`

// idBlock is what policy id-block prints as JSON.
type idBlock struct {
	Measurement     evidence.Bytes `json:"measurement"`              // launch measurement, 48 bytes
	GuestPolicy     string         `json:"guestPolicy"`              // policy that the guest must be launched with, after 0x
	GuestSVN        uint32         `json:"guestSVN"`                 // security version of the guest
	FamilyID        evidence.Bytes `json:"familyId"`                 // 16 bytes
	ImageID         evidence.Bytes `json:"imageId"`                  // 16 bytes
	IDKeyDigest     evidence.Bytes `json:"idKeyDigest"`              // ID_KEY_DIGEST of reports, 48 bytes
	AuthorKeyDigest evidence.Bytes `json:"authorKeyDigest,omitzero"` // AUTHOR_KEY_DIGEST of reports, 48 bytes; absent without an author key
	Dangers         []string       `json:"dangers"`                  // what the guest policy lets the host do, in words; empty if nothing unusual
}

// policyDangers returns in words what a guest policy lets the host do that gives the guest away.
func policyDangers(p snp.Policy) []string {
	out := []string{}
	if p.Has(snp.PolicyDebug) {
		out = append(out, "DANGER: the guest policy allows debugging, so the host may read and write the guest's memory.")
	}
	if p.Has(snp.PolicyMigrationAgent) {
		out = append(out, "DANGER: the guest policy allows a migration agent, so the guest's state can move to another machine.")
	}
	return out
}

func policyIDBlockCommand(t *terminal) *cobra.Command {
	return group(t, "id-block", policyIDBlockUsage, policyIDBlockCreateCommand(t), policyIDBlockCheckCommand(t))
}

// idBlockFlags are the flags of policy id-block create.
type idBlockFlags struct {
	measurement, idKey, authorKey, family, image, block, auth string
	policy                                                    uint64
	svn                                                       uint32
}

func policyIDBlockCreateCommand(t *terminal) *cobra.Command {
	var f idBlockFlags
	c := command("create", policyIDBlockCreateUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if err := missing(map[string]string{"measurement": f.measurement, "id-key": f.idKey, "block": f.block, "auth": f.auth}); err != nil {
			return misuse(err).withHint(helpHint(c))
		}
		if f.block == "-" || f.auth == "-" {
			return misuse(errors.New("--block and --auth are files: standard output has the rule for a policy"))
		}
		b, a, err := t.signIDBlock(&f)
		if err != nil {
			return err
		}
		if err := t.writeOutput(f.block, inLine(b.Bytes())); err != nil {
			return err
		}
		if err := t.writeOutput(f.auth, inLine(a.Bytes())); err != nil {
			return err
		}
		return t.printIDBlock(b, a)
	})
	flags := c.Flags()
	flags.StringVar(&f.measurement, "measurement", "", "")
	flags.StringVar(&f.idKey, "id-key", "", "")
	flags.StringVar(&f.authorKey, "author-key", "", "")
	flags.StringVar(&f.family, "family-id", "", "")
	flags.StringVar(&f.image, "image-id", "", "")
	flags.StringVar(&f.block, "block", "", "")
	flags.StringVar(&f.auth, "auth", "", "")
	flags.Uint64Var(&f.policy, "guest-policy", uint64(snp.PolicyReservedOne|snp.PolicySMT), "")
	flags.Uint32Var(&f.svn, "guest-svn", 0, "")
	return c
}

// missing returns an error that names a flag without a value.
func missing(values map[string]string) error {
	for _, name := range []string{"measurement", "id-key", "block", "auth"} {
		if v, asked := values[name]; asked && v == "" {
			return fmt.Errorf("--%s is missing", name)
		}
	}
	return nil
}

// inLine returns base64 as the hosts take it.
func inLine(b []byte) []byte { return append([]byte(base64.StdEncoding.EncodeToString(b)), '\n') }

// signIDBlock reads values and keys, and signs.
func (t *terminal) signIDBlock(f *idBlockFlags) (*launch.IDBlock, *launch.IDAuth, error) {
	b := &launch.IDBlock{GuestSVN: f.svn, Policy: f.policy}
	for _, v := range []struct {
		flag, text string
		to         []byte
	}{{"measurement", f.measurement, b.Measurement[:]}, {"family-id", f.family, b.FamilyID[:]}, {"image-id", f.image, b.ImageID[:]}} {
		if v.text == "" {
			continue
		}
		value, err := t.parseBytes("--"+v.flag, v.text, len(v.to), len(v.to))
		if err != nil {
			return nil, nil, err
		}
		copy(v.to, value)
	}
	id, err := t.readPrivateKey(f.idKey)
	if err != nil {
		return nil, nil, err
	}
	if f.authorKey == "" {
		a, err := launch.SignIDBlock(nil, b, id, nil)
		return b, a, misuseIf(err)
	}
	author, err := t.readPrivateKey(f.authorKey)
	if err != nil {
		return nil, nil, err
	}
	a, err := launch.SignIDBlock(nil, b, id, author)
	return b, a, misuseIf(err)
}

func policyIDBlockCheckCommand(t *terminal) *cobra.Command {
	var block, auth, measurement string
	c := command("check", policyIDBlockCheckUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if err := missing(map[string]string{"block": block, "auth": auth}); err != nil {
			return misuse(err).withHint(helpHint(c))
		}
		b, err := readAs(t, block, 2*launch.IDBlockSize, func(raw []byte) (*launch.IDBlock, error) {
			return launch.ParseIDBlock(outOfLine(raw, launch.IDBlockSize))
		})
		if err != nil {
			return err
		}
		a, err := readAs(t, auth, 2*launch.IDAuthSize, func(raw []byte) (*launch.IDAuth, error) {
			return launch.ParseIDAuth(outOfLine(raw, launch.IDAuthSize))
		})
		if err != nil {
			return err
		}
		if err := a.Verify(b); err != nil {
			return &exitError{code: exitBinding, err: err}
		}
		if measurement != "" {
			want, err := t.parseBytes("--measurement", measurement, launch.Size, launch.Size)
			if err != nil {
				return err
			}
			if !bytes.Equal(want, b.Measurement[:]) {
				return &exitError{code: exitPolicy, err: fmt.Errorf("the ID block is over launch measurement %x", b.Measurement)}
			}
		}
		return t.printIDBlock(b, a)
	})
	c.Flags().StringVar(&block, "block", "", "")
	c.Flags().StringVar(&auth, "auth", "", "")
	c.Flags().StringVar(&measurement, "measurement", "", "")
	return c
}

// outOfLine returns the bytes of a file that contains n bytes or base64 of them. It returns
// any other file as it is, for the parser to refuse.
func outOfLine(raw []byte, n int) []byte {
	if b, err := base64.StdEncoding.Strict().DecodeString(string(bytes.TrimSpace(raw))); err == nil && len(b) == n {
		return b
	}
	return raw
}

// printIDBlock prints the rule of a policy about the signer and the content of a block.
func (t *terminal) printIDBlock(b *launch.IDBlock, a *launch.IDAuth) error {
	id, author := a.IDKeyDigest(), a.AuthorKeyDigest()
	signed := author != [launch.Size]byte{}
	policy := snp.Policy(b.Policy)
	if t.json {
		out := idBlock{b.Measurement[:], policy.String(), b.GuestSVN, b.FamilyID[:], b.ImageID[:], id[:], nil, policyDangers(policy)}
		if signed {
			out.AuthorKeyDigest = author[:]
		}
		return t.writeJSON(out)
	}
	fmt.Fprintf(t.out, "# ID block over launch measurement %x\n# and guest policy %v. The signatures are right; whose keys these are is for you to know.\n", b.Measurement, policy)
	for _, danger := range policyDangers(policy) {
		fmt.Fprintf(t.out, "# %s\n", danger)
	}
	fmt.Fprintf(t.out, "[image]\nid_key_digests = [\"%x\"]\n", id)
	if signed {
		fmt.Fprintf(t.out, "author_key_digests = [\"%x\"]\n", author)
	}
	if b.GuestSVN > 0 {
		fmt.Fprintf(t.out, "min_guest_svn = %d\n", b.GuestSVN)
	}
	for _, v := range []struct {
		key string
		id  [16]byte
	}{{"family_id", b.FamilyID}, {"image_id", b.ImageID}} {
		if v.id != [16]byte{} {
			fmt.Fprintf(t.out, "%s = \"%x\"\n", v.key, v.id)
		}
	}
	return nil
}
