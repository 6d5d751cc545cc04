// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/client"
)

// TestKilled kills the machine, agent and TPM, in the middle of every step of both sides, at
// several moments, in one folder. What was asked for is then asked again, as root would. At the end
// of each upgrade the successor has everything, and the next upgrade goes back.
func TestKilled(t *testing.T) {
	x, r, want, storeKey := old(t)
	images := []string{imageA, imageB}
	killed := 0
	for round, delay := range []time.Duration{0, 2 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond} {
		from, to := images[round%2], images[(round+1)%2]
		var offer, request, answer []byte
		steps := []struct {
			name, image string
			do          func(context.Context, *client.Admin) error
		}{
			{"prepare", from, func(ctx context.Context, a *client.Admin) error {
				p, err := a.PrepareUpgrade(ctx, r.release(t, 1, time.Now().Add(time.Hour), policy(to)))
				if err == nil {
					offer = p.Offer
				}
				return err
			}},
			{"request", to, func(ctx context.Context, a *client.Admin) error {
				q, err := a.RequestUpgrade(ctx, offer)
				if err == nil {
					request = q.Request
				}
				return err
			}},
			{"answer", from, func(ctx context.Context, a *client.Admin) error {
				h, err := a.AnswerUpgrade(ctx, request)
				if err == nil {
					answer = h.Answer
				}
				return err
			}},
			{"accept", to, func(ctx context.Context, a *client.Admin) error {
				_, err := a.AcceptUpgrade(ctx, answer, storeKey)
				return err
			}},
			{"finish", to, func(ctx context.Context, a *client.Admin) error {
				u, err := a.Upgrade(ctx)
				if err == nil && u.State == "accepted" {
					_, err = a.FinishUpgrade(ctx)
				}
				return err
			}},
		}
		for _, step := range steps {
			name := fmt.Sprintf("%s after %v", step.name, delay)
			a := x.on(step.image)
			done := make(chan error, 1)
			go func() { done <- step.do(context.WithoutCancel(t.Context()), a) }()
			time.AfterFunc(delay, x.m.Kill)
			<-done // in time, or since the machine is gone
			x.off()
			killed++
			a = x.on(step.image)
			if err := step.do(t.Context(), a); err != nil {
				t.Fatalf("%s: once more: %v\n%s", name, err, x.m.Output())
			}
		}
		x.same(want)
	}
	t.Logf("N = %d kills", killed)
}
