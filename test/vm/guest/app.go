// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/evidence"
)

// patience is the longest time of one answer: the host may delay a report for a minute.
const patience = 2 * time.Minute

// serveApp is the application. It reads a line of words that says what to ask the agent
// for, and answers with the result:
//
//	evidence NONCE FRESHNESS    evidence over the nonce, which is hexadecimal
//	seal NAME SECRET            "sealed"; the secret is text without spaces
//	unseal NAME                 the secret
//	derive LABEL                32 bytes in hexadecimal
//	emit DOMAIN TEXT            the number of the record; the text has no spaces
func serveApp(socket string) error {
	_ = os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			line, err := bufio.NewReader(c).ReadString('\n')
			if err != nil {
				return
			}
			b, err := askAgent(strings.Fields(line))
			if err != nil {
				b = []byte("error: " + err.Error() + "\n")
			}
			_, _ = c.Write(b)
		}()
	}
}

func askAgent(words []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var agent client.Client
	switch {
	case len(words) == 3 && words[0] == "evidence":
		n, err := hex.DecodeString(words[1])
		if err != nil {
			return nil, err
		}
		return agent.Evidence(ctx, api.EvidenceRequest{Nonce: n, Freshness: evidence.Freshness(words[2])})
	case len(words) == 3 && words[0] == "seal":
		_, err := agent.Seal(ctx, api.SealRequest{Name: words[1], Data: evidence.Bytes(words[2])})
		return []byte("sealed\n"), err
	case len(words) == 2 && words[0] == "unseal":
		return agent.Unseal(ctx, api.UnsealRequest{Name: words[1]})
	case len(words) == 2 && words[0] == "derive":
		d, err := agent.Derive(ctx, api.DeriveRequest{Label: words[1], Length: 32})
		if err != nil {
			return nil, err
		}
		return hex.AppendEncode(nil, d.Secret), nil
	case len(words) == 3 && words[0] == "emit":
		e, err := agent.Emit(ctx, api.EventRequest{Domain: words[1], Content: evidence.Bytes(words[2])})
		if err != nil {
			return nil, err
		}
		return fmt.Appendf(nil, "%d\n", e.Record), nil
	}
	return nil, fmt.Errorf("unknown words %q", words)
}

// ask sends words to the application, and prints its answer.
func ask(socket string, words []string) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintln(c, strings.Join(words, " "))
	b, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	if strings.HasPrefix(string(b), "error: ") || len(b) == 0 {
		return errors.New(strings.TrimSpace(string(b)))
	}
	_, err = os.Stdout.Write(b)
	return err
}

// storm asks without pause, each time over a new connection, and prints how often it got an
// answer. A refusal with a code is an answer. A connection that ends without one is not.
func storm(file string) error {
	nonce := make([]byte, 32)
	answered, refused := 0, map[api.Code]int{}
	var unanswered []string
	for {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			break
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		var agent client.Client
		_, err := agent.Evidence(ctx, api.EvidenceRequest{Nonce: nonce, Freshness: evidence.Anchored, Log: api.LogNone})
		agent.Close()
		cancel()
		var p *api.Problem
		switch {
		case err == nil:
			answered++
		case errors.As(err, &p):
			refused[p.Code]++
		default:
			unanswered = append(unanswered, err.Error())
		}
	}
	fmt.Printf("answered %d refused %v unanswered %d %q\n", answered, refused, len(unanswered), unanswered)
	return nil
}
