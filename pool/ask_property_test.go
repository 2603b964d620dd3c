package pool_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// drawAsked draws what may be asked for an owner.
func drawAsked(t *rapid.T, owner string) pool.Asked {
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return pool.Asked{
			Owner: owner, Generation: rapid.Int64Min(0).Draw(t, "generation"), Optional: rapid.Bool().Draw(t, "optional"),
		}
	case 1:
		return pool.Asked{Owner: owner, TTL: drawTTL(t)}
	}
	c := &pool.Claim{
		Owner: owner, Policy: rapid.SampledFrom(policies).Draw(t, "policy"),
		Fenced: rapid.Bool().Draw(t, "fenced"), Scope: rapid.StringMatching(`[^\x00]{0,5}`).Draw(t, "scope"),
	}
	if rapid.Bool().Draw(t, "shared") {
		c.Share = rapid.String().Draw(t, "share")
	}
	if rapid.Bool().Draw(t, "lease") {
		c.TTL = drawTTL(t)
	}
	if labels := rapid.MapOfN(rapid.String(), rapid.String(), 0, 3).Draw(t, "labels"); len(labels) > 0 {
		c.Labels = labels
	}
	for range rapid.IntRange(0, 3).Draw(t, "requests") {
		c.Requests = append(c.Requests, drawAskedRequest(t))
	}
	return pool.Asked{Claim: c, Waits: rapid.Bool().Draw(t, "waits")}
}

func drawTTL(t *rapid.T) time.Duration {
	return time.Duration(rapid.Int64Range(int64(time.Microsecond), int64(pool.MaxTTL)).Draw(t, "ttl"))
}

func drawAskedRequest(t *rapid.T) pool.Request {
	r := pool.Request{Band: rapid.String().Draw(t, "band")}
	if rapid.Bool().Draw(t, "any") {
		r.Bits = rapid.Int().Draw(t, "bits")
		r.Family = rapid.SampledFrom([]pool.Family{0, pool.IPv4, pool.IPv6}).Draw(t, "family")
		return r
	}
	bytes := rapid.SampledFrom([]int{4, 16}).Draw(t, "bytes")
	a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), bytes, bytes).Draw(t, "address"))
	r.Exact = netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "length")).Masked()
	return r
}

// What is asked for arrives as it was, or is not asked for.
func TestAsksAreReadAsWritten(t *testing.T) {
	p := create(t, store.NewMemory(), specOf("10.0.0.0/24"))
	rapid.Check(t, func(t *rapid.T) {
		var these []pool.Asked
		valid := true
		for i := range rapid.IntRange(1, 4).Draw(t, "steps") {
			owner := fmt.Sprint(i) + rapid.StringMatching(`[^\x00]{0,5}`).Draw(t, "owner")
			these = append(these, drawAsked(t, owner))
			if c := these[i].Claim; c != nil {
				valid = valid && c.Validate() == nil
			}
		}
		whole := rapid.Bool().Draw(t, "whole")
		ask := pool.AskOf(p, whole, these)
		require.Equal(t, valid, ask != nil)
		if !valid {
			return
		}
		read, all, ok := pool.ReadAsk(p, ask)
		require.True(t, ok, "%s", ask)
		require.Equal(t, whole, all)
		require.Equal(t, these, read)
	})
}

// Whatever an ask is, reading it does not panic, and what is taken of it can be asked again.
func FuzzAsk(f *testing.F) {
	p := create(f, store.NewMemory(), specOf("10.0.0.0/24"))
	f.Add([]byte(`{"v":1,"seen":9,"ops":[{"whole":true,"steps":[` +
		`{"kind":0,"owner":"x","ttl":1000,"policy":1,"scope":"s","fenced":true,` +
		`"requests":[{"family":"IPv4","bits":30,"band":"b"},{"exact":"10.0.0.1/32"}],"labels":{"a":"b"}}]}]}`))
	f.Add([]byte(`{"v":1,"seen":9,"ops":[{"steps":[` +
		`{"kind":1,"owner":"x","generation":7,"optional":true},{"kind":2,"owner":"y","ttl":5000}]}]}`))
	f.Add([]byte(`{"v":1,"seen":9,"ops":[{"steps":[{"kind":0,"owner":"x","requests":[{"exact":""}]}]},{"steps":[]}]}`))
	f.Fuzz(func(t *testing.T, ask []byte) {
		these, whole, ok := pool.ReadAsk(p, ask)
		if !ok {
			return
		}
		again := pool.AskOf(p, whole, these)
		if again == nil {
			require.Greater(t, len(ask), store.MaxAskBytes/2, "%s", ask)
			return
		}
		same, all, ok := pool.ReadAsk(p, again)
		require.True(t, ok)
		require.Equal(t, whole, all)
		require.Len(t, same, len(these))
	})
}

// Whatever an answer is, taking it does not panic, and says that the outcome is unknown if it cannot be read.
func FuzzAnswer(f *testing.F) {
	p := create(f, store.NewMemory(), specOf("10.0.0.0/24"))
	these := []pool.Asked{{Claim: &pool.Claim{Owner: "x"}}, {Owner: "y", Optional: true}, {Owner: "z", TTL: time.Hour}}
	f.Add([]byte(`{"v":1,"steps":[` +
		`{"owner":"x","prefixes":["10.0.0.1/32"],"created":"2026-01-01T00:00:00Z","labels":{"a":"b"}},{},null]}`))
	f.Add([]byte(`{"v":1,"steps":[null,null,null]}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if err := pool.Serve(p, these, answer); err != nil {
			require.ErrorIs(t, err, store.ErrUnknown)
		}
	})
}
