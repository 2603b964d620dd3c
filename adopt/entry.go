package adopt

import (
	"iter"
	"net/netip"
	"time"
)

// Entry is what one owner has in use in another system.
//
// The zero Entry is not valid: it has no owner and no prefix. An Entry may be copied; the copy shares Prefixes and
// Labels.
type Entry struct {
	// Owner is who has it: the owner of the claim that takes it over. Each reader says what its owners are.
	Owner string
	// Prefixes are what is in use, at least one, without host bits. A single address is a prefix of 32 or 128 bits.
	Prefixes []netip.Prefix
	// Ends is when the lease ends; zero if it never does.
	Ends time.Time
	// Scope is the scope of the claim; see [pool.Claim.Scope].
	//
	// [pool.Claim.Scope]: https://pkg.go.dev/github.com/ipalloc/ipalloc/pool#Claim
	Scope string
	// Labels are what the source says of it, such as a host's name; nil if nothing.
	Labels map[string]string
	// At is where it stands in the source, for people: "line 12", "IPPool kube-system/10.0.0.0-24".
	At string
}

// Entries are what a reader reads, one after the other. Each range over it reads the source again, from its beginning.
//
// An error ends the sequence, and comes with the zero Entry. It wraps pool.ErrInvalid if the source breaks a rule of
// its format; it then says where and quotes what is wrong. Other errors are those of reading.
type Entries = iter.Seq2[Entry, error]

// Only returns the entries that have all of these labels.
func Only(entries Entries, labels map[string]string) Entries {
	if len(labels) == 0 {
		return entries
	}
	return func(yield func(Entry, error) bool) {
		for e, err := range entries {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if e.has(labels) && !yield(e, nil) {
				return
			}
		}
	}
}

func (e Entry) has(labels map[string]string) bool {
	for name, value := range labels {
		if got, ok := e.Labels[name]; !ok || got != value {
			return false
		}
	}
	return true
}
