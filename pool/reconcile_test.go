package pool_test

import "iter"

// live iterates over these owners.
func live(owners ...string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, owner := range owners {
			if !yield(owner, nil) {
				return
			}
		}
	}
}
