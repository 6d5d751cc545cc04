// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/stricttoml"
	"github.com/cvm-agentd/agentd/internal/tunnel"
)

// tunnelKeys are the settings of both ends, from flags and from a file.
type tunnelKeys struct {
	Listen      string   `toml:"listen"`
	To          string   `toml:"to"`
	Certificate string   `toml:"certificate"`
	Key         string   `toml:"key"`
	Roots       string   `toml:"roots"`
	Attest      bool     `toml:"attest"`
	Audiences   []string `toml:"audiences"`
	Anchored    bool     `toml:"anchored_only"`
	Application string   `toml:"application"`

	Policy      string          `toml:"policy"`
	PolicyKeys  string          `toml:"policy_keys"`
	PolicyLeast uint64          `toml:"policy_number"`
	PolicyCount int             `toml:"policy_threshold"`
	Audience    string          `toml:"audience"`
	Fresh       bool            `toml:"fresh"`
	Warn        bool            `toml:"warn"`
	CloseOpen   bool            `toml:"close_open"`
	AnyProgram  bool            `toml:"accept_any_program_of_the_machine"`
	CRLs        []string        `toml:"crl"`
	ForEvidence []string        `toml:"evidence_certificate"`
	Collateral  string          `toml:"collateral"`
	Enrolments  string          `toml:"enrolments"`
	Continue    config.Duration `toml:"continue"`
	TestRoot    string          `toml:"trust_test_root_that_vouches_for_no_hardware"`

	Timeout     config.Duration `toml:"timeout"`
	Connect     config.Duration `toml:"connect_timeout"`
	Idle        config.Duration `toml:"idle_timeout"`
	Drain       config.Duration `toml:"drain_timeout"`
	Connections int             `toml:"max_connections"`
	PerAddress  int             `toml:"max_connections_per_address"`
	AccessLog   string          `toml:"access_log"`
	Metrics     string          `toml:"metrics"`

	ProxyProtocol string `toml:"proxy_protocol"` // of a serve end alone
	WellKnown     bool   `toml:"well_known"`     // the same

	AnyCertificate bool   `toml:"any_certificate"` // of a connect end alone
	ServerName     string `toml:"server_name"`     // the same
}

// tunnelFlags are the flags of a command, and the file that they name.
type tunnelFlags struct {
	role  tunnel.Role
	file  string
	given tunnelKeys // by defaults and flags
	set   *pflag.FlagSet
}

func (f *tunnelFlags) add(c *cobra.Command, role tunnel.Role) {
	k, l := &f.given, tunnel.DefaultLimits()
	f.role, f.set = role, c.Flags()
	flags := f.set
	flags.StringVar(&f.file, "config", "", "")
	flags.StringVar(&k.Listen, "listen", "", "")
	flags.StringVar(&k.To, "to", "", "")
	flags.StringVar(&k.Certificate, "certificate", "", "")
	flags.StringVar(&k.Key, "key", "", "")
	flags.StringVar(&k.Roots, "roots", "", "")
	flags.BoolVar(&k.Attest, "attest", role == tunnel.Serve, "")
	flags.StringArrayVar(&k.Audiences, "audiences", nil, "")
	flags.BoolVar(&k.Anchored, "anchored-only", false, "")
	flags.StringVar(&k.Application, "application", "", "")
	flags.StringVar(&k.Policy, "policy", "", "")
	flags.StringVar(&k.PolicyKeys, "policy-keys", "", "")
	flags.Uint64Var(&k.PolicyLeast, "policy-number", 0, "")
	flags.IntVar(&k.PolicyCount, "policy-threshold", 1, "")
	flags.StringVar(&k.Audience, "audience", "", "")
	flags.BoolVar(&k.Fresh, "fresh", false, "")
	flags.BoolVar(&k.Warn, "warn", false, "")
	flags.BoolVar(&k.CloseOpen, "close-open", false, "")
	flags.BoolVar(&k.AnyProgram, "accept-any-program-of-the-machine", false, "")
	flags.StringArrayVar(&k.CRLs, "crl", nil, "")
	flags.StringArrayVar(&k.ForEvidence, "evidence-certificate", nil, "")
	flags.StringVar(&k.Collateral, "collateral", "", "")
	flags.StringVar(&k.Enrolments, "enrolments", "", "")
	flags.DurationVar((*time.Duration)(&k.Continue), "continue", 0, "")
	flags.StringVar(&k.AccessLog, "access-log", "", "")
	flags.StringVar(&k.Metrics, "metrics", "", "")
	flags.StringVar(&k.TestRoot, "trust-test-root-that-vouches-for-no-hardware", "", "")
	flags.DurationVar((*time.Duration)(&k.Timeout), "timeout", l.Exchange, "")
	flags.DurationVar((*time.Duration)(&k.Connect), "connect-timeout", l.Connect, "")
	flags.DurationVar((*time.Duration)(&k.Idle), "idle-timeout", l.Idle, "")
	flags.DurationVar((*time.Duration)(&k.Drain), "drain-timeout", l.Drain, "")
	flags.IntVar(&k.Connections, "max-connections", l.Connections, "")
	flags.IntVar(&k.PerAddress, "max-connections-per-address", l.PerAddress, "")
	if role == tunnel.Connect {
		flags.BoolVar(&k.AnyCertificate, "any-certificate", false, "")
		flags.StringVar(&k.ServerName, "server-name", "", "")
	} else {
		flags.StringVar(&k.ProxyProtocol, "proxy-protocol", "", "")
		flags.BoolVar(&k.WellKnown, "well-known", false, "")
	}
}

// notOf are the keys that an end does not have.
var notOf = map[tunnel.Role][]string{
	tunnel.Serve:   {"any_certificate", "server_name"},
	tunnel.Connect: {"proxy_protocol", "well_known"},
}

// maxTunnelConfig is the largest file of settings that is read, in bytes.
const maxTunnelConfig = 64 << 10

// keys returns the settings: those of the file, if there is one, over defaults and flags.
func (f *tunnelFlags) keys() (*tunnelKeys, error) {
	k := f.given
	if f.file == "" {
		return &k, k.check(f.role)
	}
	b, err := durable.ReadTrusted(f.file, maxTunnelConfig)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.file, durable.Cause(err))
	}
	places, err := stricttoml.Decode(b, maxTunnelConfig, &k)
	if err != nil {
		return nil, inFile(f.file, err)
	}
	for _, key := range notOf[f.role] {
		if places.Given(key) {
			return nil, inFile(f.file, places.Errorf(key, "this is for the other end: agentctl tunnel %s does not know it", f.role))
		}
	}
	f.set.Visit(func(x *pflag.Flag) {
		if key := strings.ReplaceAll(x.Name, "-", "_"); err == nil && places.Given(key) {
			err = inFile(f.file, places.Errorf(key, "--%s is given too: leave one of the two out", x.Name))
		}
	})
	if err == nil {
		if err = k.check(f.role); err != nil {
			err = fmt.Errorf("%s: %w", f.file, err)
		}
	}
	return &k, err
}

// inFile names the file of a fault of stricttoml, with line and column.
func inFile(name string, err error) error {
	if e, is := errors.AsType[*stricttoml.Error](err); is {
		return errors.New(e.In(name))
	}
	return err
}

// check refuses settings that contradict each other, or that would have no effect.
func (k *tunnelKeys) check(role tunnel.Role) error {
	verifies := k.Policy != ""
	for _, x := range []struct {
		wrong bool
		says  string
	}{
		{k.To == "", "to is missing: name where connections go"},
		{role == tunnel.Connect && !verifies, "policy is missing: name the file that says which machine is acceptable"},
		{role == tunnel.Serve && !verifies && !k.Attest, "without attest and without policy neither end would be verified"},
		{(k.Certificate == "") != (k.Key == ""), "certificate and key belong together: give both, or none"},
		{k.AnyCertificate && k.Roots != "", "any-certificate and roots contradict each other"},
		{k.AnyCertificate && k.ServerName != "", "any-certificate and server-name contradict each other: no name is looked at"},
		{k.AnyCertificate && k.Warn, "any-certificate and warn together would accept any machine: verify the certificate while you warn"},
		{!k.Attest && (len(k.Audiences) > 0 || k.Anchored), "audiences and anchored-only are for an end that attests: give attest too"},
		{k.Continue < 0 || time.Duration(k.Continue) > attestedtls.MaxContinue, fmt.Sprintf("continue: want a time of at most %v", attestedtls.MaxContinue)},
		{k.Fresh && k.Continue != 0, "fresh and continue contradict each other: a report of its own is not one of before"},
		{k.ProxyProtocol != "" && k.ProxyProtocol != "v2", "proxy-protocol: want v2"},
		{k.WellKnown && verifies, "well-known and policy contradict each other: a client that asks for evidence shows none"},
		{k.WellKnown && !k.Attest, "well-known shows evidence: give attest too"},
		{!verifies && (k.Continue != 0 || k.Collateral != "" || k.Enrolments != "" || k.Audience != "" || k.PolicyKeys != "" || k.Fresh || k.Warn || k.CloseOpen || k.AnyProgram || k.TestRoot != "" || len(k.CRLs)+len(k.ForEvidence) > 0),
			"audience, policy-keys, fresh, continue, warn, close-open and what is trusted are for an end that verifies: give policy too"},
	} {
		if x.wrong {
			return errors.New(x.says)
		}
	}
	for _, name := range append(append([]string{k.Certificate, k.Key, k.Roots, k.Policy, k.PolicyKeys, k.TestRoot, k.Collateral, k.Enrolments}, k.CRLs...), k.ForEvidence...) {
		if name == "-" {
			return errors.New("a file is -, and standard input cannot be read again at a reload: name a file")
		}
	}
	return nil
}

// signed returns the keys that the settings name for policies.
func (k *tunnelKeys) signed() *policyKeyFlags {
	return &policyKeyFlags{keys: k.PolicyKeys, threshold: k.PolicyCount, least: k.PolicyLeast}
}

// limits returns the limits among the settings.
func (k *tunnelKeys) limits() tunnel.Limits {
	return tunnel.Limits{
		Exchange: time.Duration(k.Timeout), Connect: time.Duration(k.Connect), Idle: time.Duration(k.Idle), Drain: time.Duration(k.Drain),
		Connections: k.Connections, PerAddress: k.PerAddress,
	}
}
