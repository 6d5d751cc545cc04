package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// terminal is where a command reads and writes, and how.
type terminal struct {
	in   io.Reader
	out  io.Writer
	err  io.Writer
	json bool // --json: machine-readable output
}

const usage = `Usage: agentctl COMMAND [flags]

Attestation of this machine and the programs on it.

  attest       ask the agent for evidence
  verify       check evidence against a policy
  show         draw evidence as a tree, without checking it
  export       write the parts of evidence for other people's tools
  policy       write, explain and try out policies
  collateral   fetch certificates and revocation lists from AMD

  measure      measure an application now, before it is started
  app          applications: list, show, declare, tie to their units
  log          the measurement log

  seal         store a secret of the calling application
  unseal       open it again
  key          derive secrets; list, re-wrap, rotate, recover what is sealed

  self         who this process is to the agent
  status       what the agent can do at the moment
  doctor       look for what is wrong with this machine's set-up
  enroll       prove to somebody that an attestation key lives in a certain TPM
  version      versions of agentctl and of the agent

Flags of every command:
  --json            print JSON
  --socket PATH     client socket of the agent (default: $AGENTD_SOCKET or /run/agentd/agentd.sock)
  --admin PATH      admin socket (default: $AGENTD_ADMIN_SOCKET or /run/agentd/admin.sock)
  -h, --help        explain a command

A file name "-" is standard input or output.

Exit codes: 0 done or accepted, 1 misuse or failure, 2 signature or binding broken,
3 collateral missing, 4 revoked, 5 refused by policy, 6 agent or device not
available, 7 not permitted, 8 a sealed blob cannot be opened, 70 a fault of
agentctl itself.

Examples:
  agentctl attest --nonce $(openssl rand -hex 32) --out evidence.json
  agentctl show evidence.json
  agentctl verify --policy policy.toml --nonce 5f2b... evidence.json
`

// run is the whole command, and returns its exit code.
func run(ctx context.Context, args []string, t *terminal) (code int) {
	defer t.recoverFault(&code)
	root := newRoot(t)
	root.SetArgs(args)
	root.SetIn(t.in)
	root.SetOut(t.out)
	root.SetErr(t.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var x *exitError
	if !errors.As(err, &x) {
		x = misuse(err)
	}
	if x.err != nil {
		fmt.Fprintf(t.err, "agentctl: %s\n", clean(x.err.Error()))
	}
	if x.hint != "" {
		fmt.Fprintf(t.err, "hint: %s\n", x.hint)
	}
	return x.code
}

func newRoot(t *terminal) *cobra.Command {
	s := &sockets{}
	root := &cobra.Command{
		Use:               "agentctl",
		Long:              usage,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprint(t.err, usage)
			return &exitError{code: exitMisuse}
		},
	}
	root.PersistentFlags().BoolVar(&t.json, "json", false, "")
	root.PersistentFlags().StringVar(&s.client, "socket", "", "")
	root.PersistentFlags().StringVar(&s.admin, "admin", "", "")
	root.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"})
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { fmt.Fprint(t.out, c.Long) })
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return misuse(err).withHint(helpHint(c)) })
	root.AddCommand(
		attestCommand(t, s),
		verifyCommand(t),
		showCommand(t),
		exportCommand(t),
		policyCommand(t),
		collateralCommand(t),
		measureCommand(t, s),
		appCommand(t, s),
		logCommand(t, s),
		sealCommand(t, s),
		unsealCommand(t, s),
		keyCommand(t, s),
		selfCommand(t, s),
		statusCommand(t, s),
		doctorCommand(t, s),
		enrollCommand(t, s),
		versionCommand(t, s),
		completionCommand(t),
	)
	return root
}

func helpHint(c *cobra.Command) string { return fmt.Sprintf("run `%s --help`", c.CommandPath()) }

// group is a command that only holds others.
func group(t *terminal, use, long string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use:  use,
		Long: long,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misuse(fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())).withHint(helpHint(c))
			}
			fmt.Fprint(t.err, long)
			return &exitError{code: exitMisuse}
		},
	}
	c.AddCommand(children...)
	return c
}

// arguments demands exactly the arguments that are named.
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
