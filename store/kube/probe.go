package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// probeName is the name of an object that never exists: no key has it, see refOf.
const probeName = "x--probe"

// probeTime bounds how long Open waits for the answers to its questions.
const probeTime = 10 * time.Second

// probe asks the server what it would do with a write of each kind, by requests that change nothing (dry runs). It
// returns an error for what certainly does not work: a definition that lacks a field, or is not there, and a right that
// is missing beside others. A user without any right to write may read. What the server does not answer now is no
// error.
func (c *client) probe(ctx context.Context, parallel int) error {
	within, cancel := context.WithTimeout(hasty(ctx), probeTime)
	defer cancel()
	var asks []func() error
	for _, resource := range resources() {
		asks = append(asks,
			func() error { return c.probeCreate(within, resource) },
			func() error { return c.probeUpdate(within, resource) },
			func() error { return c.probeDelete(within, resource) },
		)
	}
	var missing []error
	for _, err := range inParallel(parallel, len(asks), func(i int) error { return asks[i]() }) {
		switch {
		case errors.Is(err, ErrDefinitions), errors.Is(err, ErrNotInstalled):
			return err
		case errors.Is(err, ErrForbidden):
			missing = append(missing, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(missing) == len(asks) {
		return nil
	}
	return errors.Join(missing...)
}

// probeCreate asks the server to store an object that has all fields, and looks whether the answer has them too.
func (c *client) probeCreate(ctx context.Context, resource string) error {
	sent := probeObject(resource, c.namespace)
	text, err := json.Marshal(sent)
	if err != nil {
		return err
	}
	r := c.request("create", resource, probeName).body(text)
	r.Param("dryRun", "All").Param("fieldValidation", "Strict")
	body, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	var answer objectJSON
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("%s: %w", r.what, err)
	}
	answer.Metadata = sent.Metadata
	if got, err := json.Marshal(answer); err != nil || !bytes.Equal(got, text) {
		return fmt.Errorf("%s: %w: of %.400s the server would keep %.400s", r.what, ErrDefinitions, text, got)
	}
	return nil
}

// probeUpdate asks for an update, and probeDelete for a deletion, of an object that does not exist: the server looks at
// the right first.
func (c *client) probeUpdate(ctx context.Context, resource string) error {
	o := probeObject(resource, c.namespace)
	o.Metadata.ResourceVersion = "1"
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	r := c.request("update", resource, probeName).body(text)
	r.Param("dryRun", "All")
	_, err = c.do(ctx, r)
	return err
}

func (c *client) probeDelete(ctx context.Context, resource string) error {
	r := c.request("delete", resource, probeName)
	r.Param("dryRun", "All")
	_, err := c.do(ctx, r)
	return err
}

// probeObject returns an object with a value in each field.
func probeObject(resource, namespace string) objectJSON {
	const some = "x"
	at := encodeTime(time.Unix(0, 0).UTC())
	record := recordJSON{
		Revision: 1, State: some, Prefixes: []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0)},
		Labels:  map[string]string{some: some},
		Created: at, Expires: at, Data: "{}",
	}
	return objectJSON{
		APIVersion: Group + "/" + Version,
		Kind:       kindOf(resource),
		Metadata:   metadataJSON{Name: probeName, Namespace: namespace},
		Key:        keyJSON{string(store.KindPool), some, some},
		Spec:       &record,
		Show:       &showJSON{some, some, some, some, some, some, some, some},
		Pending: &pendingJSON{
			ID: some, Head: ref{resourcePools, some}.String(), UID: some, Fence: "1", Before: &record,
		},
		Log:    []entryJSON{{some, 1, []string{ref{resourcePools, some}.String()}}},
		Last:   some,
		Aborts: 1,
		Turn:   some,
	}
}
