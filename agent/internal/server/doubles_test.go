// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/metrics"
	"github.com/cvm-agentd/agentd/sealing"
)

// fakeIdentifier takes the uid from the name that a client binds its own end to, so that
// one test can be many users.
type fakeIdentifier struct{ err error }

func (f fakeIdentifier) UID(c *net.UnixConn) (uint32, error) {
	uid := uint32(1000)
	fmt.Sscanf(strings.TrimLeft(c.RemoteAddr().String(), "@\x00"), "uid-%d-", &uid)
	return uid, f.err
}

func (f fakeIdentifier) Identify(c *net.UnixConn) (*caller.Peer, error) {
	if f.err != nil {
		return nil, f.err
	}
	p := &caller.Peer{UID: 1000, Unit: "billing.service", Method: evidence.MethodPidfd, Process: &fakeProcess{}}
	fmt.Sscanf(strings.TrimLeft(c.RemoteAddr().String(), "@\x00"), "uid-%d-", &p.UID)
	return p, nil
}

type fakeProcess struct{ ended atomic.Bool }

// ended makes every fake process be gone.
var ended atomic.Bool

func (f *fakeProcess) Running() error {
	if f.ended.Load() || ended.Load() {
		return caller.ErrGone
	}
	return nil
}
func (f *fakeProcess) Executable(context.Context) *evidence.Executable {
	return &evidence.Executable{State: evidence.ExecutableUnreadable}
}
func (f *fakeProcess) Close() error { f.ended.Store(true); return nil }

// fakeProcesses has a process of billing.service for each number, until that is 9999, which ended. The
// number 9998 cannot be looked at, and 9997 ends while it is.
type fakeProcesses struct {
	unit    string // in place of billing.service
	earlier uint64 // when the first process of its unit started; 0: with it
	numbers error
	asked   *atomic.Int64
}

func (f fakeProcesses) Find(pid int) (*caller.Peer, error) {
	if f.asked != nil {
		f.asked.Add(1)
	}
	switch pid {
	case 9999:
		return nil, caller.ErrGone
	case 9998:
		return nil, caller.ErrUnknown
	}
	p := &fakeProcess{}
	p.ended.Store(pid == 9997)
	found := &caller.Peer{PID: pid, UID: 1000, Started: 5000, Unit: cmp.Or(f.unit, "billing.service"), Method: evidence.MethodPidfd, Process: p}
	if f.earlier != 0 {
		found.UnitStarted = func() uint64 { return f.earlier }
	}
	return found, nil
}

func (f fakeProcesses) Numbers(*caller.Peer) error { return f.numbers }

// fake implements all that the server needs. Its evidence is nonce and uid.
type fake struct {
	attest   func(ctx context.Context, r api.EvidenceRequest, c evidence.Caller) ([]byte, error) // nil: at once
	measure  func(ctx context.Context, name string) (api.App, error)
	records  []byte
	awaitErr error
	keyErr   error // of every request for keys
	calls    atomic.Int64
	looked   atomic.Int64 // looks at the devices, for the status

	apps      []api.App                            // nil: billing is measured
	container func(*caller.Peer) *caller.Container // nil: no caller is in one
	beside    atomic.Bool                          // every caller is in the control group of one
}

func (f *fake) Attest(ctx context.Context, r api.EvidenceRequest, c evidence.Caller) ([][]byte, error) {
	f.calls.Add(1)
	b, err := answerFor(r, c), error(nil)
	if f.attest != nil {
		b, err = f.attest(ctx, r, c)
	}
	return [][]byte{b[:len(b)/3], b[len(b)/3:], {}}, err
}

func answerFor(r api.EvidenceRequest, c evidence.Caller) []byte {
	return fmt.Appendf(nil, `{"nonce":"%x","uid":%d}`, []byte(r.Nonce), c.UID)
}

func (f *fake) Log(_ context.Context, start uint64) (evidence.Log, error) {
	if start > 3 {
		return evidence.Log{}, errLogStart
	}
	return evidence.Log{Start: start, Records: f.records}, nil
}
func (f *fake) Bytes() int64 { return int64(len(f.records)) }
func (f *fake) ByUnit(unit string, uid uint32) (caller.App, bool) {
	if unit == "billing.service" && uid == 61200 {
		return caller.App{Name: "dynamic", Unit: unit, User: "billing", UID: uid, Dynamic: true}, true
	}
	return caller.App{Name: "billing", Unit: unit, User: "billing", UID: 1000}, unit == "billing.service" && (uid == 1000 || uid == 1033)
}
func (f *fake) Container(p *caller.Peer) *caller.Container {
	if f.container == nil {
		return nil
	}
	return f.container(p)
}
func (f *fake) Beside(p *caller.Peer) bool          { return f.beside.Load() || f.Container(p) != nil }
func (f *fake) Settle(context.Context, string)      {}
func (f *fake) Covers(string, evidence.Digest) bool { return false }
func (f *fake) List() []api.App {
	if f.apps != nil {
		return f.apps
	}
	return []api.App{{Name: "billing", Unit: "billing.service", State: api.AppMeasured}}
}
func (f *fake) Measure(ctx context.Context, name string) (api.App, error) {
	if f.measure != nil {
		return f.measure(ctx, name)
	}
	return api.App{Name: name}, nil
}
func (f *fake) Reload(context.Context) (api.Reloaded, error) { return api.Reloaded{}, nil }
func (f *fake) Look(context.Context)                         { f.looked.Add(1) }
func (f *fake) Status() api.Status                           { return api.Status{Version: "test"} }
func (f *fake) AK(context.Context) (api.AK, error)           { return api.AK{Name: []byte{1}}, nil }
func (f *fake) Activate(_ context.Context, credential, secret []byte) ([]byte, error) {
	return append(bytes.Clone(credential), secret...), nil
}

func (f *fake) Metrics(to *metrics.Set) { to.Gauge("fake", "Of another part.", 7) }

// fakeShared is what each user may know.
type fakeShared struct{}

func (fakeShared) Metrics(to *metrics.Set) { to.Gauge("shared", "For each user.", 8) }

// signer returns the two halves of a key of o, the public one as DER.
func signer(o Owner, label string) ([]byte, ed25519.PrivateKey) {
	seed := sha256.Sum256(fmt.Appendf(nil, "%s %d %s", o.App, o.UID, label))
	private := ed25519.NewKeyFromSeed(seed[:])
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		panic(err)
	}
	return public, private
}

func (f *fake) Await(context.Context) error { return f.awaitErr }
func (f *fake) Usable() api.Finding         { return api.Finding{Yes: true, Reason: "open"} }
func (f *fake) Derive(_ context.Context, o Owner, r api.DeriveRequest) (api.Derived, error) {
	if o.Dynamic { // which its secrets do not depend on
		o.UID = 0
	}
	return api.Derived{Secret: fmt.Appendf(nil, "%s %d %s", o.App, o.UID, r.Label), Version: 1}, f.keyErr
}
func (f *fake) Sign(_ context.Context, o Owner, r api.SignRequest) (api.Signed, error) {
	public, private := signer(o, r.Label)
	return api.Signed{Signature: ed25519.Sign(private, r.Message), PublicKey: public, Version: max(1, r.Version)}, f.keyErr
}
func (f *fake) PublicKey(_ context.Context, o Owner, k api.SigningKey) (api.PublicKey, error) {
	public, _ := signer(o, k.Label)
	return api.PublicKey{PublicKey: public, Version: max(1, k.Version)}, f.keyErr
}
func (f *fake) Certify(_ context.Context, o Owner, r api.CertifyRequest) (api.Certified, error) {
	public, _ := signer(o, r.Label)
	return api.Certified{PublicKey: public, Version: max(1, r.Version)}, f.keyErr
}
func (f *fake) Seal(context.Context, Owner, api.SealRequest) error { return f.keyErr }
func (f *fake) Unseal(_ context.Context, o Owner, r api.UnsealRequest) ([]byte, error) {
	return fmt.Appendf(nil, "%s %s", o.App, r.Name), f.keyErr
}
func (f *fake) Discard(context.Context, Owner, string) error { return f.keyErr }
func (f *fake) Plan(_ context.Context, o Owner, name string) (api.Contract, error) {
	return api.Contract{App: o.App, Name: name}, f.keyErr
}

func (f *fake) Emit(_ context.Context, o Owner, unit string, r api.EventRequest) (api.RecordedEvent, error) {
	if o.Container != nil {
		unit = o.Container.ID
	}
	return api.RecordedEvent{App: fmt.Sprintf("%s %s %d", o.App, unit, o.UID), Record: 7}, f.keyErr
}
func (f *fake) Events(_ context.Context, o Owner, start uint64, domain string) (api.Events, error) {
	return api.Events{App: o.App, Events: []api.Event{{Record: start, Domain: domain}}}, f.keyErr
}

// fakeStore is the store as an administrator sees it.
type fakeStore struct{}

func (fakeStore) Store(context.Context) (api.Store, error) { return api.Store{}, nil }
func (fakeStore) Contract(_ context.Context, app, name string) (api.Contract, error) {
	return api.Contract{App: app, Name: name}, nil
}
func (fakeStore) Rewrap(context.Context) (api.Rewritten, error)  { return api.Rewritten{}, nil }
func (fakeStore) Rotate(context.Context, string) (uint32, error) { return 2, nil }
func (fakeStore) Retire(context.Context, string, uint32) error   { return nil }
func (fakeStore) Recover(context.Context, api.RecoverRequest) (api.Rewritten, error) {
	return api.Rewritten{}, nil
}
func (fakeStore) RotateStoreKey(context.Context) (api.Rewritten, error) { return api.Rewritten{}, nil }
func (fakeStore) ChangeRecipients(context.Context, api.RecipientsRequest) (api.Rewritten, error) {
	return api.Rewritten{}, nil
}
func (fakeStore) AcceptRollback(context.Context) (api.Store, error) { return api.Store{}, nil }
func (fakeStore) ChangeDigests(_ context.Context, r api.DigestRequest) (api.Contract, error) {
	return api.Contract{App: r.App}, nil
}
func (fakeStore) Secrets(context.Context, string) (api.Secrets, error) {
	return api.Secrets{Secrets: []api.ProvisionedSecret{}}, nil
}
func (fakeStore) PutSecret(_ context.Context, r api.SecretRequest, _ bool) (api.ProvisionedSecret, error) {
	return api.ProvisionedSecret{App: r.App, Name: r.Name, Bytes: len(r.Data)}, nil
}
func (fakeStore) RemoveSecret(context.Context, string, string) error { return nil }
func (fakeStore) Probe(context.Context) (api.Probed, error)          { return api.Probed{}, nil }

// running is a server on two sockets of its own.
type running struct {
	*Server
	fake          *fake
	client, admin string
	served        sync.WaitGroup
}

func run(t testing.TB, f *fake, limits Limits, change func(*Config)) *running {
	t.Helper()
	dir := tempDir(t)
	c := Config{
		Identifier: fakeIdentifier{}, Processes: fakeProcesses{}, Askers: []string{"billing.service"}, Attester: f, Log: f, Apps: f, Status: f, Enroller: f, Keys: f, Events: f, Store: fakeStore{}, Disks: fakeDisks{}, Containers: fakeContainers{}, Upgrades: fakeUpgrades{}, Deliveries: fakeDeliveries{}, Metrics: f, Shared: fakeShared{},
		AdminUIDs: []uint32{1000}, Limits: limits, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&c)
	}
	r := &running{Server: newPatient(c), fake: f, client: filepath.Join(dir, "c"), admin: filepath.Join(dir, "a")}
	for path, socket := range map[string]Socket{r.client: Client, r.admin: Admin} {
		l, err := Listen(path, 0o600, -1)
		if err != nil {
			t.Fatal(err)
		}
		r.served.Go(func() {
			if err := r.Serve(l, socket); err != nil {
				t.Errorf("serve: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		r.Shutdown(ctx)
		r.served.Wait()
	})
	return r
}

// tempDir is short: a socket's path has at most 107 bytes.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agentd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

var clients atomic.Int64

// dial connects as uid.
func dial(path string, uid uint32) (*net.UnixConn, error) {
	own := &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("@uid-%d-%d-%d", uid, os.Getpid(), clients.Add(1))}
	return net.DialUnix("unix", own, &net.UnixAddr{Net: "unix", Name: path})
}

// as is an HTTP client of one uid.
func as(path string, uid uint32) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:         func(context.Context, string, string) (net.Conn, error) { return dial(path, uid) },
		MaxIdleConnsPerHost: 256,
	}}
}

// ask does one request and decodes the problem, if it is one.
func ask(t testing.TB, c *http.Client, method, target, body string) (int, []byte, *api.Problem) {
	t.Helper()
	status, b, p, err := try(c, method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	return status, b, p
}

func try(c *http.Client, method, target, body string) (int, []byte, *api.Problem, error) {
	r, err := http.NewRequest(method, "http://agentd"+target, strings.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	answer, err := c.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer answer.Body.Close()
	if got := answer.Header.Get("Cache-Control"); got != "no-store" {
		return answer.StatusCode, nil, nil, fmt.Errorf("Cache-Control %q: identity and nonce are the caller's alone", got)
	}
	b, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode == http.StatusOK {
		return answer.StatusCode, b, nil, err
	}
	if got := answer.Header.Get("Content-Type"); got != api.ProblemType {
		return answer.StatusCode, b, nil, fmt.Errorf("status %d with content type %q: %s", answer.StatusCode, got, b)
	}
	var p api.Problem
	if err := json.Unmarshal(b, &p); err != nil {
		return answer.StatusCode, b, nil, err
	}
	if p.Status != answer.StatusCode || p.Title == "" || p.Type != problem.New(p.Code, "").Type || p.Code.Info().Status != p.Status {
		return answer.StatusCode, b, &p, errors.New("problem does not agree with itself: " + string(b))
	}
	return answer.StatusCode, b, &p, nil
}

// nonce is the JSON of a request with a nonce of its own.
func nonceBody(n int) string {
	return fmt.Sprintf(`{"nonce":"%s"}`, base64Of(fmt.Appendf(nil, "%016d", n)))
}

func base64Of(b []byte) string {
	text, _ := evidence.Bytes(b).MarshalText()
	return string(text)
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// fakeUpgrades is what moves the store to another image.
type fakeUpgrades struct{}

func (fakeUpgrades) Status(context.Context) (api.UpgradeStatus, error) {
	return api.UpgradeStatus{}, nil
}
func (fakeUpgrades) PinReleaseKey(context.Context, api.ReleaseKeyRequest) (api.UpgradeStatus, error) {
	return api.UpgradeStatus{}, nil
}
func (fakeUpgrades) Prepare(context.Context, api.PrepareRequest) (api.PreparedUpgrade, error) {
	return api.PreparedUpgrade{}, nil
}
func (fakeUpgrades) Request(context.Context, api.SuccessorRequest, evidence.Caller) (api.SuccessorMessage, error) {
	return api.SuccessorMessage{}, nil
}
func (fakeUpgrades) Answer(context.Context, api.HandOverRequest) (api.HandedOver, error) {
	return api.HandedOver{}, nil
}
func (fakeUpgrades) Accept(context.Context, []byte, sealing.StoreKey) (api.AcceptedUpgrade, error) {
	return api.AcceptedUpgrade{}, nil
}
func (fakeUpgrades) Abort(context.Context) (api.AbortedUpgrade, error) {
	return api.AbortedUpgrade{}, nil
}
func (fakeUpgrades) Finish(context.Context) (api.UpgradeStatus, error) {
	return api.UpgradeStatus{}, nil
}

// fakeDeliveries takes in secrets that relying parties encrypted.
type fakeDeliveries struct{}

func (fakeDeliveries) Ticket(context.Context, api.TicketRequest, evidence.Caller) (api.DeliveryTicket, error) {
	return api.DeliveryTicket{}, nil
}
func (fakeDeliveries) Receive(context.Context, []byte) (api.ReceivedSecret, error) {
	return api.ReceivedSecret{}, nil
}
