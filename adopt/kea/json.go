package kea

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/client"
	"github.com/ipalloc/ipalloc/adopt/internal/input"
)

// jsonLease is a lease as the commands of the hook lease_cmds write it.
type jsonLease struct {
	Address  string      `json:"ip-address"`
	Hardware string      `json:"hw-address"`
	ClientID string      `json:"client-id"`
	DUID     string      `json:"duid"`
	IAID     json.Number `json:"iaid"`
	Type     string      `json:"type"`
	Length   json.Number `json:"prefix-len"`
	Hostname string      `json:"hostname"`
	Subnet   json.Number `json:"subnet-id"`
	State    json.Number `json:"state"`
	Lifetime int64       `json:"valid-lft"`
	Last     int64       `json:"cltt"` // when the client was last heard of
}

func (j jsonLease) lease() (lease, error) {
	l := lease{
		address: j.Address, length: string(j.Length), hardware: j.Hardware, clientID: j.ClientID, duid: j.DUID,
		iaid: string(j.IAID), kind: j.Type, state: string(j.State), hostname: j.Hostname, subnet: string(j.Subnet),
		lifetime: j.Lifetime,
	}
	if client.IsForever(j.Lifetime) {
		return l, nil
	}
	const most = 1 << 40 // so that the sum cannot overflow
	if j.Lifetime < 0 || j.Lifetime > most || j.Last < 0 || j.Last > most {
		return lease{}, fmt.Errorf("cltt %d and valid-lft %d are no times in seconds", j.Last, j.Lifetime)
	}
	var err error
	l.ends, err = client.At(j.Last + j.Lifetime)
	return l, err
}

// answer is the answer to a command: an object with the members arguments, result and text.
type answer struct {
	*input.JSON
	yield  func(adopt.Entry) error
	n      int  // leases read so far
	listed bool // whether there was a list of leases
	result int
	text   string
}

// The results of a command that is not an error: it has done what was asked, or found nothing.
const (
	success = 0
	empty   = 3
)

func readJSON(r io.ReadSeeker) adopt.Entries {
	return input.Stream(func(yield func(adopt.Entry) error) error {
		// The control agent answers with a list of the answers of servers.
		a := &answer{yield: yield}
		return input.OneOrList(r, func(j *input.JSON, _ bool) error {
			a.JSON = j
			return a.read()
		})
	})
}

// read reads an answer.
func (a *answer) read() error {
	a.result, a.text, a.listed = success, "", false
	err := a.Object(func(name string) error {
		switch name {
		case "arguments":
			return a.arguments()
		case "result":
			return a.Value(&a.result)
		case "text":
			return a.Value(&a.text)
		}
		return a.Value(new(json.RawMessage))
	})
	switch {
	case err != nil:
		return err
	case a.result != success && a.result != empty:
		return input.Invalid("result", "%d: %s: the command failed", a.result, input.Quote(a.text))
	case !a.listed && a.result != empty:
		return input.Invalid("arguments", "there is no list of leases, as lease4-get-all and lease6-get-all answer")
	}
	return nil
}

func (a *answer) arguments() error {
	return a.Object(func(name string) error {
		if name != "leases" {
			return a.Value(new(json.RawMessage))
		}
		a.listed = true
		return a.List(a.lease)
	})
}

func (a *answer) lease() error {
	var j jsonLease
	if err := a.Value(&j); err != nil {
		return err
	}
	a.n++
	at := fmt.Sprintf("lease %d", a.n)
	l, err := j.lease()
	if err != nil {
		return input.Invalid(at, "%w", err)
	}
	e, ok, err := l.entry()
	if err != nil {
		return input.Invalid(at, "%w", err)
	}
	if !ok {
		return nil
	}
	e.At = at
	return a.yield(e)
}
