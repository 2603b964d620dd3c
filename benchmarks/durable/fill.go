package durable

import "sync"

// fillTogether has so many goroutines share the owners. Each stops at its first error; one of them is returned.
func fillTogether(owners []string, goroutines int, allocate func(owner string) error) error {
	var wg sync.WaitGroup
	errs := make([]error, goroutines)
	for g := range goroutines {
		wg.Go(func() {
			for i := g; i < len(owners) && errs[g] == nil; i += goroutines {
				errs[g] = allocate(owners[i])
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
