// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/sealing"
)

// Quota bounds what one app may store. A zero member stands for its default.
type Quota struct {
	Secrets int   // number of stored secrets; 64 if zero
	Bytes   int64 // size of all stored secrets together; 1 MiB if zero
}

func (q Quota) withDefaults() Quota {
	if q.Secrets <= 0 {
		q.Secrets = 64
	}
	if q.Bytes <= 0 {
		q.Bytes = 1 << 20
	}
	return q
}

// quota refuses a secret of size bytes if the app would store more than it may.
func (s *Store) quota(app, name string, size int) error {
	q := s.config.Quota
	count, bytes := 1, int64(size)
	for _, e := range s.manifest.Entries {
		if e.App == app && e.Kind == sealing.KindSecret && e.Name != name {
			count++
			bytes += int64(e.Size)
		}
	}
	if count > q.Secrets {
		return &sealing.Error{Code: api.CodeQuotaExceeded, Detail: fmt.Sprintf("app %s may store %d secrets; delete one", app, q.Secrets)}
	}
	if bytes > q.Bytes {
		return &sealing.Error{Code: api.CodeQuotaExceeded, Detail: fmt.Sprintf("app %s would store %d bytes, it may store %d", app, bytes, q.Bytes)}
	}
	return nil
}
