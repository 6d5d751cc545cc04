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

// patience is how long one answer may take: a report may be held back for a minute.
const patience = 2 * time.Minute

// serveApp is the application: a line with a nonce and a freshness gets evidence.
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
			var nonce, freshness string
			fmt.Sscan(line, &nonce, &freshness)
			b, err := evidenceOver(nonce, freshness)
			if err != nil {
				b = []byte("error: " + err.Error() + "\n")
			}
			_, _ = c.Write(b)
		}()
	}
}

func evidenceOver(nonce, freshness string) ([]byte, error) {
	n, err := hex.DecodeString(nonce)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var agent client.Client
	return agent.Evidence(ctx, api.EvidenceRequest{Nonce: n, Freshness: evidence.Freshness(freshness)})
}

func ask(socket, nonce, freshness string) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintln(c, nonce, freshness)
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

// storm asks back to back, each time over a connection of its own, and says how often
// that went well. A refusal with a code is an answer; a connection that ends without
// one is not.
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
