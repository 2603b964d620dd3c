package kube

import (
	"bytes"
	"context"
	"fmt"
)

// A server drops what the definition of a resource does not know. One that knows fieldValidation=Strict, as each does
// since Kubernetes 1.27, refuses the write instead. Of an older one the answer tells.

// whole returns an error if body, the server's answer to a write of o as text, does not have all that was sent.
func (c *client) whole(o *object, text, body []byte) error {
	answer, err := decodeObject(o.resource, body)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDefinitions, err)
	}
	as := *answer
	as.ref, as.uid, as.version = o.ref, o.uid, o.version
	again, err := as.encode(c.namespace)
	if err != nil {
		return err
	}
	if bytes.Equal(again, text) && answer.wrong == "" {
		return nil
	}
	return fmt.Errorf("%w: the server has stored only a part of the object", ErrDefinitions)
}

// takeBack undoes a write of which the server has stored a part, and reports whether it could. It cannot for what is
// not pending: what was there before is not known, and others may go by what is there now.
func (c *client) takeBack(ctx context.Context, stored *object) bool {
	if stored.pending == nil {
		return false
	}
	before := stored.rolledBack()
	if before.empty() {
		return c.Remove(ctx, before) == nil
	}
	text, err := before.encode(c.namespace)
	if err != nil {
		return false
	}
	_, err = c.do(ctx, c.request("update", before.resource, before.name).body(text))
	return err == nil
}
