package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// diff says in what got is not want, as a store may give it back; "" if it is.
func diff(got, want store.Record) string {
	want = want.Canonical()
	var text []string
	differ := func(field string, got, want any) {
		text = append(text, fmt.Sprintf("%s %.200q, want %.200q", field, fmt.Sprint(got), fmt.Sprint(want)))
	}
	if got.Key != want.Key {
		differ("key", got.Key, want.Key)
	}
	if got.Revision != want.Revision {
		differ("revision", got.Revision, want.Revision)
	}
	if got.State != want.State {
		differ("state", got.State, want.State)
	}
	if !slices.Equal(got.Prefixes, want.Prefixes) {
		differ("prefixes", got.Prefixes, want.Prefixes)
	}
	if !maps.Equal(got.Labels, want.Labels) || len(got.Labels) == 0 && got.Labels != nil {
		differ("labels", got.Labels, want.Labels)
	}
	if !sameTime(got.Created, want.Created) {
		differ("created", got.Created, want.Created)
	}
	if !sameTime(got.Expires, want.Expires) {
		differ("expires", got.Expires, want.Expires)
	}
	if !sameJSON(got.Data, want.Data) {
		differ("data", string(got.Data), string(want.Data))
	}
	return strings.Join(text, "; ")
}

// sameTime reports whether got is want, a time in UTC, and in UTC itself.
func sameTime(got, want time.Time) bool {
	return got.Equal(want) && got.IsZero() == want.IsZero() && got.Location() == time.UTC
}

// sameJSON reports whether the texts are equal JSON values, or both empty.
func sameJSON(got, want []byte) bool {
	if len(got) == 0 || len(want) == 0 {
		return len(got) == len(want)
	}
	a, errA := decode(got)
	b, errB := decode(want)
	return errA == nil && errB == nil && sameValue(a, b)
}

func decode(text []byte) (value any, err error) {
	if !json.Valid(text) {
		return nil, fmt.Errorf("not JSON: %.40q", text)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	err = decoder.Decode(&value)
	return value, err
}

func sameValue(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, value := range a {
			other, ok := b[name]
			if !ok || !sameValue(value, other) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, sameValue)
	case json.Number:
		b, ok := b.(json.Number)
		return ok && sameNumber(a.String(), b.String())
	default:
		return a == b
	}
}

// sameNumber reports whether the texts are the same number, to the last digit.
func sameNumber(a, b string) bool {
	if a == b {
		return true
	}
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	return okX && okY && x.Cmp(y) == 0
}
