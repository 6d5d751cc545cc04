// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/test/simulated"
)

// TestStopUnderLoad: the agent is told to stop while it is asked all the time. Every
// connection that was made gets an answer: evidence, or the word that it is
// stopping. Case 84.
func TestStopUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	commands, done, err := simulated.Commands()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	dir := filepath.Join(t.TempDir(), "m")
	var answered, turnedAway, refused, late atomic.Int64
	for round := range 3 {
		m, err := simulated.Start(commands, dir, "", "--fault", "throttle=50ms")
		if errors.Is(err, simulated.ErrNoTPM) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		var stop atomic.Bool
		var asking sync.WaitGroup
		before := answered.Load()
		for i := range 20 {
			asking.Go(func() {
				for n := 0; !stop.Load(); n++ {
					began := time.Now()
					c, err := net.Dial("unix", m.Socket())
					if err != nil {
						refused.Add(1) // no daemon is there: nothing was accepted
						time.Sleep(time.Millisecond)
						continue
					}
					status, written, err := askRaw(c, fmt.Sprintf("%d/%d/%d", round, i, n))
					c.Close()
					switch {
					case err != nil && written.Sub(began) >= grace:
						late.Add(1) // kept off the processor: no wait of that length was promised
					case err != nil:
						t.Errorf("a connection that was made got no answer: %v", err)
						return
					case status == http.StatusOK:
						answered.Add(1)
					default:
						turnedAway.Add(1)
					}
				}
			})
		}
		for deadline := time.Now().Add(patience); answered.Load() < before+100 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
		stop.Store(true)
		asking.Wait()
	}
	t.Logf("%d answered with evidence, %d told that the agent is stopping, %d found no agent, %d asked too late",
		answered.Load(), turnedAway.Load(), refused.Load(), late.Load())
	if answered.Load() < 300 || refused.Load() == 0 {
		t.Error("the agent was not stopped under load")
	}
}

// grace is how long the agent, when it stops, waits for the request of a connection
// that was just made (connections.go of agent/internal/server).
const grace = 500 * time.Millisecond

// patience is how long a test waits for what must come: it ends only one that fails.
const patience = 5 * time.Minute

// askRaw sends one request on a connection of its own and reads the whole answer. It
// tells when the request was written.
func askRaw(c net.Conn, seed string) (status int, written time.Time, err error) {
	c.SetDeadline(time.Now().Add(patience))
	body := fmt.Sprintf(`{"nonce":%q,"log":"none"}`, encode(seed))
	_, err = fmt.Fprintf(c, "POST /v1/evidence HTTP/1.1\r\nHost: agentd\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	written = time.Now()
	if err != nil {
		return 0, written, err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, written, err
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, r.Body)
	return r.StatusCode, written, err
}

// encode is a nonce made of seed, in base64.
func encode(seed string) string {
	h := sha256.Sum256([]byte(seed))
	return base64.StdEncoding.EncodeToString(h[:])
}
