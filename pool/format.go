package pool

import (
	"encoding/json"

	"github.com/ipalloc/ipalloc/internal/sentinel"
	"github.com/ipalloc/ipalloc/store"
)

// The versions of what this package stores and exports. See docs/formats.md for what may change without a new one.
const (
	headFormat     = 1 // of the data of a head, and of the records beside it
	networkFormat  = 1 // of the data of a network
	snapshotFormat = 1 // of an export
)

// checkFormat returns an error unless a JSON object was read, with the error err, and is of the format known. The error
// wraps [ErrNewerFormat] if its format is a newer one, whatever else is in the object and err says. Any other error is
// about its form.
func checkFormat(known int, what string, text []byte, found int, err error) error {
	if err == nil && found == known {
		return nil
	}
	if newer := refuseNewer(known, what, text); newer != nil {
		return newer
	}
	if err == nil {
		err = invalid("the format is %d, want %d", found, known)
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
		v.Format = known // what is wrong, who reads all of it says
	}
	return sentinel.NewerFormat(what, v.Format, known)
}

// refuseNewerHead returns an error that wraps [ErrNewerFormat] if a head has a newer format.
func refuseNewerHead(head store.Record) error { return refuseNewer(headFormat, headName, head.Data) }

// headName is what errors call a head.
const headName = "the head of the pool"
