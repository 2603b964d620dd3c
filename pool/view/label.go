package view

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/cidr"
)

// colours is how many values of a label have a colour of their own.
const colours = 8

// The colours that are no value's: of what has no such label, and of the values for which there is no colour left.
const (
	unlabelled  = -1
	otherValues = -2
)

// label is a value of the label that a picture is coloured by.
type label struct {
	value  string
	colour int // 0 to colours-1, or otherValues
	count  cidr.Count
}

// coloured gives the values colours. The name of a value determines its colour, unless another value has that colour
// already. If there are more values than colours, those with the most addresses have one. So a value nearly always
// keeps its colour when others come and go. The result is in the order of the values.
func coloured(counts map[string]cidr.Count) []label {
	values := slices.Sorted(maps.Keys(counts))
	most := slices.Clone(values)
	slices.SortStableFunc(most, func(a, b string) int { return counts[b].Cmp(counts[a]) })
	most = most[:min(len(most), colours)]
	slices.SortFunc(most, func(a, b string) int {
		return cmp.Or(cmp.Compare(hashOf(a), hashOf(b)), strings.Compare(a, b))
	})

	var used [colours]bool
	of := map[string]int{}
	for _, value := range most {
		colour := int(hashOf(value) % colours)
		for used[colour] {
			colour = (colour + 1) % colours
		}
		used[colour], of[value] = true, colour
	}
	labels := make([]label, len(values))
	for i, value := range values {
		colour, ok := of[value]
		if !ok {
			colour = otherValues
		}
		labels[i] = label{value, colour, counts[value]}
	}
	return labels
}

func hashOf(value string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(value))
	return h.Sum32()
}
