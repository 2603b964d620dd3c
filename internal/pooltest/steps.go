package pooltest

import "github.com/ipalloc/ipalloc/pool"

// Allocations are steps that allocate for the claims.
func Allocations(claims []pool.Claim) []pool.Step {
	steps := make([]pool.Step, len(claims))
	for i, claim := range claims {
		steps[i] = pool.Allocate(claim)
	}
	return steps
}
