// Package choice reads what the flags of the benchmarks choose.
package choice

import (
	"fmt"
	"slices"
	"strings"
)

// List returns what sets values between commas, for [flag.FlagSet.Func]. Each must be one of those that are allowed.
func List(into *[]string, allowed ...string) func(string) error {
	return func(text string) error {
		*into = strings.Split(text, ",")
		for _, one := range *into {
			if !slices.Contains(allowed, one) {
				return fmt.Errorf("%q is none of %s", one, strings.Join(allowed, ", "))
			}
		}
		return nil
	}
}

// Pairs reads pairs of numbers from 1 on between commas, as in 1x16,16x1. First and second say what they count.
func Pairs(text, first, second string) (all [][2]int, err error) {
	for one := range strings.SplitSeq(text, ",") {
		var p [2]int
		_, err := fmt.Sscanf(one+"\n", "%dx%d\n", &p[0], &p[1])
		if err != nil || min(p[0], p[1]) < 1 {
			return nil, fmt.Errorf("%q is not a number of %s, x, and a number of %s", one, first, second)
		}
		all = append(all, p)
	}
	return all, nil
}
