package addressing

import (
	"net/netip"

	"github.com/ipalloc/ipalloc/pool"
)

// State says what was done for an object.
type State uint8

// The states.
const (
	None     State = iota // it gets no addresses, or has none yet
	New                   // it was given addresses
	Kept                  // it has what it had
	Adopted               // it has addresses that the pool did not know
	Changed               // it has other addresses than before
	Released              // it had addresses, and has none now
	Failed                // it could not be given what it is to have
)

// String returns the state in lower case.
func (s State) String() string {
	return [...]string{"none", "new", "kept", "adopted", "changed", "released", "failed"}[s]
}

// Row is what became of one Node or Service. The zero Row is none. A Row may be copied; the copy shares its slices.
type Row struct {
	// Kind is Node or Service.
	Kind string
	// Namespace is empty for a Node.
	Namespace, Name string
	State           State
	// Prefixes are what it has: pod CIDRs or single addresses, the primary one first. For the state [Released] they are
	// what it had.
	Prefixes []netip.Prefix
	// Policy and Families are those of a Service.
	Policy   pool.FamilyPolicy
	Families []pool.Family
	// Headless reports whether it is a Service that wishes no address.
	Headless bool
	// Unnamed reports whether it is a node of which only the address is known.
	Unnamed bool
	// Patch reports whether the object does not yet say what it has.
	Patch bool
	// Err is why the state is [Failed]; nil otherwise.
	Err error
}

// FullName returns the namespace and the name, or only the name if there is no namespace.
func (r Row) FullName() string {
	if r.Namespace == "" {
		return r.Name
	}
	return r.Namespace + "/" + r.Name
}
