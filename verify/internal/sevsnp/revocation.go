// SPDX-License-Identifier: Apache-2.0

package sevsnp

import (
	"errors"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify/internal/report"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// checkRevocation looks for intermediate and root on the root's lists. VCEK and VLEK have
// serial number 0, so a list cannot name them.
func (j *judge) checkRevocation(chain *snp.Chain) {
	if j.mode == report.RevocationOff {
		j.Skip(revocationList.ID, "the policy does not ask about revocation")
		j.Skip(revocation.ID, "the policy does not ask about revocation")
		return
	}
	err, current := errors.New("there is no revocation list of the root"), false
	for _, l := range j.Lists {
		if !l.For(chain) {
			continue
		}
		// Every list: a current one may be older than one that revokes.
		switch found := j.checkList(l, chain); {
		case snp.CodeOf(found) == snp.CodeRevoked:
			j.Skip(revocationList.ID, "a list of the root, which may be expired, revokes: see %s", revocation.ID)
			j.DecideError(revocation.ID, found)
			return
		case found == nil:
			current = true
		default:
			err = found
		}
	}
	if current {
		j.Decide(revocationList.ID, true, "", "", "")
		j.Decide(revocation.ID, true, "", "", "")
		return
	}
	if j.mode == report.RevocationOptional {
		j.Skip(revocationList.ID, "%v", err)
		j.Skip(revocation.ID, "not checked: %v", err)
		return
	}
	if j.DecideError(revocationList.ID, err) {
		j.Skip(revocation.ID, "not checked: %v", err)
	}
}

// checkList does what [snp.RevocationList.Check] does, without verifying the signature of
// a list that the cache knows.
func (j *judge) checkList(l *snp.RevocationList, chain *snp.Chain) error {
	if j.Cache == nil {
		return l.Check(chain, j.now)
	}
	key := evidence.Sum256("agentd/cache/revocation/1", l.Bytes(), chain.Root.Raw)
	if _, ok := j.Cache.Get(key); !ok {
		if err := l.CheckIssuer(chain); err != nil {
			return err
		}
		j.Cache.Put(key, nil)
	}
	return l.CheckAt(chain, j.now)
}
