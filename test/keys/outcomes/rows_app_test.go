// SPDX-License-Identifier: Apache-2.0

package outcomes

import "os"

// otherUID belongs to no user of the test.
const otherUID = 12345

// appRows are what happens to the application, and who else asks.
func appRows() []outcome {
	mallory := caller{unit: billing.unit, uid: otherUID}
	return []outcome{
		{what: "other unit under the name of the app", change: "app-unit", do: func(b *bed) { b.redeclare("evil.service", username()) },
			who: caller{unit: "evil.service"}, code: "other-app", exit: refused, field: "unit"},
		{what: "other app asks for the name", who: ledger, code: "not-found", exit: missing},
		{what: "unit of no app asks", who: caller{unit: "stranger.service"}, code: "no-app", exit: refused},
		{what: "other user: the app's declaration names another", change: "app-user", root: true, do: func(b *bed) { b.redeclare(billing.unit, "12345") },
			who: mallory, code: "other-user", exit: refused, field: "user"},
		{what: "other user in the app's unit", root: true, who: mallory, code: "no-app", exit: refused},
		{what: "other associated data", associated: otherFile, code: "other-associated-data", exit: closed, field: "associated-data"},

		{what: "digest not authorised", measured: true, do: func(b *bed) { b.require(); b.upgrade("billing", "two") },
			code: "digest-not-authorised", exit: refused, field: "digests",
			after: "authorised", then: func(b *bed) { b.authorize(b.digest("billing")) }},
		{what: "app not measured, digest required", do: func(b *bed) {
			b.require()
			must(b.t, os.Remove(b.program("billing")))
		}, code: "digest-not-authorised", exit: refused, field: "digests"},
		{what: "digest authorised before the upgrade", measured: true, do: func(b *bed) {
			b.require()
			b.upgrade("billing", "two")
			next := b.digest("billing") // as on the machine that tries the upgrade
			b.off()
			b.upgrade("billing", "one")
			b.digest("billing")
			b.authorize(next)
			b.off()
			b.upgrade("billing", "two")
		}},
	}
}

// require has the app's keys depend on what it is measured as now. The machine is off
// afterwards.
func (b *bed) require() {
	b.t.Helper()
	b.digest("billing")
	b.seal(billing, "token", "hunter2", "--require-digest")
	b.off()
}

func (b *bed) authorize(digest string) {
	b.t.Helper()
	b.do(root, "", "key", "authorize", "--app", "billing", "--digest", "hex:"+digest)
}
