package store

import "context"

// Versioned is a [Store] that can tell what it runs on.
type Versioned interface {
	// Version returns the name and the version of what keeps the records, such as "etcd 3.7.3". It is for people, who
	// look for the reason of something, and no program should depend on it. Cost: one round trip.
	Version(ctx context.Context) (string, error)
}

// Version returns what s runs on, or an empty text if s is no [Versioned].
func Version(ctx context.Context, s Store) (string, error) {
	if v, ok := s.(Versioned); ok {
		return v.Version(ctx)
	}
	return "", nil
}
