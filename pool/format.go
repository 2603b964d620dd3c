package pool

import (
	"encoding/json"
	"fmt"

	"github.com/ipalloc/ipalloc/internal/sentinel"
	"github.com/ipalloc/ipalloc/store"
)

// The versions of what this package stores and exports. See docs/formats.md for what may change without a new one.
const (
	headFormat     = 1 // of the data of a head, and of the records beside it
	networkFormat  = 1 // of the data of a network
	snapshotFormat = 1 // of an export
)

// decodeAs reads a JSON object that has the member format, which is then at found. The error wraps [ErrNewerFormat] if
// the format is after known, whatever else is in the object. Any other error is about its form.
func decodeAs(known int, what string, text []byte, into any, found *int) error {
	err := json.Unmarshal(text, into)
	if err == nil && *found == known {
		return nil
	}
	if newer := refuseNewer(known, what, text); newer != nil {
		return newer
	}
	if err == nil {
		err = fmt.Errorf("the format is %d, want %d", *found, known)
	}
	return err
}

// refuseNewer returns an error that wraps [ErrNewerFormat] if a JSON object has a format after known. That member is
// the same in all formats, and is read even if nothing else can be.
func refuseNewer(known int, what string, text []byte) error {
	var v struct {
		Format int `json:"format"`
	}
	if json.Unmarshal(text, &v) != nil {
		return nil
	}
	return sentinel.NewerFormat(what, v.Format, known)
}

// refuseNewerHead returns an error that wraps [ErrNewerFormat] if a head has a newer format.
func refuseNewerHead(head store.Record) error { return refuseNewer(headFormat, headName, head.Data) }

// headName is what errors call a head.
const headName = "the head of the pool"
