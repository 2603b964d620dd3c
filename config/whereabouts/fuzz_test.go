package whereabouts_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/manifest"
	"github.com/ipalloc/ipalloc/config/whereabouts"
	"github.com/ipalloc/ipalloc/pool"
)

// FuzzParse checks that an accepted configuration makes pools, that its ranges can be claimed, and that a refused one
// has reasons, each on one line.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.*")
	if err != nil || len(files) == 0 {
		f.Fatal("there are no fixtures", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(ipam(`"range": "::/0", "gateway": "::1", "exclude": ["::2/127"], "enable_l3": true,
		"node_slice_size": "/1"`)))
	f.Add([]byte(ipam(`"range": "10.0.0.0/31", "range_start": "10.0.0.1",
		"ipRanges": [{"range": "10.0.0.0-10.0.0.9/8"}]`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := manifest.Parse(data, whereabouts.Read)
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

func checkConfig(t *testing.T, c whereabouts.Config) {
	t.Helper()
	if len(c.Ranges) == 0 {
		t.Fatal("there are no ranges")
	}
	whole, err := pool.New(c.Spec(), nil)
	if err != nil {
		t.Fatalf("no pool can be made of all ranges: %v", err)
	}
	for i, r := range c.Ranges {
		alone, err := pool.New(r.Spec, nil)
		if err != nil {
			t.Fatalf("no pool can be made of range %d: %v", i, err)
		}
		for _, p := range []*pool.Pool{whole, alone} {
			a, err := p.Allocate(t.Context(), pool.Claim{Owner: "a", Requests: c.Requests()[i : i+1]})
			if err != nil {
				t.Fatalf("an empty pool grants nothing of range %d: %v", i, err)
			}
			got := a.Prefixes[0].Addr()
			if !r.Addresses.Contains(got) || !r.Subnet.Contains(got) || got == c.Gateway {
				t.Errorf("%v is handed out of range %d, %v of %v with the gateway %v", got, i, r.Addresses, r.Subnet, c.Gateway)
			}
			if _, err := p.Release(t.Context(), pool.Held{Owner: "a"}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
