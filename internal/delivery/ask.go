// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/message"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/unitname"
	"github.com/cvm-agentd/agentd/sealing"
)

// Ask is what a relying party asks the machine for over a connection: a ticket for one secret. Its
// sender's key is that of the certificate that it showed in this connection.
type Ask struct {
	Challenge Challenge // of this delivery
	App       string    // application that the secret is for
	Name      string    // name of the secret
	Replace   bool      // the secret replaces one of that name
}

// Encode returns the message.
func (a *Ask) Encode() []byte {
	b := message.Append([]byte(magicAsk), a.Challenge[:])
	b = message.Append(b, []byte(a.App))
	b = message.Append(b, []byte(a.Name))
	return message.Append(b, []byte{flag(a.Replace)})
}

// ParseAsk reads what Encode returns, and refuses everything else.
func ParseAsk(b []byte) (*Ask, error) {
	r := message.Begin("the request for a ticket", magicAsk, b, MaxAsk)
	a := &Ask{Challenge: Challenge(r.Exactly("challenge", ChallengeSize))}
	a.App = string(r.Next("app", 1, sealing.MaxName))
	a.Name = string(r.Next("name", 1, sealing.MaxName))
	replace := r.Exactly("mark of a replacement", 1)[0]
	a.Replace = replace == 1
	if err := r.End(); err != nil {
		return nil, err
	}
	if err := checkSecret(r.What, a.App, a.Name, replace); err != nil {
		return nil, err
	}
	return a, nil
}

// checkSecret refuses fields that name no secret.
func checkSecret(what, app, name string, replace byte) error {
	err := text.Check("app", app, 1, sealing.MaxName)
	if err == nil {
		err = unitname.CheckCredential(name)
	}
	switch {
	case err != nil:
		return message.Refuse(what, err.Error())
	case replace > 1:
		return message.Refuse(what, "mark of a replacement that is neither 0 nor 1")
	}
	return nil
}

// EncodeRefusal returns the message by which the machine refuses over a connection.
func EncodeRefusal(code api.Code) []byte { return message.Append([]byte(magicRefusal), []byte(code)) }

// IsRefusal reports whether a message claims to be one of EncodeRefusal.
func IsRefusal(b []byte) bool { return strings.HasPrefix(string(b), magicRefusal) }

// ParseRefusal reads what EncodeRefusal returns. A code that this version does not know is one too.
func ParseRefusal(b []byte) (api.Code, error) {
	r := message.Begin("a refusal", magicRefusal, b, MaxAsk)
	code := string(r.Next("code", 1, maxCode))
	if err := r.End(); err != nil {
		return "", err
	}
	if strings.Trim(code, "abcdefghijklmnopqrstuvwxyz-") != "" {
		return "", message.Refuse(r.What, "its code has other characters than a to z and -")
	}
	return api.Code(code), nil
}
