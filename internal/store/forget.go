// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/sealing"
)

// Forget removes the root of an app and all that is stored for it, in one change. What was
// derived from the root cannot be derived again.
func (s *Store) Forget(ctx context.Context, app string) error {
	ctx, err := s.ready(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	var keys []sealing.Key
	for _, e := range s.manifest.Entries {
		if e.App == app {
			keys = append(keys, e.Key)
		}
	}
	if len(keys) == 0 {
		return &sealing.Error{Code: api.CodeNotFound, Detail: fmt.Sprintf("app %q has no keys", app)}
	}
	return s.change(ctx, func(t *writing) error {
		for _, k := range keys {
			t.replace(k)
		}
		t.roots = append(t.roots, app)
		return nil
	})
}
