package addressing_test

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/addressing"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/cluster"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/object"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// TestAgainstModel runs random changes of a small cluster, which is often full, on the pools and on a naive model.
// After each of them every owner has what the model says, no address is there twice, and nothing has leaked.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(map[string]func(*rapid.T){
			"":       m.check,
			"assign": m.assign,
			"repair": m.repair,
			"move":   m.move,
		})
	})
}

// machine is the pools beside a model of them.
type machine struct {
	store    store.Store
	families []string // of the cluster, the primary one first
	model
}

// model is what owners have. A prefix that is not in free has an owner, or nobody gets it.
type model struct {
	services map[string]held
	nodes    map[string][]netip.Prefix
	free     map[string][]netip.Prefix // by kind and family, in the order in which they are given
}

type held struct {
	prefixes []netip.Prefix
	policy   string
}

// The subnets of the cluster. The IPv6 Services lie in the first of four pod CIDRs, which no node gets.
var (
	podSubnets     = map[string]string{"IPv4": "10.244.0.0/22", "IPv6": "fd00:1::/62"}
	serviceSubnets = map[string]string{"IPv4": "10.96.0.0/27", "IPv6": "fd00:1::/124"}
)

func newMachine(t *rapid.T) *machine {
	m := &machine{store: store.NewMemory(), families: rapid.SampledFrom([][]string{
		{"IPv4"}, {"IPv6"}, {"IPv4", "IPv6"}, {"IPv6", "IPv4"},
	}).Draw(t, "families")}
	m.model = model{map[string]held{}, map[string][]netip.Prefix{}, map[string][]netip.Prefix{}}
	for i := range 4 {
		m.release("pod", netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i)))
		if i > 0 {
			m.release("pod", netip.MustParsePrefix(fmt.Sprintf("fd00:1:0:%x::/64", i)))
		}
	}
	for i := range 30 {
		m.release("service", single(fmt.Sprintf("10.96.0.%d", i+1)))
	}
	for i := range 15 {
		m.release("service", single(fmt.Sprintf("fd00:1::%x", i+1)))
	}
	return m
}

func single(addr string) netip.Prefix {
	a := netip.MustParseAddr(addr)
	return netip.PrefixFrom(a, a.BitLen())
}

func familyOf(p netip.Prefix) string { return pool.FamilyOf(p.Addr()).String() }

// release makes prefixes free. Those of the static band, the first 16 of the 32 IPv4 addresses, come last.
func (m *model) release(kind string, prefixes ...netip.Prefix) {
	for _, p := range prefixes {
		key := kind + familyOf(p)
		m.free[key] = append(m.free[key], p)
		static := func(p netip.Prefix) int {
			if kind == "service" && p.Addr().Is4() && p.Addr().As4()[3] <= 16 {
				return 1
			}
			return 0
		}
		slices.SortFunc(m.free[key], func(a, b netip.Prefix) int {
			return (static(a)-static(b))*1000 + a.Addr().Compare(b.Addr())
		})
	}
}

// take returns the next free prefix of each family, or nothing if there is none of one of them.
func (m *model) take(kind string, families ...string) []netip.Prefix {
	var taken []netip.Prefix
	for _, family := range families {
		if len(m.free[kind+family]) == 0 {
			return nil
		}
	}
	for _, family := range families {
		taken = append(taken, m.free[kind+family][0])
		m.free[kind+family] = m.free[kind+family][1:]
	}
	return taken
}

// takeExactly takes one prefix, if it is free.
func (m *model) takeExactly(kind string, p netip.Prefix) []netip.Prefix {
	key := kind + familyOf(p)
	i := slices.Index(m.free[key], p)
	if i < 0 {
		return nil
	}
	m.free[key] = slices.Delete(slices.Clone(m.free[key]), i, i+1)
	return []netip.Prefix{p}
}

// spec is a Service that is drawn.
type spec struct {
	name, policy string
	families     []string
	external     bool
}

func (m *machine) drawSpec(t *rapid.T, name string) spec {
	families := [][]string{nil, nil, {m.families[0]}, {m.families[len(m.families)-1]}}
	if len(m.families) == 2 {
		families = append(families, m.families)
	}
	policies := []string{"", "SingleStack", "PreferDualStack"}
	if len(m.families) == 2 {
		policies = append(policies, "RequireDualStack")
	}
	return spec{
		name: name, policy: rapid.SampledFrom(policies).Draw(t, "policy"),
		families: rapid.SampledFrom(families).Draw(t, "families"),
		external: rapid.IntRange(0, 5).Draw(t, "external") == 0,
	}
}

func (s spec) text() string {
	fields := "clusterIP: \"\""
	if s.external {
		fields = "type: ExternalName"
	} else {
		if s.policy != "" {
			fields += ", ipFamilyPolicy: " + s.policy
		}
		if s.families != nil {
			fields += ", ipFamilies: [" + strings.Join(s.families, ", ") + "]"
		}
	}
	return fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: default}\nspec: {%s}\n",
		s.name, fields)
}

func nodeText(name string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Node\nmetadata: {name: %s}\n", name)
}

// drawNames draws some of the names of a kind, each once.
func drawNames(t *rapid.T, prefix string, n int) []string {
	return rapid.SliceOfDistinct(rapid.Map(rapid.IntRange(0, n-1), func(i int) string {
		return fmt.Sprint(prefix, i)
	}), rapid.ID[string]).Draw(t, prefix)
}

func (m *machine) configuration() string {
	pods := make([]string, len(m.families))
	services := make([]string, len(m.families))
	for i, family := range m.families {
		pods[i], services[i] = podSubnets[family], serviceSubnets[family]
	}
	return fmt.Sprintf("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n"+
		"networking: {podSubnet: %q, serviceSubnet: %q}\n", strings.Join(pods, ","), strings.Join(services, ","))
}

// prepare reads objects and decides what they are to have.
func (m *machine) prepare(t *rapid.T, objects string) (*addressing.Pools, error) {
	files := []object.File{{Name: "test", Data: []byte(m.configuration() + objects)}}
	c, err := cluster.Read(files, &cluster.Options{AnySize: true})
	require.NoError(t, err)
	return addressing.Prepare(t.Context(), m.store, c, addressing.Options{})
}

// assign gives addresses to some Nodes and Services. A run that could do everything finds nothing to do the next time.
func (m *machine) assign(t *rapid.T) {
	var specs []spec
	nodes := drawNames(t, "node-", 6)
	for _, name := range drawNames(t, "s-", 40) {
		specs = append(specs, m.drawSpec(t, name))
	}
	if m.run(t, nodes, specs) {
		require.True(t, m.run(t, nodes, specs))
	}
}

// run is one run. It reports whether it could do everything.
func (m *machine) run(t *rapid.T, nodes []string, specs []spec) bool {
	var objects strings.Builder
	for _, name := range nodes {
		objects.WriteString(nodeText(name))
	}
	for _, s := range specs {
		objects.WriteString(s.text())
	}
	pools, err := m.prepare(t, objects.String())
	if slices.ContainsFunc(specs, m.refuses) {
		require.Error(t, err)
		return false
	}
	require.NoError(t, err)
	rows, err := pools.Assign(t.Context())
	require.NoError(t, err)
	failed := m.assignNodes(nodes) + m.assignServices(specs)
	m.check(t)
	require.Equal(t, failed, countFailed(rows))
	return failed == 0
}

func countFailed(rows []addressing.Row) int {
	failed := 0
	for _, row := range rows {
		if row.Err != nil {
			failed++
		}
	}
	return failed
}

// assignNodes gives nodes a pod CIDR of each family, both or none, and returns how many get none.
func (m *machine) assignNodes(names []string) int {
	failed := 0
	for _, name := range names {
		if m.nodes[name] != nil {
			continue
		}
		if m.nodes[name] = m.take("pod", m.families...); m.nodes[name] == nil {
			delete(m.nodes, name)
			failed++
		}
	}
	return failed
}

// refuses reports whether the API server refuses the Service: it names two families and wants one, or names another
// primary family than it has.
func (m *machine) refuses(s spec) bool {
	has := m.services["default/"+s.name]
	if s.external {
		return false
	}
	if len(has.prefixes) > 0 && s.families != nil && s.families[0] != familyOf(has.prefixes[0]) {
		return true
	}
	policy := s.policy
	if policy == "" {
		policy = has.policy
	}
	return len(s.families) == 2 && (policy == "" || policy == "SingleStack")
}

// wants returns the policy of a Service, and the families of its addresses.
func (m *machine) wants(s spec, has held) (policy string, families []string) {
	policy = s.policy
	if policy == "" {
		policy = has.policy
	}
	if policy == "" {
		policy = "SingleStack"
	}
	families = s.families
	for i, p := range has.prefixes {
		if i >= len(families) {
			families = append(slices.Clone(families), familyOf(p))
		}
	}
	if families == nil {
		families = m.families[:1]
	}
	unchanged := policy == "PreferDualStack" && has.policy == policy && len(s.families) <= len(has.prefixes)
	switch {
	case policy == "SingleStack":
		families = families[:1]
	case len(families) == 1 && len(m.families) == 2 && !unchanged:
		other := m.families[0]
		if other == families[0] {
			other = m.families[1]
		}
		families = []string{families[0], other}
	case unchanged && len(has.prefixes) < len(families):
		families = families[:len(has.prefixes)]
	}
	return policy, families
}

// assignServices gives Services their addresses: first those that have none, then those that are to have others. It
// returns how many do not get what they want.
func (m *machine) assignServices(specs []spec) int {
	m.assignImplied()
	for _, s := range specs {
		if has := m.services["default/"+s.name]; s.external && len(has.prefixes) > 0 {
			m.release("service", has.prefixes...)
			delete(m.services, "default/"+s.name)
		}
	}
	had := map[string]bool{}
	for owner := range m.services {
		had[owner] = true
	}
	failed := 0
	for _, later := range []bool{false, true} {
		for _, s := range specs {
			if s.external || had["default/"+s.name] != later {
				continue
			}
			if !m.assignService(s) {
				failed++
			}
		}
	}
	return failed
}

// assignService gives a Service what it lacks, and takes what it has too much. It reports whether that can be done.
func (m *machine) assignService(s spec) bool {
	has := m.services["default/"+s.name]
	policy, families := m.wants(s, has)
	kept := has.prefixes[:min(len(has.prefixes), len(families))]
	var more []netip.Prefix
	if lacks := families[len(kept):]; len(lacks) > 0 {
		if more = m.take("service", lacks...); more == nil {
			return false
		}
	}
	m.release("service", has.prefixes[len(kept):]...)
	m.services["default/"+s.name] = held{append(slices.Clone(kept), more...), policy}
	return true
}

// assignImplied gives the Services that each cluster has their addresses.
func (m *machine) assignImplied() {
	addrs := map[string][2]string{"IPv4": {"10.96.0.1", "10.96.0.10"}, "IPv6": {"fd00:1::1", "fd00:1::a"}}
	for i, owner := range []string{"default/kubernetes", "kube-system/kube-dns"} {
		if m.services[owner].prefixes == nil {
			p := m.takeExactly("service", single(addrs[m.families[0]][i]))
			m.services[owner] = held{p, "SingleStack"}
		}
	}
}

// repair makes the pools agree with a cluster in which some Nodes and Services are gone. A kind of which there is none
// in the list is left alone.
func (m *machine) repair(t *rapid.T) {
	nodes, goneNodes := divide(t, slices.Sorted(maps.Keys(m.nodes)))
	services, goneServices := divide(t, m.owners())
	var objects strings.Builder
	for _, name := range nodes {
		objects.WriteString(liveNode(name, m.nodes[name]))
	}
	for _, owner := range services {
		objects.WriteString(liveService(owner, m.services[owner]))
	}
	pools, err := m.prepare(t, objects.String())
	require.NoError(t, err)
	rows, err := pools.Repair(t.Context())
	require.NoError(t, err)
	require.Zero(t, countFailed(rows))
	if len(nodes) > 0 {
		for _, name := range goneNodes {
			m.release("pod", m.nodes[name]...)
			delete(m.nodes, name)
		}
	}
	if len(services) > 0 {
		for _, owner := range goneServices {
			m.release("service", m.services[owner].prefixes...)
			delete(m.services, owner)
		}
		m.assignImplied()
	}
}

// divide draws which of the names are there, and which are gone.
func divide(t *rapid.T, names []string) (there, gone []string) {
	for _, name := range names {
		if rapid.Bool().Draw(t, name) {
			there = append(there, name)
		} else {
			gone = append(gone, name)
		}
	}
	return there, gone
}

// owners are the Services that have something, without those that each cluster has.
func (m *machine) owners() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(m.services)), func(owner string) bool {
		return !strings.HasPrefix(owner, "default/s-")
	})
}

// move lets two Services of an API server have what the other one has in the pools.
func (m *machine) move(t *rapid.T) {
	owners := m.owners()
	if len(owners) < 2 {
		t.Skip("too few Services")
	}
	a := rapid.SampledFrom(owners).Draw(t, "a")
	b := rapid.SampledFrom(owners).Draw(t, "b")
	if a == b {
		t.Skip("the same Service")
	}
	m.services[a], m.services[b] = m.services[b], m.services[a]
	pools, err := m.prepare(t, liveService(a, m.services[a])+liveService(b, m.services[b]))
	require.NoError(t, err)
	rows, err := pools.Assign(t.Context())
	require.NoError(t, err)
	require.Zero(t, countFailed(rows))
	m.assignImplied()
}

func liveNode(name string, prefixes []netip.Prefix) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Node\nmetadata: {name: %s, uid: x}\nspec: {podCIDRs: %s}\n",
		name, texts(prefixes, netip.Prefix.String))
}

func liveService(owner string, has held) string {
	addr := func(p netip.Prefix) string { return p.Addr().String() }
	return fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: default, uid: x}\n"+
		"spec: {clusterIP: %q, clusterIPs: %s, ipFamilyPolicy: %s}\n",
		strings.TrimPrefix(owner, "default/"), addr(has.prefixes[0]), texts(has.prefixes, addr), has.policy)
}

func texts(prefixes []netip.Prefix, text func(netip.Prefix) string) string {
	quoted := make([]string, len(prefixes))
	for i, p := range prefixes {
		quoted[i] = fmt.Sprintf("%q", text(p))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// check compares what owners have in the pools with the model.
func (m *machine) check(t *rapid.T) {
	services, nodes := map[string]held{}, map[string][]netip.Prefix{}
	m.each(t, addressing.ServicePool, func(a pool.Allocation) {
		services[a.Owner] = held{a.Prefixes, a.Labels["ipFamilyPolicy"]}
	})
	m.each(t, addressing.PodPool, func(a pool.Allocation) { nodes[a.Owner] = a.Prefixes })
	require.Equal(t, m.services, services)
	require.Equal(t, m.nodes, nodes)
}

// each calls a function for what each owner has in a pool, in which all must agree.
func (m *machine) each(t *rapid.T, name string, do func(pool.Allocation)) {
	p, err := pool.Open(t.Context(), m.store, name, nil)
	if errors.Is(err, pool.ErrNoPool) {
		return
	}
	require.NoError(t, err)
	report, err := p.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, report.OK(), report)
	for a, err := range p.Allocations(t.Context()) {
		require.NoError(t, err)
		do(a)
	}
}
