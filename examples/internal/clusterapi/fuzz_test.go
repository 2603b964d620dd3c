package clusterapi_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/examples/internal/clusterapi"
	"github.com/ipalloc/ipalloc/pool"
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
		p, err := clusterapi.Parse(data)
		if err != nil {
			checkMessage(t, err.Error())
			return
		}
		checkPool(t, p)
	})
}

func checkMessage(t *testing.T, message string) {
	t.Helper()
	if strings.TrimSpace(message) == "" || strings.ContainsAny(message, "\r\n") {
		t.Errorf("the message %q is not one line", message)
	}
	if i := strings.IndexFunc(message, unicode.IsControl); i >= 0 {
		t.Errorf("the message %q has a control character at %d", message, i)
	}
}

func checkPool(t *testing.T, p clusterapi.Pool) {
	t.Helper()
	if err := p.Spec.Validate(); err != nil {
		t.Fatalf("the spec is not valid: %v", err)
	}
	if families := p.Spec.AllFamilies(); len(families) != 1 || len(p.Spec.Subnets) != 1 {
		t.Fatalf("the pool has the families %v and the subnets %v, want one of each", families, p.Spec.Subnets)
	}
	if slash := strings.Contains(p.StoreName(), "/"); slash != (p.Kind == clusterapi.KindNamespaced) {
		t.Errorf("the name %q is not one of a %s", p.StoreName(), p.Kind)
	}
	subnet, set := p.Spec.Subnets[0], p.Spec.Set(p.Spec.AllFamilies()[0])
	for _, r := range set.Ranges() {
		if !subnet.Prefix.Contains(r.From()) || !subnet.Prefix.Contains(r.To()) {
			t.Errorf("%v is handed out, but is not in %v", r, subnet.Prefix)
		}
	}
	if subnet.Gateway.IsValid() && set.Contains(subnet.Gateway) {
		t.Errorf("the gateway %v is handed out", subnet.Gateway)
	}
	for _, addr := range cidr.Reserved(subnet.Prefix) {
		if set.Contains(addr) && !p.Spec.IPv4.AllocateReserved {
			t.Errorf("the reserved address %v is handed out", addr)
		}
	}
	if _, err := pool.New(p.Spec, nil); err != nil {
		t.Errorf("no pool can be made: %v", err)
	}
}
