// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"slices"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// Recover opens the blobs that this machine cannot open itself and the store key signed.
func (a Admin) Recover(ctx context.Context, r api.RecoverRequest) (api.Rewritten, error) {
	defer clear(r.Identities)
	how, err := recovery(r)
	if err != nil {
		return api.Rewritten{}, err
	}
	var done store.Recovered
	out, err := a.whole(ctx, "recover", func(s *store.Store) (_ store.Report, err error) {
		done, err = s.Recover(ctx, how)
		return done.Report, err
	})
	if err != nil {
		return api.Rewritten{}, err
	}
	if done.Unproven {
		a.c.Log.Warn("recovered although nothing told who wrote this disk: an attacker may have chosen what the blobs contain",
			"rotated_apps", len(done.Rotated), "secrets", len(done.Secrets))
	}
	out.Recovered = recoveredOf(done)
	return out, nil
}

// recovery translates a request.
func recovery(r api.RecoverRequest) (store.Recovery, error) {
	how := store.Recovery{TrustWriter: r.TrustUnknownWriterOfThisDisk, Recipients: r.Recipients,
		LoseOnHardwareChange: r.LoseOnHardwareChange, AcceptRollback: r.AcceptRollback}
	if r.StoreKey != "" {
		k, err := sealing.ParseStoreKey(r.StoreKey)
		if err != nil {
			return how, problem.Invalid("/storeKey", err.Error())
		}
		how.StoreKey = &k
	}
	var err error
	if len(r.Identities) > 0 {
		how.Identities, err = store.ParseIdentities(r.Identities)
	}
	return how, err
}

func recoveredOf(done store.Recovered) *api.Recovered {
	out := &api.Recovered{Locked: done.Locked, Generation: done.Generation, Newest: done.Newest,
		RecipientsBefore: slices.Concat([]string{}, done.ClaimedRecipients), Recipients: slices.Concat([]string{}, done.Recipients),
		Unproven: done.Unproven, Rotated: []api.RootVersion{}, Secrets: []api.StoredName{}}
	for _, v := range done.Rotated {
		out.Rotated = append(out.Rotated, api.RootVersion(v))
	}
	for _, k := range done.Secrets {
		out.Secrets = append(out.Secrets, api.StoredName{App: k.App, Name: k.Name})
	}
	return out
}
