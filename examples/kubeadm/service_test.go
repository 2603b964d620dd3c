package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The Service ranges of the clusters in these tests. The first address that is not in the band of static addresses is
// 10.96.0.17 or fd00:2::11.
const (
	only4  = "10.96.0.0/24"
	only6  = "fd00:2::/120"
	first4 = only4 + "," + only6
	first6 = only6 + "," + only4
)

// TestServices has the rules of ipFamilyPolicy, ipFamilies and clusterIPs for a new Service.
func TestServices(t *testing.T) {
	for _, c := range []struct{ name, ranges, spec, want string }{
		{"nothing, IPv4", only4, "", "new 10.96.0.17 SingleStack IPv4"},
		{"nothing, IPv6", only6, "", "new fd00:2::11 SingleStack IPv6"},
		{"nothing, IPv4 first", first4, "", "new 10.96.0.17 SingleStack IPv4"},
		{"nothing, IPv6 first", first6, "", "new fd00:2::11 SingleStack IPv6"},
		{"the other family", first4, "ipFamilies: [IPv6]", "new fd00:2::11 SingleStack IPv6"},
		{"SingleStack", first6, "ipFamilyPolicy: SingleStack", "new fd00:2::11 SingleStack IPv6"},
		{"SingleStack, the other family", first6, "ipFamilyPolicy: SingleStack, ipFamilies: [IPv4]",
			"new 10.96.0.17 SingleStack IPv4"},

		{"PreferDualStack of one", only4, "ipFamilyPolicy: PreferDualStack", "new 10.96.0.17 PreferDualStack IPv4"},
		{"PreferDualStack", first4, "ipFamilyPolicy: PreferDualStack",
			"new 10.96.0.17,fd00:2::11 PreferDualStack IPv4,IPv6"},
		{"PreferDualStack, IPv6 first", first6, "ipFamilyPolicy: PreferDualStack",
			"new fd00:2::11,10.96.0.17 PreferDualStack IPv6,IPv4"},
		{"PreferDualStack, primary family", first4, "ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6]",
			"new fd00:2::11,10.96.0.17 PreferDualStack IPv6,IPv4"},
		{"PreferDualStack, both families", first6, "ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv4, IPv6]",
			"new 10.96.0.17,fd00:2::11 PreferDualStack IPv4,IPv6"},
		{"RequireDualStack", first4, "ipFamilyPolicy: RequireDualStack",
			"new 10.96.0.17,fd00:2::11 RequireDualStack IPv4,IPv6"},
		{"RequireDualStack, primary family", first4, "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6]",
			"new fd00:2::11,10.96.0.17 RequireDualStack IPv6,IPv4"},

		{"NodePort", first4, "type: NodePort", "new 10.96.0.17 SingleStack IPv4"},
		{"LoadBalancer", first4, "type: LoadBalancer", "new 10.96.0.17 SingleStack IPv4"},
		{"ExternalName", first4, "type: ExternalName, externalName: a.test", "none - -"},
		{"empty lists", first4, "clusterIP: \"\", clusterIPs: [], ipFamilies: []", "new 10.96.0.17 SingleStack IPv4"},

		{"an address", first4, "clusterIP: 10.96.0.5", "new 10.96.0.5 SingleStack IPv4"},
		{"an address twice", first4, "clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5]", "new 10.96.0.5 SingleStack IPv4"},
		{"an address decides the family", first4, `clusterIP: "fd00:2::5"`, "new fd00:2::5 SingleStack IPv6"},
		{"an address and any", first4, `clusterIP: "fd00:2::5", ipFamilyPolicy: PreferDualStack`,
			"new fd00:2::5,10.96.0.17 PreferDualStack IPv6,IPv4"},
		{"two addresses", first4,
			`clusterIP: "fd00:2::5", clusterIPs: ["fd00:2::5", 10.96.0.5], ipFamilyPolicy: RequireDualStack`,
			"new fd00:2::5,10.96.0.5 RequireDualStack IPv6,IPv4"},

		{"headless", first4, "clusterIP: None, selector: {a: b}", "none None SingleStack IPv4"},
		{"headless, IPv6 first", first6, "clusterIP: None, selector: {a: b}", "none None SingleStack IPv6"},
		{"headless, PreferDualStack", first4, "clusterIP: None, selector: {a: b}, ipFamilyPolicy: PreferDualStack",
			"none None PreferDualStack IPv4,IPv6"},
		{"headless, PreferDualStack of one", only4, "clusterIP: None, selector: {a: b}, ipFamilyPolicy: PreferDualStack",
			"none None PreferDualStack IPv4"},
		{"headless without a selector", only4, "clusterIP: None", "none None RequireDualStack IPv4,IPv6"},
		{"headless without a selector, single", only6, "clusterIP: None, ipFamilyPolicy: SingleStack",
			"none None SingleStack IPv6"},
		{"headless without a selector, family", only4, "clusterIP: None, ipFamilies: [IPv6]",
			"none None RequireDualStack IPv6,IPv4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newDesk(t).ok("assign", configuration("", c.ranges), service("web", c.spec))
			require.Equal(t, c.want, r.row("Service", "default/web"))
		})
	}
}

// TestRefusedServices has the rules that are checked before anything is changed. The errors quote the input and name
// the object, the key and what would be right.
func TestRefusedServices(t *testing.T) {
	for _, c := range []struct{ name, ranges, spec, key, want string }{
		{"RequireDualStack of one", only4, "ipFamilyPolicy: RequireDualStack", "spec.ipFamilyPolicy",
			`"RequireDualStack" is not for this cluster, which is single-stack`},
		{"a family that is not there", only4, "ipFamilies: [IPv6]", "spec.ipFamilies[0]",
			`"IPv6" is not a family of networking.serviceSubnet, want IPv4`},
		{"an address of a family that is not there", only4, `clusterIP: "fd00:2::5"`, "spec.clusterIP",
			`"fd00:2::5" is not of a family of networking.serviceSubnet, want IPv4`},
		{"two families, SingleStack", first4, "ipFamilies: [IPv4, IPv6], ipFamilyPolicy: SingleStack",
			"spec.ipFamilyPolicy", `"SingleStack" is SingleStack for a Service of two families`},
		{"two families, no policy", first4, "ipFamilies: [IPv4, IPv6]", "spec.ipFamilyPolicy",
			"want PreferDualStack or RequireDualStack"},
		{"two addresses, no policy", first4, `clusterIP: "fd00:2::5", clusterIPs: ["fd00:2::5", 10.96.0.5]`,
			"spec.ipFamilyPolicy", "two addresses, want PreferDualStack or RequireDualStack"},
		{"unknown policy", first4, "ipFamilyPolicy: DualStack", "spec.ipFamilyPolicy", `"DualStack" is not a policy`},
		{"unknown family", first4, "ipFamilies: [ipv4]", "spec.ipFamilies[0]", `"ipv4" is not a family, want IPv4 or IPv6`},
		{"a family twice", first4, "ipFamilies: [IPv4, IPv4]", "spec.ipFamilies[1]", `"IPv4" is there twice`},
		{"unknown type", first4, "type: Headless", "spec.type", `"Headless" is not a type of Service`},
		{"not an address", first4, "clusterIP: none", "spec.clusterIP", `"none" is not read`},
		{"leading zero", first4, "clusterIP: 10.96.0.05", "spec.clusterIP", `"10.96.0.05" is not read`},
		{"plural alone", first4, "clusterIPs: [10.96.0.5]", "spec.clusterIPs", "want clusterIP too"},
		{"another first", first4, "clusterIP: 10.96.0.5, clusterIPs: [10.96.0.6]", "spec.clusterIP",
			`"10.96.0.5" is not the first of clusterIPs, want 10.96.0.6`},
		{"None and an address", first4, "clusterIP: None, clusterIPs: [None, 10.96.0.6]", "spec.clusterIPs[0]",
			`"None" is not alone`},
		{"headless NodePort", first4, "type: NodePort, clusterIP: None", "spec.clusterIP",
			`"None" is not for Services of type NodePort`},
		{"two of one family", first4, "clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5, 10.96.0.6]", "spec.clusterIPs",
			"more than one address of a family"},
		{"another family", first4, `clusterIP: 10.96.0.5, ipFamilies: [IPv6]`, "spec.clusterIP",
			`"10.96.0.5" is not of the family in ipFamilies[0], want an IPv6 address`},
		{"ExternalName with an address", first4, "type: ExternalName, clusterIP: 10.96.0.5", "spec.clusterIP",
			`"10.96.0.5" is not for Services of type ExternalName`},
		{"ExternalName with a policy", first4, "type: ExternalName, ipFamilyPolicy: SingleStack", "spec.ipFamilyPolicy",
			"is not for Services of type ExternalName"},
		{"ExternalName with families", first4, "type: ExternalName, ipFamilies: [IPv4]", "spec.ipFamilies",
			"is not for Services of type ExternalName"},
		{"a number", first4, "type: 5", "spec.type", `"5" is not a text`},
		{"a key twice", first4, "type: NodePort, type: ClusterIP", "spec.type", "is there twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			d.keep("assign", configuration("", c.ranges), service("before", ""))
			d.refused([]string{"assign", "-db", d.db, configuration("", c.ranges), service("good", ""), service("web", c.spec)},
				".yaml:4: ", "Service default/web: "+c.key+": ", c.want)
		})
	}
}

// The addresses of the band are for wishes: a Service without one gets them when there is nothing else.
func TestStaticBand(t *testing.T) {
	for _, c := range []struct{ ranges, first, last string }{
		{"10.96.0.0/28", "10.96.0.2", "10.96.0.14"}, // not divided
		{"10.96.0.0/24", "10.96.0.17", "10.96.0.254"},
		{"10.96.0.0/20", "10.96.1.1", "10.96.15.254"},
		{"10.96.0.0/12", "10.96.1.1", "10.111.255.254"},
		{"fd00:2::/120", "fd00:2::11", "fd00:2::ff"},
		{"fd00:2::/108", "fd00:2::101", "fd00:2::f:ffff"},
	} {
		last := service("last", fmt.Sprintf("clusterIP: %q", c.last))
		r := newDesk(t).ok("assign", configuration("", c.ranges), service("web", ""), last)
		require.Equal(t, c.first, strings.Fields(r.row("Service", "default/web"))[1], c.ranges)
		require.Equal(t, c.last, strings.Fields(r.row("Service", "default/last"))[1], "is usable")
	}
}

func TestStaticBandIsUsedLast(t *testing.T) {
	var wishes strings.Builder
	for i := range 300 {
		wishes.WriteString(service(fmt.Sprintf("s-%d", i), ""))
	}
	d := newDesk(t)
	r := d.try("assign", "-db", d.db, configuration("", "10.96.0.0/24"), wishes.String())
	require.Equal(t, 1, r.status)
	require.Equal(t, "new 10.96.0.254 SingleStack IPv4", r.row("Service", "default/s-237"), "17 to 254 come first")
	require.Equal(t, "new 10.96.0.2 SingleStack IPv4", r.row("Service", "default/s-238"), "then those of the band")
	require.Equal(t, "new 10.96.0.16 SingleStack IPv4", r.row("Service", "default/s-251"))
	require.Equal(t, "failed - SingleStack IPv4", r.row("Service", "default/s-252"), "254 less kubernetes and kube-dns")
	require.Contains(t, r.stderr, "Service default/s-252: ")
	require.Contains(t, r.stderr, "exhausted")
	require.Equal(t, "/32 254 0", r.pool("services", "IPv4"))
	require.Len(t, d.kept(), 254)
}

// A wish comes before whatever the others get, although it is read later.
func TestWishesComeFirst(t *testing.T) {
	r := newDesk(t).ok("assign", configuration("", only4), service("a", ""), service("b", "clusterIP: 10.96.0.17"),
		live(withIPs("c", "SingleStack", "10.96.0.18")))
	require.Equal(t, "new 10.96.0.19 SingleStack IPv4", r.row("Service", "default/a"))
	require.Equal(t, "new 10.96.0.17 SingleStack IPv4", r.row("Service", "default/b"))
	require.Equal(t, "adopted 10.96.0.18 SingleStack IPv4", r.row("Service", "default/c"))
}

// So does a wish for one address and any of the other family, and one of a Service that has an address already.
func TestWishesOfBothFamiliesComeFirst(t *testing.T) {
	config := configuration("", first4)
	a := service("a", "clusterIP: 10.96.0.17, ipFamilyPolicy: PreferDualStack")
	b := service("b", `clusterIP: "fd00:2::11", ipFamilyPolicy: PreferDualStack`)
	c := service("c", "ipFamilyPolicy: PreferDualStack")
	for _, objects := range []string{a + b + c, c + b + a} {
		r := newDesk(t).ok("assign", config, objects)
		require.Contains(t, r.row("Service", "default/a"), "new 10.96.0.17,fd00:2::1")
		require.Contains(t, r.row("Service", "default/b"), "new fd00:2::11,10.96.0.1")
		require.Contains(t, r.row("Service", "default/c"), "new 10.96.0.1")
	}
	d := newDesk(t)
	d.keep("assign", config, service("has", ""))
	more := withIPs("has", "PreferDualStack", "10.96.0.17", "fd00:2::11")
	r := d.keep("assign", config, c, more)
	require.Equal(t, "changed 10.96.0.17,fd00:2::11 PreferDualStack IPv4,IPv6", r.row("Service", "default/has"))
	require.Equal(t, "new 10.96.0.18,fd00:2::12 PreferDualStack IPv4,IPv6", r.row("Service", "default/c"))
}

func TestWishesThatCannotBeMet(t *testing.T) {
	d := newDesk(t)
	config := configuration("", only4)
	d.keep("assign", config, service("a", "clusterIP: 10.96.0.5"))
	for wish, want := range map[string]string{
		"10.96.0.5":   "10.96.0.5/32: taken by default/a",
		"10.96.0.1":   "10.96.0.1/32: taken by default/kubernetes",
		"10.96.0.0":   "10.96.0.0/32: not in the pool",
		"10.96.0.255": "10.96.0.255/32: not in the pool",
		"10.97.0.5":   "10.97.0.5/32: not in the pool",
	} {
		r := d.try("assign", "-db", d.db, config, service("b", "clusterIP: "+wish), service("c", ""))
		require.Equal(t, 1, r.status)
		require.Equal(t, "failed - SingleStack IPv4", r.row("Service", "default/b"))
		require.Contains(t, r.stderr, "Service default/b: ")
		require.Contains(t, r.stderr, want)
		require.Contains(t, r.row("Service", "default/c"), "10.96.0.17", "the others get theirs")
	}
	require.NotContains(t, d.kept(), "services default/b")
	both := service("b", "clusterIP: 10.96.0.6") + service("c", "clusterIP: 10.96.0.6")
	d.refused([]string{"assign", "-db", d.db, config, both},
		"Service default/c: spec.clusterIP", `"10.96.0.6" is that of the Service default/b`)
}

func TestImpliedServices(t *testing.T) {
	for ranges, want := range map[string][2]string{
		"":     {"10.96.0.1 SingleStack IPv4", "10.96.0.10 SingleStack IPv4"}, // kubeadm's own subnet
		first4: {"10.96.0.1 SingleStack IPv4", "10.96.0.10 SingleStack IPv4"},
		first6: {"fd00:2::1 SingleStack IPv6", "fd00:2::a SingleStack IPv6"},
	} {
		r := newDesk(t).ok("assign", configuration("", ranges))
		require.Equal(t, "new "+want[0], r.row("Service", "default/kubernetes"))
		require.Equal(t, "new "+want[1], r.row("Service", "kube-system/kube-dns"))
	}
	// Another Service may have the address of the DNS, and the DNS may have another address.
	r := newDesk(t).ok("assign", configuration("", only4), service("coredns", "clusterIP: 10.96.0.10"))
	require.Empty(t, r.row("Service", "kube-system/kube-dns"))
	dns := strings.Replace(live(withIPs("kube-dns", "SingleStack", "10.96.0.11")), "default", "kube-system", 1)
	r = newDesk(t).ok("assign", configuration("", only4), dns)
	require.Equal(t, "adopted 10.96.0.11 SingleStack IPv4", r.row("Service", "kube-system/kube-dns"))
}

// TestChangesOfServices has what becomes of a Service that is changed. Each case is the Service before and after.
func TestChangesOfServices(t *testing.T) {
	const (
		single  = "ipFamilyPolicy: SingleStack"
		prefer  = "ipFamilyPolicy: PreferDualStack"
		require = "ipFamilyPolicy: RequireDualStack"
	)
	for _, c := range []struct{ name, ranges, before, after, want string }{
		{"to PreferDualStack", first4, single, prefer, "changed 10.96.0.17,fd00:2::11 PreferDualStack IPv4,IPv6"},
		{"to RequireDualStack", first4, single, require, "changed 10.96.0.17,fd00:2::11 RequireDualStack IPv4,IPv6"},
		{"to both, of the other family", first4, "ipFamilies: [IPv6]", prefer,
			"changed fd00:2::11,10.96.0.17 PreferDualStack IPv6,IPv4"},
		{"to SingleStack", first4, require, single, "changed 10.96.0.17 SingleStack IPv4"},
		{"to SingleStack, of the other family", first4, "ipFamilies: [IPv6], " + prefer, single,
			"changed fd00:2::11 SingleStack IPv6"},
		{"no policy", first4, prefer, "", "kept 10.96.0.17,fd00:2::11 PreferDualStack IPv4,IPv6"},
		{"the same family", first4, "ipFamilies: [IPv6], " + prefer, "ipFamilies: [IPv6], " + prefer,
			"kept fd00:2::11,10.96.0.17 PreferDualStack IPv6,IPv4"},
		{"a second address", first4, "clusterIP: 10.96.0.5",
			`clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5, "fd00:2::5"], ` + prefer,
			"changed 10.96.0.5,fd00:2::5 PreferDualStack IPv4,IPv6"},
		{"another policy, the same addresses", only4, single, prefer, "changed 10.96.0.17 PreferDualStack IPv4"},
		{"the same address", only4, "", "clusterIP: 10.96.0.17", "kept 10.96.0.17 SingleStack IPv4"},
		{"type NodePort", only4, "", "type: NodePort", "kept 10.96.0.17 SingleStack IPv4"},
		{"type ExternalName", first4, prefer, "type: ExternalName", "released 10.96.0.17,fd00:2::11 -"},
		{"from ExternalName", first4, "type: ExternalName", "", "new 10.96.0.17 SingleStack IPv4"},
		{"from headless", first4, "clusterIP: None", "", "new 10.96.0.17 SingleStack IPv4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			config := configuration("", c.ranges)
			d.keep("assign", config, service("web", c.before))
			r := d.keep("assign", config, service("web", c.after))
			assertRow(t, r, c.want)
			kept := strings.NewReplacer("changed", "kept", "new", "kept", "released", "none").Replace(c.want)
			if strings.HasPrefix(kept, "none") {
				kept = "none - -"
			}
			assertRow(t, d.keep("assign", config, service("web", c.after)), kept)
		})
	}
}

func assertRow(t *testing.T, r result, want string) {
	t.Helper()
	require.Equal(t, want, r.row("Service", "default/web"))
}

func TestChangesThatAreRefused(t *testing.T) {
	for _, c := range []struct{ name, before, after, want string }{
		{"another address", "", "clusterIP: 10.96.0.5",
			`spec.clusterIP: "10.96.0.5" may not change once set, want what the Service has: 10.96.0.17`},
		{"another primary family", "", "ipFamilies: [IPv6]", `spec.ipFamilies[0]: "IPv6" may not change once set`},
		{"the families the other way round", "ipFamilyPolicy: PreferDualStack",
			"ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6, IPv4]", "may not change once set"},
		{"to headless", "", "clusterIP: None", `spec.clusterIP: "None" may not change once set`},
		{"SingleStack with two families", "ipFamilyPolicy: PreferDualStack",
			"ipFamilyPolicy: SingleStack, ipFamilies: [IPv4, IPv6]", "want PreferDualStack or RequireDualStack"},
		{"a second family without a policy", "", "ipFamilies: [IPv4, IPv6]", "want PreferDualStack or RequireDualStack"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			config := configuration("", first4)
			d.keep("assign", config, service("web", c.before))
			d.refused([]string{"assign", "-db", d.db, config, service("web", c.after)}, "Service default/web: ", c.want)
		})
	}
}

// A Service that prefers both families is not changed when the cluster becomes dual-stack, as in Kubernetes; one that
// requires both from then on is.
func TestClusterBecomesDualStack(t *testing.T) {
	d := newDesk(t)
	prefer := service("web", "ipFamilyPolicy: PreferDualStack")
	d.keep("assign", configuration("", only4), prefer)
	r := d.keep("assign", configuration("", first4), prefer, service("new", "ipFamilyPolicy: PreferDualStack"))
	assertRow(t, r, "kept 10.96.0.17 PreferDualStack IPv4")
	require.Equal(t, "new 10.96.0.18,fd00:2::11 PreferDualStack IPv4,IPv6", r.row("Service", "default/new"))
	r = d.keep("assign", configuration("", first4), service("web", "ipFamilyPolicy: RequireDualStack"))
	assertRow(t, r, "changed 10.96.0.17,fd00:2::12 RequireDualStack IPv4,IPv6")

	// What a Service of an API server has is all that it is to have.
	r = newDesk(t).ok("assign", configuration("", first4), live(withIPs("web", "PreferDualStack", "10.96.0.5")))
	assertRow(t, r, "adopted 10.96.0.5 PreferDualStack IPv4")
}

// An exchange that cannot be done leaves the Service what it has.
func TestExchangeThatFails(t *testing.T) {
	d := newDesk(t)
	config := configuration("", only4+",fd00:2::/124")
	var fill, more strings.Builder
	for i := range 15 {
		fill.WriteString(service(fmt.Sprintf("six-%d", i), "ipFamilies: [IPv6]"))
	}
	for i := range 3 {
		more.WriteString(service(fmt.Sprintf("four-%d", i), ""))
	}
	d.keep("assign", config, fill.String(), more.String())
	both := strings.ReplaceAll(more.String(), "{}", "{ipFamilyPolicy: RequireDualStack}")
	for range 3 {
		r := d.try("assign", "-db", d.db, config, both)
		require.Equal(t, 1, r.status)
		require.Equal(t, "failed 10.96.0.18 RequireDualStack IPv4,IPv6", r.row("Service", "default/four-1"))
		require.Contains(t, r.stderr, "exhausted")
	}
	d.keep("assign", config, service("six-3", "type: ExternalName"))
	r := d.try("assign", "-db", d.db, config, both)
	require.Equal(t, "changed 10.96.0.17,fd00:2::4 RequireDualStack IPv4,IPv6", r.row("Service", "default/four-0"))
	require.Equal(t, "failed 10.96.0.18 RequireDualStack IPv4,IPv6", r.row("Service", "default/four-1"))
}
