package store

// Limiter is a [Store] on which many records of some kinds are a burden: they are in the memory of its servers, say.
type Limiter interface {
	// Limit returns how many records of the kind a pool may have; 0 if the store takes any number. The store does not
	// enforce it. Cost: none.
	Limit(kind Kind) int
}

// Limit returns how many records of the kind a pool in s may have, or 0 for any number. It calls [Limiter.Limit] if s
// is a [Limiter].
func Limit(s Store, kind Kind) int {
	if l, ok := s.(Limiter); ok {
		return l.Limit(kind)
	}
	return 0
}
