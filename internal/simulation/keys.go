package simulation

import (
	"cmp"

	"github.com/ipalloc/ipalloc/store"
)

func compareKeys(a, b store.Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Name, b.Name))
}
