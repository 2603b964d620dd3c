package processes_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
	"github.com/ipalloc/ipalloc/benchmarks/processes"
)

var (
	one = netip.MustParseAddr("10.0.0.1")
	two = netip.MustParseAddr("10.0.0.2")
)

// TestJudge has a burst of two claims go wrong in each way that it looks for.
func TestJudge(t *testing.T) {
	right := []processes.Event{{Owner: "a", Addr: one}, {Owner: "b", Addr: two}, {Ended: true, Commits: 2, Conflicts: 1}}
	held := map[string]netip.Addr{"a": one, "b": two}
	again := append(slices.Clone(right), processes.Event{Owner: "a", Addr: netip.MustParseAddr("10.0.0.3")})
	for name, c := range map[string]struct {
		told []processes.Event
		held map[string]netip.Addr
		err  error
		want string
	}{
		"right":      {right, held, nil, ""},
		"told again": {append(right, right[0]), held, nil, ""},
		"twice": {[]processes.Event{{Owner: "a", Addr: one}, {Owner: "b", Addr: one}},
			map[string]netip.Addr{"a": one, "b": one}, nil, "10.0.0.1 was granted to"},
		"other answer": {again, map[string]netip.Addr{"a": again[3].Addr, "b": two}, nil,
			`"a" was granted 10.0.0.1, and then 10.0.0.3`},
		"failed":       {append(right, processes.Event{Owner: "b", Error: "busy"}), held, nil, `"b" failed: busy`},
		"one missing":  {right[:1], map[string]netip.Addr{"a": one}, nil, "1 owners were granted an address, of 2"},
		"lost":         {right, map[string]netip.Addr{"a": one}, nil, `"b" was granted 10.0.0.2, and holds invalid IP`},
		"leaked":       {right, map[string]netip.Addr{"a": one, "b": two, "c": one.Prev()}, nil, "a leak"},
		"inconsistent": {right, nil, errors.New("not consistent: shared"), "not consistent: shared"},
	} {
		t.Run(name, func(t *testing.T) {
			o := processes.Judge(processes.Burst{Processes: 1, Claims: 2}, c.told, c.held, c.err)
			require.Equal(t, c.want == "", o.OK(), "%v", o)
			if c.want == "" {
				require.Empty(t, o.Wrong)
			} else {
				require.Contains(t, o.String(), c.want)
			}
		})
	}
}

// TestJudgeReleased lets an owner have another address after a crash where it must release first.
func TestJudgeReleased(t *testing.T) {
	b := processes.Burst{Kind: durable.Kind{ReleaseFirst: true}, Processes: 1, Claims: 1}
	o := processes.Judge(b, []processes.Event{{Owner: "a", Addr: one}, {Owner: "a", Addr: two}},
		map[string]netip.Addr{"a": two}, nil)
	require.True(t, o.OK(), "%v", o)
}
