// SPDX-License-Identifier: Apache-2.0

package nodeserver

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/hashicorp/go-hclog"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/spire/internal/node"
	"github.com/cvm-agentd/agentd/spire/internal/settings"
	"github.com/cvm-agentd/agentd/verify"
)

// written is the configuration of the plugin as it is written: docs/spire.md.
type written struct {
	Policy     string `hcl:"policy"`
	State      string `hcl:"state"`
	Database   string `hcl:"database"`
	Collateral string `hcl:"collateral"`
	Path       string `hcl:"agent_path_template"`
	Patience   string `hcl:"challenge_timeout"`
	TestRoot   string `hcl:"trust_test_root_that_vouches_for_no_hardware"`
}

// config is a configuration that was checked.
type config struct {
	written
	trustDomain string
	patience    time.Duration
	path        *template.Template
}

// Bounds of challenge_timeout, and its default: the daemon may wait for a report for 90 s.
const (
	leastPatience   = time.Second
	mostPatience    = 10 * time.Minute
	defaultPatience = 2 * time.Minute
)

// defaultPath is the path of agents unless something else is said.
const defaultPath = "{{ .AK }}"

func parse(core *configv1.CoreConfiguration, text string) (*config, error) {
	c := &config{patience: defaultPatience}
	domain, err := settings.Read(core, text, &c.written)
	if err != nil {
		return nil, err
	}
	c.trustDomain = domain.TrustDomain
	for _, x := range []struct {
		key, path string
		needed    bool
	}{{"policy", c.Policy, true}, {"state", c.State, false}, {"collateral", c.Collateral, false}, {"trust_test_root_that_vouches_for_no_hardware", c.TestRoot, false}} {
		if x.path == "" && !x.needed {
			continue
		}
		if err := settings.Path(x.key, x.path); err != nil {
			return nil, err
		}
	}
	if (c.State == "") == (c.Database == "") {
		return nil, errors.New("configuration: state and database: want one of them, a folder of this server alone or a database that servers share")
	}
	if c.Database != "" {
		if _, err := databaseConfig(c.Database); err != nil {
			return nil, err
		}
	}
	if c.Patience != "" {
		if c.patience, err = time.ParseDuration(c.Patience); err != nil || c.patience < leastPatience || c.patience > mostPatience {
			return nil, fmt.Errorf("configuration: challenge_timeout = %q: want %v to %v, such as \"2m\"", c.Patience, leastPatience, mostPatience)
		}
	}
	if c.path, err = template.New("agent_path_template").Option("missingkey=error").Parse(cmp.Or(c.Path, defaultPath)); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	sample := names{AK: "000b" + strings.Repeat("1", 64), Measurement: "m", Chip: "c", Product: "p", Project: "p", Zone: "z", Instance: "i"}
	if _, err := render(c.path, sample); err != nil {
		return nil, fmt.Errorf("configuration: agent_path_template: %w", err)
	}
	return c, nil
}

// names is what a template of paths may contain.
type names struct {
	AK          string // name of the attestation key, hexadecimal
	Measurement string // launch measurement
	Chip        string // id of the chip; empty if it is masked
	Product     string // of the processor
	Project     string // of Google Cloud, if the policy asks for its machine; and its zone and the id of the machine
	Zone        string
	Instance    string
}

// maxPath is the longest path that SPIRE gets.
const maxPath = 1024

// render returns the path of an agent below that of the plugin. It contains the name of the attestation key:
// SPIRE takes two machines with one path for one agent, and gives each the other's identities. Each part has
// the characters that a path of a SPIFFE ID may have (SPIFFE-ID, section 2.2).
func render(t *template.Template, n names) (string, error) {
	var b bytes.Buffer
	if err := t.Execute(&b, n); err != nil {
		return "", err
	}
	path := b.String()
	if len(path) > maxPath {
		return "", fmt.Errorf("a path of %d bytes, at most %d", len(path), maxPath)
	}
	if !strings.Contains(path, n.AK) {
		return "", fmt.Errorf("%+q may be the path of two machines: it must contain {{ .AK }}, the name of the attestation key", path)
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." || strings.Trim(part, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
			return "", fmt.Errorf("%+q is not a path of a SPIFFE ID: want letters, digits, '.', '-' and '_' between single slashes", path)
		}
	}
	return path, nil
}

func (c *config) newSource() *source {
	return &source{policy: c.Policy, collateral: c.Collateral, testRoot: c.TestRoot}
}

// judge is what a configuration makes of a plugin.
type judge struct {
	*config
	log     hclog.Logger
	source  *source
	state   state
	service *relying.Service
}

// atOnce is how many appraisals are made at the same time.
const atOnce = 16

// newJudge opens the state, unless before is the same one.
func newJudge(ctx context.Context, c *config, before state, log hclog.Logger) (*judge, error) {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	j := &judge{config: c, log: log, source: c.newSource(), state: before}
	if _, err := j.source.current(); err != nil {
		return nil, err
	}
	if c.TestRoot != "" {
		log.Error("a test root is trusted in place of AMD's: no agent of this server vouches for hardware", "file", c.TestRoot)
	}
	var err error
	if before == nil || !before.same(c) {
		if j.state, err = c.open(ctx); err != nil {
			return nil, err
		}
	}
	j.service, err = relying.New(relying.Config{
		Policies: func(context.Context) (*verify.Verifier, *verify.Policy, error) {
			r, err := j.source.current()
			if err != nil {
				return nil, nil, err
			}
			return r.verifier, r.policy, nil
		},
		Challenges: relying.NewMemoryChallenges(1), // the challenge is that of the call
		Logs:       j.state,
		Expect: func(_ context.Context, _ keys.Name, _ []byte, expect *verify.Expect) error {
			expect.Audience, expect.UserData = node.Audience(c.trustDomain), []byte(node.UserData)
			return nil
		},
		AtOnce: atOnce, Body: node.MaxDocument,
	})
	if err != nil && j.state != before {
		j.state.close()
	}
	return j, err
}

// open opens the state: a folder, or a database.
func (c *config) open(ctx context.Context) (state, error) {
	if c.Database != "" {
		return openDatabase(ctx, c.Database)
	}
	return openFolder(c.State)
}

// freshness returns what the policy in force asks for.
func (j *judge) freshness() (evidence.Freshness, error) {
	r, err := j.source.current()
	if err != nil {
		return "", err
	}
	return r.freshness, nil
}

// id returns the SPIFFE ID of an agent.
func (j *judge) id(c *verify.Claims) (string, error) {
	n := names{AK: c.AKName, Measurement: c.Machine.Measurement}
	if c.AKName == "" {
		return "", errors.New("accepted evidence names no attestation key")
	}
	if s := c.Machine.SNP; s != nil {
		n.Chip, n.Product = s.ChipID, s.Product
	}
	if i := c.Instance; i != nil {
		n.Project, n.Zone, n.Instance = i.Project, i.Zone, i.ID
	}
	path, err := render(j.path, n)
	if err != nil {
		return "", fmt.Errorf("agent_path_template: %w", err)
	}
	return "spiffe://" + j.trustDomain + "/spire/agent/" + node.Plugin + "/" + path, nil
}
