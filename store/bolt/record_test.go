package bolt_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// drawRecord returns a valid canonical record, simple or not.
func drawRecord(random *rand.Rand) store.Record {
	texts := []string{"", "allocated", "free space", `a"b`, "a\\b", "<&>", "ä\u2028", "a\tb", "\x7f"}
	datas := []string{"", `{"a":1}`, ` {"a": [1,  2]} `, "null", `"<>"`, "7"}
	r := store.Record{
		Key:      store.Key{Kind: store.KindAllocation, Pool: "p", Name: "n"},
		Revision: int64(random.Uint64() >> (1 + random.IntN(63))), State: texts[random.IntN(len(texts))],
	}
	for range random.IntN(4) {
		a := netip.AddrFrom4([4]byte{10, byte(random.Uint32())})
		if random.IntN(2) == 0 {
			a = netip.AddrFrom16([16]byte{0x20, 1, byte(random.Uint32()), 15: byte(random.Uint32())})
		}
		r.Prefixes = append(r.Prefixes, netip.PrefixFrom(a, 1+random.IntN(a.BitLen())).Masked())
	}
	if random.IntN(3) == 0 {
		r.Labels = map[string]string{"a": texts[random.IntN(len(texts))], "b": ""}
	}
	for _, t := range []*time.Time{&r.Created, &r.Expires} {
		if random.IntN(3) > 0 {
			*t = time.UnixMicro(random.Int64N(1 << 55))
		}
	}
	r.Data = json.RawMessage(datas[random.IntN(len(datas))])
	return r.Canonical()
}

// The file holds what package json writes, and what it reads is the same with the short cuts and without.
func TestRecordsAreJSON(t *testing.T) {
	random, simple := rand.New(rand.NewPCG(1, 2)), 0
	for range 20_000 {
		r := drawRecord(random)
		text, err := bolt.EncodeRecord(r)
		require.NoError(t, err)
		want, err := bolt.EncodeAnyRecord(r)
		require.NoError(t, err)
		require.Equal(t, string(want), string(text))
		read, isSimple, err := bolt.DecodeRecord(r.Key, text)
		require.NoError(t, err)
		slow, err := bolt.DecodeAnyRecord(r.Key, text)
		require.NoError(t, err)
		require.Equal(t, slow, read)
		if isSimple {
			simple++
		}
	}
	require.Greater(t, simple, 2_000, "the short cut is taken")
}

func FuzzDecodeRecord(f *testing.F) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		text, err := bolt.EncodeRecord(drawRecord(random))
		require.NoError(f, err)
		f.Add(text)
	}
	for _, text := range []string{"", "{", `{"revision":}`, `{"revision":01}`, `{"revision":1,"data":}`, `{"revision":1}}`,
		`{"revision":1,"prefixes":[""]}`, `{"revision":1,"created":"2024-05-06T07:08:09+02:00"}`,
		`{"revision":1,"state":"a","state":"b"}`, `{"revision":9223372036854775808}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		key := store.Key{Kind: store.KindAllocation, Pool: "p", Name: "n"}
		read, simple, err := bolt.DecodeRecord(key, text)
		slow, slowErr := bolt.DecodeAnyRecord(key, text)
		require.Equal(t, slowErr, err)
		require.Equal(t, slow, read)
		if simple {
			require.NoError(t, slowErr)
		}
	})
}
