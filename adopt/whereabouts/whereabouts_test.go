package whereabouts_test

import (
	"bytes"
	"io"
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/adopttest"
	"github.com/ipalloc/ipalloc/adopt/whereabouts"
	"github.com/ipalloc/ipalloc/pool"
)

func readAll(r io.ReadSeeker) adopt.Entries { return whereabouts.Read(r, nil) }

const (
	web0 = "988ec2858be5bba9ca8085313bd54df729ad976721baa5d70b0bcfaa5a6a546f/net1"
	web1 = "2329905a30130454f502c64ad531af3bc3fb38395708f521161b0ea8373001c5/eth0"
	vm0  = "6442798c086abdad4c636b7c8e51f427511076a250e5434889b675c9e60bca06/net1"
)

func TestFiles(t *testing.T) {
	adopttest.RequireFile(t, readAll, "testdata/ippools.yaml",
		"192.0.2.2/32 "+web1+" ip-pool=192.0.2.0-24 pod-name=web-1 pod-namespace=default (IPPool kube-system/192.0.2.0-24)",
		"192.0.2.1/32 "+vm0+" ip-pool=blue-192.0.2.0-24 ipam-claim=vms/vm-0.net1 network-name=blue "+
			"pod-name=virt-launcher-vm-0-x7k2p pod-namespace=vms (IPPool kube-system/blue-192.0.2.0-24)",
		"192.0.2.1/32,2001:db8::8000:0:0:1/128 "+web0+" ip-pool=192.0.2.0-24 pod-name=web-0 pod-namespace=default "+
			"(IPPool kube-system/192.0.2.0-24)")
}

func TestKeep(t *testing.T) {
	f, err := os.Open("testdata/ippools.yaml")
	require.NoError(t, err)
	defer f.Close()
	var seen []whereabouts.Pool
	entries := whereabouts.Read(f, func(p whereabouts.Pool) bool {
		seen = append(seen, p)
		return p.NetworkName == "blue"
	})
	require.Len(t, adopttest.Texts(t, entries), 1)
	require.Equal(t, []whereabouts.Pool{
		{Namespace: "kube-system", Name: "192.0.2.0-24", Range: netip.MustParsePrefix("192.0.2.0/24")},
		{Namespace: "kube-system", Name: "2001-db8---64", Range: netip.MustParsePrefix("2001:db8::/64")},
		{
			Namespace: "kube-system", Name: "blue-192.0.2.0-24", Range: netip.MustParsePrefix("192.0.2.0/24"),
			NetworkName: "blue",
		},
	}, seen)
}

// What is written for some entries is read as the same entries.
func TestWrite(t *testing.T) {
	entries := []adopt.Entry{
		{Owner: "a/net1", Prefixes: []netip.Prefix{
			netip.MustParsePrefix("192.0.2.9/32"), netip.MustParsePrefix("2001:db8::8000:0:0:1/128"),
		}, Labels: map[string]string{whereabouts.LabelPodNamespace: "ns", whereabouts.LabelPodName: "web"}},
		{Owner: "elsewhere/net1", Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/32")}},
	}
	o := whereabouts.Objects{
		NetworkName: "blue", Namespace: whereabouts.Namespace, Reservations: true,
		Ranges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")},
	}
	var text bytes.Buffer
	require.NoError(t, o.Write(&text, entries...))
	require.Equal(t, []string{
		"192.0.2.9/32,2001:db8::8000:0:0:1/128 a/net1 ip-pool=blue-192.0.2.0-24 network-name=blue pod-name=web " +
			"pod-namespace=ns (IPPool kube-system/blue-192.0.2.0-24)",
	}, adopttest.Texts(t, readAll(bytes.NewReader(text.Bytes()))))
	require.ErrorIs(t, o.Write(&text, adopt.Entry{Owner: "a"}), pool.ErrInvalid)
}

func TestWrongObjectsAreRefused(t *testing.T) {
	const begin = `{"kind": "IPPool", "metadata": {"name": "p"}, "spec": `
	adopttest.RequireErrors(t, readAll, `{"items": [{"spec": {"range": "10.0.0.0/24"}}]}`, map[string]string{
		begin + `{"range": "x"}}`: "IPPool p: spec.range: ",
		begin + `7}`:              "cannot unmarshal number",
		begin + `{"range":
			"10.0.0.0/24", "allocations": {"256": {"id": "a"}}}}`: `"256" is outside of 10.0.0.0/24`,
		begin + `{"range":
			"10.0.0.0/24", "allocations": {"-1": {"id": "a"}}}}`: `"-1" is not the number of an address`,
		begin + `{"range": "10.0.0.0/24", "allocations": {"99999999999": {"id": "a"}}}}`: "is outside of 10.0.0.0/24",
		begin + `{"range":
			"10.0.0.0/24", "allocations": {"1": {}}}}`: `spec.allocations["1"]: it names no container`,
		`{"kind":
			"OverlappingRangeIPReservation"}`: "only objects of other kinds",
	})
}

func FuzzRead(f *testing.F) {
	adopttest.Fuzz(f, readAll, []string{"testdata/ippools.yaml", "testdata/reservations.yaml"})
}
