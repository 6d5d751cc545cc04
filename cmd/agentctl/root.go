// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/flags"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/version"
)

const usage = `Usage: agentctl COMMAND [flags]

Attestation of this machine and the programs on it.

  attest       ask the agent for evidence
  verify       check evidence against a policy
  show         draw evidence as a tree, without checking it
  export       write the parts of evidence for other tools
  policy       write, explain and try out policies
  collateral   fetch certificates and revocation lists from AMD
  token        keys that sign results as tokens

  measure      measure an application now, before it starts
  app          applications: list, show, declare, measure at each start
  log          the measurement log

  seal         store a secret of the calling application
  unseal       open it again
  event        say something of the calling application in the measurement log
  sign         sign with a key of the calling application, which stays in the agent
  ssh-agent    offer signing keys to ssh and sshd
  certificate  get a certificate for a key that is in the TPM, by ACME
  key          derive secrets; list, re-wrap, rotate, recover what is sealed
  secret       provision secrets, which systemd hands to units as credentials
  tunnel       carry connections of other programs through attested TLS
  container    containers that are measured before they run
  disk         volumes that open at boot with a key of this machine

  self         who this process is to the agent
  who          who another process is to the agent
  status       what the agent can do now
  doctor       look for problems in the set-up of this machine
  metrics      what the agent counts, for monitoring
  enroll       prove to a verifier that an attestation key is in a certain TPM
  version      versions of agentctl and of the agent
  completion   words for the TAB key of a shell
  help         explain a command: agentctl help verify

Flags of every command:
  --json            print JSON; an error is then one line of JSON, the last one on
                    standard error
  --socket PATH     client socket of the agent (default: $AGENTD_SOCKET or /run/agentd/agentd.sock)
  --admin PATH      admin socket (default: $AGENTD_ADMIN_SOCKET or /run/agentd/admin.sock)
  -h, --help        explain a command

Pages that are named docs/... are in the repository, and in /usr/share/doc/agentctl.

A file name "-" is standard input or output. "@-" is the same for values of the
form "@FILE". A command that would read standard input twice is refused.

Exit codes: 0 done or accepted, 1 misuse or failure, 2 signature or binding broken,
3 collateral missing, 4 revoked, 5 refused by policy, 6 agent or device not
available, 7 not permitted, 8 a sealed blob cannot be opened, 70 a fault in
agentctl.

Examples:
  agentctl attest --nonce $(openssl rand -hex 32) --out evidence.json
  agentctl show evidence.json
  agentctl verify --policy policy.toml --nonce 5f2b... evidence.json
`

// run runs the whole command, and returns its exit code.
func run(ctx context.Context, args []string, t *terminal) (code int) {
	out := t.attend()
	defer t.recoverFault(&code)
	s := &sockets{}
	root := newRoot(t, s)
	completes := len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
	if completes { // which parses flags twice
		describeFlags(root)
		offerWords(root, offers(s), flagOffers(s))
	} else {
		givenOnce(root)
	}
	root.SetArgs(args)
	root.SetIn(t.in)
	root.SetOut(t.out)
	root.SetErr(t.err)
	var err error
	if !completes {
		err = misnamed(args)
	}
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	if out.err != nil && (err == nil || errors.Is(err, out.err)) {
		// The reader of the output has not seen all of it.
		err = misuse(fmt.Errorf("write standard output: %w", durable.Cause(out.err)))
	}
	if err == nil {
		return exitOK
	}
	var x *exitError
	if !errors.As(err, &x) {
		x = misuse(err)
	}
	if ctx.Err() != nil {
		x = &exitError{code: x.code, err: errors.New("interrupted")}
	}
	// An error in the flags ends their parsing, possibly before --json.
	t.complain(x, t.json || wantsJSON(args))
	return x.code
}

// complain says what went wrong, unless that was printed already, and what to do.
func (t *terminal) complain(x *exitError, asJSON bool) {
	if asJSON && x.err != nil {
		t.complainJSON(x)
		return
	}
	if x.err != nil {
		// What an error quotes must not look like a line of agentctl.
		fmt.Fprintf(t.err, "agentctl: %s\n", strings.ReplaceAll(x.err.Error(), "\n", "\n  "))
	}
	if x.hint != "" {
		fmt.Fprintf(t.err, "hint: %s\n", cleanLine(x.hint))
	}
}

// complaint is an error as JSON.
type complaint struct {
	ExitCode int      `json:"exitCode"`       // exit code of the command
	Error    string   `json:"error"`          // what was attempted, and what was found
	Code     api.Code `json:"code,omitempty"` // of a problem of the agent, or of a volume
	Hint     string   `json:"hint,omitempty"` // what to do
}

// complainJSON writes one line on standard error.
func (t *terminal) complainJSON(x *exitError) {
	out := complaint{ExitCode: x.code, Error: x.err.Error(), Code: x.found, Hint: x.hint}
	if p, ok := errors.AsType[*api.Problem](x.err); ok {
		out.Code = p.Code
	}
	if b, err := strictjson.Encode(out); err == nil {
		fmt.Fprintf(t.err, "%s\n", onlyPrintable(b))
	}
}

func newRoot(t *terminal, s *sockets) *cobra.Command {
	root := &cobra.Command{
		Use:               "agentctl",
		Long:              usage,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              cobra.ArbitraryArgs,
		Version:           version.Version,
		PersistentPreRunE: func(c *cobra.Command, args []string) error {
			if err := refuseEmpty(c, args); err != nil {
				return err
			}
			return refuseShared(c, args)
		},
		RunE: choose(t, usage),
	}
	root.PersistentFlags().BoolVar(&t.json, "json", false, "")
	root.PersistentFlags().StringVar(&s.client, "socket", "", "")
	root.PersistentFlags().StringVar(&s.admin, "admin", "", "")
	root.SetHelpCommand(helpCommand(t, root))
	root.SetVersionTemplate("agentctl " + version.Version + "\n")
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { fmt.Fprint(t.out, c.Long) })
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return misuse(flagInWords(err)).withHint(helpHint(c)) })
	root.AddCommand(
		attestCommand(t, s),
		verifyCommand(t),
		showCommand(t),
		exportCommand(t),
		policyCommand(t, s),
		collateralCommand(t, s),
		tokenCommand(t),
		measureCommand(t, s),
		appCommand(t, s),
		logCommand(t, s),
		sealCommand(t, s),
		unsealCommand(t, s),
		eventCommand(t, s),
		signCommand(t, s),
		certificateCommand(t, s),
		sshAgentCommand(t, s),
		keyCommand(t, s),
		secretCommand(t, s),
		tunnelCommand(t, s),
		containerCommand(t, s),
		diskCommand(t, s),
		selfCommand(t, s),
		whoCommand(t, s),
		statusCommand(t, s),
		metricsCommand(t, s),
		doctorCommand(t, s),
		enrollCommand(t, s),
		versionCommand(t, s),
		completionCommand(t),
	)
	root.InitDefaultHelpCmd()
	return root
}

// flagInWords says what a flag wants, in place of what the library says of numbers, and that it has no
// value.
func flagInWords(err error) error {
	x, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	if x.GetValue() == "" {
		return fmt.Errorf("--%s is empty: give a value, or leave the flag out", x.GetFlag().Name)
	}
	want := ""
	switch f := x.GetFlag(); f.Value.Type() {
	case "uint", "uint32", "uint64":
		want = "a whole number that is not negative"
	case "int", "int64":
		want = "a whole number"
	case "duration":
		want = "a duration such as 30s or 2m"
	case "bool":
		want = "true or false, or no value"
	}
	number := errors.Is(err, strconv.ErrSyntax) || errors.Is(err, strconv.ErrRange) || strings.HasPrefix(errors.Unwrap(x).Error(), "time: ")
	if want == "" || !number {
		return err
	}
	return fmt.Errorf("--%s %q: want %s", x.GetFlag().Name, x.GetValue(), want)
}

// givenOnce makes the flags of c and of all commands below it flags that can be given once,
// except lists.
func givenOnce(c *cobra.Command) {
	for _, set := range []*pflag.FlagSet{c.Flags(), c.PersistentFlags()} {
		set.VisitAll(func(f *pflag.Flag) {
			if _, list := f.Value.(pflag.SliceValue); !list {
				f.Value = flags.Once(f.Value)
			}
		})
	}
	for _, below := range c.Commands() {
		givenOnce(below)
	}
}

// arguments requires exactly the named arguments.
func arguments(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return misuse(fmt.Errorf("%s is missing", names[len(args)])).withHint(helpHint(c))
		case len(args) > len(names):
			return misuse(fmt.Errorf("unexpected argument %q", args[len(names)])).withHint(helpHint(c))
		}
		return nil
	}
}
