package clusterapi_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/clusterapi"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// FuzzParse checks that an accepted document makes a pool that keeps the rules of the format, and
// that a refused one has a reason, on one line.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(fixtures, "*.yaml"))
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
	f.Add([]byte(v1alpha2("addresses: ['2001:db8::/64']", "prefix: 64", "gateway: '2001:db8::1'",
		"excludedAddresses: ['2001:db8::2']")))
	f.Add([]byte(v1alpha2("addresses: [&a 10.0.0.9/31]", "prefix: 0", "gateway: *a", "allocateReservedIPAddresses: true")))
	f.Add([]byte(v1alpha1("subnet: '::/0'", "start: '::1'")))
	f.Add([]byte(v1alpha1("start: 10.0.0.1", "end: 10.0.0.9", "prefix: 31")))
	f.Fuzz(func(t *testing.T, data []byte) {
		pools, err := clusterapi.Parse(data)
		if err != nil {
			checkError(t, err)
			return
		}
		for _, p := range pools {
			checkPool(t, p)
		}
	})
}

// checkError checks that each error is one line, and not much longer than what it may quote.
func checkError(t *testing.T, err error) {
	t.Helper()
	all := config.FieldErrors(err)
	if len(all) == 0 {
		t.Errorf("the error has no field errors: %v", err)
	}
	for _, wrong := range all {
		message := wrong.Error()
		if i := strings.IndexFunc(message, unicode.IsControl); i >= 0 || strings.TrimSpace(message) == "" {
			t.Errorf("the message %q is empty or has a control character at %d", message, i)
		}
		if len(message) > 2000 {
			t.Errorf("the message has %d bytes: %.100q…", len(message), message)
		}
	}
}

func checkPool(t *testing.T, p clusterapi.Pool) {
	t.Helper()
	if _, err := pool.Create(t.Context(), store.NewMemory(), "made", p.Spec, nil); err != nil {
		t.Fatalf("no pool can be made: %v", err)
	}
	global := p.Kind == clusterapi.KindGlobal || p.Kind == clusterapi.KindGlobalPrefix
	if slash := strings.Contains(p.StoreName(), "/"); slash == global {
		t.Errorf("the name %q is not one of a %s", p.StoreName(), p.Kind)
	}
	if families := p.Spec.AllFamilies(); len(families) != 1 {
		t.Fatalf("the pool has the families %v, want one", families)
	}
	if p.Kind == clusterapi.KindNamespaced || p.Kind == clusterapi.KindGlobal {
		checkAddresses(t, p)
	}
}

func checkAddresses(t *testing.T, p clusterapi.Pool) {
	t.Helper()
	subnet, set := p.Spec.Subnets[0].Prefix, p.Spec.Set(p.Spec.AllFamilies()[0])
	if len(p.Spec.Subnets) != 1 || subnet.Bits() != p.Prefix {
		t.Fatalf("the subnets are %v, want one of length %d", p.Spec.Subnets, p.Prefix)
	}
	for _, r := range set.Ranges() {
		if !subnet.Contains(r.From()) || !subnet.Contains(r.To()) {
			t.Errorf("%v is handed out, but is not in %v", r, subnet)
		}
	}
	if set.Contains(p.Gateway) {
		t.Errorf("the gateway %v is handed out", p.Gateway)
	}
	for _, addr := range cidr.Reserved(subnet) {
		if set.Contains(addr) && !p.Spec.IPv4.AllocateReserved {
			t.Errorf("the reserved address %v is handed out", addr)
		}
	}
}
