package hostlocal_test

import (
	"os"
	"strings"
	"testing"
	"unicode"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/hostlocal"
	"github.com/ipalloc/ipalloc/config/manifest"
	"github.com/ipalloc/ipalloc/pool"
)

// FuzzParse checks that an accepted configuration makes a pool, that each set of it can be claimed, and that a refused
// one has reasons, each on one line.
func FuzzParse(f *testing.F) {
	fixture, err := os.ReadFile("testdata/host-local.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fixture)
	f.Add([]byte(ipam(`"subnet": "10.0.0.0/31", "rangeStart": "10.0.0.1", "gateway": "10.0.0.0"`)))
	f.Add([]byte(ipam(`"ranges": [[{"subnet": "10.0.0.0/24", "gateway": "10.1.0.9"}], [{"subnet": "10.1.0.0/24"}]]`)))
	f.Add([]byte(`{"ipam": {"subnet": "::/0", "rangeEnd": "::9"}, "args": {"cni": {"ips": ["::5/64"]}}}`))
	f.Add([]byte("kind: NetworkAttachmentDefinition\nmetadata: {name: a}\n" +
		"spec: {config: '{\"ipam\": {\"subnet\": \"::/127\"}}'}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := manifest.Parse(data, hostlocal.Read)
		if err == nil {
			checkConfig(t, c)
			return
		}
		if len(config.FieldErrors(err)) == 0 {
			t.Errorf("the error has no field errors: %v", err)
		}
		for _, wrong := range config.FieldErrors(err) {
			message := wrong.Error()
			if strings.TrimSpace(message) == "" || strings.ContainsFunc(message, unicode.IsControl) || len(message) > 2000 {
				t.Errorf("the message %.200q of %d bytes is not one short line", message, len(message))
			}
		}
	})
}

func checkConfig(t *testing.T, c hostlocal.Config) {
	t.Helper()
	p, err := pool.New(c.Spec, nil)
	if err != nil {
		t.Fatalf("no pool can be made: %v", err)
	}
	requests, err := c.Requests()
	if err != nil || len(requests) != len(c.Sets) || len(requests) == 0 {
		t.Fatalf("%d sets have %d requests, error %v", len(c.Sets), len(requests), err)
	}
	if len(requests) > pool.MaxRequests {
		return
	}
	a, err := p.Allocate(t.Context(), pool.Claim{Owner: "a", Requests: requests})
	if err != nil {
		t.Fatalf("an empty pool grants nothing: %v", err)
	}
	for i, prefix := range a.Prefixes {
		r, ok := c.Sets[i].Of(prefix.Addr())
		switch {
		case !ok || !r.Subnet.Contains(prefix.Addr()):
			t.Errorf("%v is not in set %d, %v", prefix, i, c.Sets[i])
		case prefix.Addr() == r.Gateway:
			t.Errorf("the gateway %v is handed out", prefix)
		}
		for _, reserved := range cidr.Reserved(r.Subnet) {
			if prefix.Addr() == reserved {
				t.Errorf("%v is reserved in %v, and is handed out", prefix, r.Subnet)
			}
		}
	}
}
