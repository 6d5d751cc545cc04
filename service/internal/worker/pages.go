// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/cvm-agentd/agentd/internal/page"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/service/internal/store"
	"github.com/cvm-agentd/agentd/verify"
)

// webPage is an answer for browsers. Its Content-Security-Policy is in it.
type webPage []byte

// getPage answers with the page of an appraisal, as `agentctl verify --html` writes it.
func getPage(w *Worker, _ string, r *http.Request) (any, error) {
	record, err := w.record(r)
	if err != nil {
		return nil, err
	}
	if record.Appraisal == nil { // a change by an administrator, or an appraisal that was deleted
		return nil, store.ErrNone
	}
	a := new(verify.Appraisal)
	if err := strictjson.Decode(record.Appraisal, len(record.Appraisal), a); err != nil {
		return nil, fmt.Errorf("worker: the appraisal of record %d: %w", record.entry.Sequence, err)
	}
	var b bytes.Buffer
	err = page.Write(&b, a, page.Options{Name: fmt.Sprintf("record %d, policy %s", record.entry.Sequence, record.entry.Policy), TestRoot: w.now().settings.Trust.TestRoot != ""})
	return webPage(b.Bytes()), err
}
