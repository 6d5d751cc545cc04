// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

const eventUsage = `Usage: agentctl event COMMAND

Events of the calling application: what it says of itself, in the measurement log and
in the PCR. A policy can ask for them ([[event]]). The agent says who spoke. That the
words are true, only the application says.

  emit    record an event
  list    the events of this application since boot

Exit codes: 7 not an application's unit and user.

Examples:
  agentctl event emit --domain model --content "llama-3.1-8b, revision 7"
  agentctl event list
`

const eventEmitUsage = `Usage: agentctl event emit --domain DOMAIN --content TEXT
       agentctl event emit --domain DOMAIN --digest VALUE
       agentctl event emit --domain DOMAIN FILE

Record an event of the calling application, and print the number of its record when log
and PCR have it. The event stays until the next boot, and each verifier that gets evidence
of this machine reads it: it must not contain a secret.

  --domain DOMAIN   what the event is about, 1 to 128 bytes; required
  --content TEXT    what the application says, 1 to 1024 bytes
  --digest VALUE    a digest of 32 bytes in its place: hexadecimal, base64 or @FILE
  FILE              the same as --content, from a file; "-" is standard input

Exit codes: 1 a quota is used up, 6 too many at once, 7 not an application's unit and
user.

Examples:
  agentctl event emit --domain model --digest $(sha256sum model.bin | cut -c1-64)
  agentctl event emit --domain mode --content production
`

const eventListUsage = `Usage: agentctl event list [--domain DOMAIN] [--start N] [--json]

List the events of the calling application since boot, in the order of the log, and how
much of its quota they take.

  --domain DOMAIN   those of one domain
  --start N         number of the first record (default 0)

With --json it prints at most 100 of them; "next" is the number of the record after
them, for --start.

Examples:
  agentctl event list --domain model
`

func eventCommand(t *terminal, s *sockets) *cobra.Command {
	return group(t, "event", eventUsage, eventEmit(t, s), eventList(t, s))
}

func eventEmit(t *terminal, s *sockets) *cobra.Command {
	var domain, content, digest string
	file := func(c *cobra.Command, args []string) error {
		if content != "" || digest != "" {
			return arguments()(c, args)
		}
		return arguments("FILE")(c, args)
	}
	c := command("emit", eventEmitUsage, file, func(c *cobra.Command, args []string) error {
		r := api.EventRequest{Domain: domain}
		switch {
		case domain == "":
			return misuse(errors.New("--domain is missing")).withHint(helpHint(c))
		case content != "" && digest != "":
			return misuse(errors.New("--content and --digest are given: choose one")).withHint(helpHint(c))
		case content != "":
			r.Content = []byte(content)
		case digest != "":
			b, err := t.parseBytes("--digest", digest, len(evidence.Digest{}), len(evidence.Digest{}))
			if err != nil {
				return err
			}
			r.Digest = new(evidence.Digest(b))
		default:
			b, err := t.readInput(args[0], pcr.MaxEmitted)
			if errors.Is(err, errTooLarge) {
				return misuse(err).withHint("record its digest: --digest $(sha256sum FILE | cut -c1-64)")
			}
			if err != nil {
				return err
			}
			r.Content = append(evidence.Bytes{}, b...)
		}
		if err := cmp.Or(pcr.CheckDomain(r.Domain), pcr.CheckSaid(r.Content, r.Digest)); err != nil {
			return misuse(err)
		}
		out, err := s.clientSocket().Emit(c.Context(), r)
		return present(t, out, err, func() {
			fmt.Fprintf(t.out, "record %d, %s: event of application %s\nvalue %s\n", out.Record, sinceBoot(out.Time), cleanLine(out.App), out.Value)
		})
	})
	c.Flags().StringVar(&domain, "domain", "", "")
	c.Flags().StringVar(&content, "content", "", "")
	c.Flags().StringVar(&digest, "digest", "", "")
	return c
}

func eventList(t *terminal, s *sockets) *cobra.Command {
	var start uint64
	var domain string
	c := command("list", eventListUsage, arguments(), func(c *cobra.Command, _ []string) error {
		agent := s.clientSocket()
		defer agent.Close()
		out, err := agent.Events(c.Context(), start, domain)
		if err != nil || t.json {
			return present(t, out, err, nil)
		}
		n := &node{text: fmt.Sprintf("application %s: %d of %d events, %d of %d bytes", cleanLine(out.App), out.Quota.Events, out.Quota.EventsLimit, out.Quota.Bytes, out.Quota.BytesLimit)}
		for {
			n.addEvents(out.Events)
			if out.Next == nil {
				break
			}
			if out, err = agent.Events(c.Context(), *out.Next, domain); err != nil {
				return failed(err)
			}
		}
		if out.Quota.Refused > 0 {
			n.add("%d were refused since the agent started", out.Quota.Refused)
		}
		n.draw(t)
		return nil
	})
	c.Flags().Uint64Var(&start, "start", 0, "")
	c.Flags().StringVar(&domain, "domain", "", "")
	return c
}

// addEvents adds a line for each event.
func (n *node) addEvents(list []api.Event) {
	for _, e := range list {
		said := fmt.Sprintf("%q", e.Content)
		if e.Digest != nil {
			said = "digest " + e.Digest.String()
		}
		n.add("%d, %s, %s: %s", e.Record, sinceBoot(e.Time), e.Domain, said)
	}
}
