package metrics_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/metrics"
	"github.com/ipalloc/ipalloc/pool/poolfake"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// A scenario is an hour or more in the life of a pool "pods", of which the real collector is scraped every minute.
type scenario struct {
	name    string
	minutes int
	minute  func(l *life, minute int) // what happens before the scrape of a minute
	checks  []check
}

// check says which alerts fire at a minute. All others do not.
type check struct {
	minute int
	firing []firing
}

// firing is an alert that fires.
type firing struct {
	alert   string
	labels  map[string]string // beside job and severity
	summary string
}

// life is the present of a scenario.
type life struct {
	t     *testing.T
	fake  *poolfake.Fake
	pool  *pool.Pool
	tick  time.Duration // by how much time goes on each time that the handle asks for it
	calls int
}

// allocate makes n claims, which may fail.
func (l *life) allocate(n int) {
	for range n {
		l.calls++
		_, _ = l.pool.Allocate(l.t.Context(), pool.Claim{Owner: fmt.Sprint(l.calls)})
	}
}

// use makes n claims, and releases what they get.
func (l *life) use(n int) {
	first := l.calls + 1
	l.allocate(n)
	for i := range n {
		_, _ = l.pool.Release(l.t.Context(), pool.Held{Owner: fmt.Sprint(first + i)})
	}
}

// renew makes n calls that leave the counts as they are.
func (l *life) renew(n int) {
	for range n {
		_, _ = l.pool.Renew(l.t.Context(), pool.Held{Owner: "1"}, time.Hour)
	}
}

var inPods = map[string]string{"pool": "pods"}

var inPodsIPv4 = map[string]string{"pool": "pods", "family": "IPv4"}

func instanceOf(name string) map[string]string {
	return map[string]string{"instance": name, "pod": "agent-" + name}
}

// once is a scenario in which something happens in one minute.
func once(at int, do func(*life)) func(*life, int) {
	return func(l *life, minute int) {
		if minute == at {
			do(l)
		}
	}
}

// scenarios are at least one for each alert, and some in which none fires.
func scenarios() []scenario {
	almostFull := firing{"IPAllocPoolAlmostFull", inPodsIPv4, "Pool pods has used 100% of its IPv4 addresses."}
	full := firing{"IPAllocPoolFull", inPodsIPv4, "Pool pods has no free IPv4 address."}
	return []scenario{
		{
			"healthy", 100, func(l *life, minute int) {
				if minute == 0 {
					wide := spec(l.t, "192.0.2.0/24", "2001:db8::1-2001:db8::ff")
					wide.Quotas = []pool.Quota{{Label: "tenant", Value: "acme", Percent: 50}}
					wide.History = time.Hour
					require.NoError(l.t, l.pool.Update(l.t.Context(), wide))
					l.allocate(200)
				}
				l.use(3)
			},
			[]check{{30, nil}, {99, nil}},
		},
		{
			"full and emptied", 90, func(l *life, minute int) {
				switch minute {
				case 10:
					require.NoError(l.t, l.fake.Fill(l.t.Context(), "pods"))
				case 60:
					require.NoError(l.t, l.fake.Empty(l.t.Context(), "pods"))
				}
			},
			[]check{{12, nil}, {16, []firing{full}}, {30, []firing{full, almostFull}}, {62, nil}},
		},
		{
			"almost full", 60, once(5, func(l *life) { l.allocate(242) }),
			[]check{{10, nil}, {40, []firing{{
				"IPAllocPoolAlmostFull", inPodsIPv4, "Pool pods has used 95.28% of its IPv4 addresses.",
			}}}},
		},
		{
			"fills and stops", 130, func(l *life, minute int) {
				if minute < 95 {
					l.allocate(1)
				}
			},
			[]check{{20, nil}, {90, []firing{{
				"IPAllocPoolFillsSoon", inPodsIPv4, "Pool pods will have no free IPv4 address within four hours.",
			}}}, {125, nil}},
		},
		{
			"claims refused", 60, func(l *life, minute int) {
				switch minute {
				case 10, 11:
					l.fake.Refuse(func(string, pool.Claim) bool { return true })
				case 12:
					l.fake.Refuse(nil)
				}
				l.allocate(1)
			},
			[]check{{9, nil}, {15, []firing{{
				"IPAllocClaimsRefused", map[string]string{"pool": "pods", "call": "allocate"},
				"Pool pods had no room for claims in the last ten minutes.",
			}}}, {40, nil}},
		},
		{
			"unreadable", 60, func(l *life, minute int) {
				switch minute {
				case 10:
					l.fake.Inject(poolfake.Unreachable)
				case 40:
					l.fake.Inject(nil)
				}
			},
			[]check{{12, nil}, {30, []firing{
				{"IPAllocPoolsUnreadable", instanceOf("a"), "a cannot read its pools."},
				{"IPAllocPoolsUnreadable", instanceOf("b"), "b cannot read its pools."},
			}}, {45, nil}},
		},
		{
			"calls fail", 60, func(l *life, minute int) {
				l.use(4)
				l.renew(1)
				if minute < 30 {
					l.fake.InjectNext([]func(faults.Call) faults.Fault{
						poolfake.Unreachable, poolfake.Unknown(false), poolfake.Busy,
					}[minute%3])
				}
				l.allocate(1)
			},
			[]check{{8, nil}, {29, []firing{{
				"IPAllocCallsFail", inPods, "10% of the calls on pool pods fail.",
			}}}, {50, nil}},
		},
		{
			"conflicts", 60, func(l *life, minute int) {
				commits := 0
				l.fake.Inject(func(call faults.Call) faults.Fault {
					if call.Method != faults.Commit || minute > 40 {
						return faults.Fault{}
					}
					if commits++; commits%4 == 0 {
						return faults.Fault{}
					}
					return poolfake.Busy(call)
				})
				l.use(2)
			},
			[]check{{10, nil}, {39, []firing{{
				"IPAllocCommitsConflict", inPods, "Most commits to pool pods are overtaken by other processes.",
			}}}, {58, nil}},
		},
		{
			"slow", 60, func(l *life, minute int) {
				if minute < 40 {
					l.tick = 1500 * time.Millisecond
				} else {
					l.tick = time.Millisecond
				}
				l.use(2)
			},
			[]check{{5, nil}, {39, []firing{{
				"IPAllocStoreSlow", nil, "One commit in ten takes the store more than a second.",
			}}}, {59, nil}},
		},
		{
			"out of range", 420, func(l *life, minute int) {
				switch minute {
				case 0:
					l.allocate(20)
					require.NoError(l.t, l.pool.Drain(l.t.Context(), spec(l.t, "192.0.2.10-192.0.2.254")))
				case 400:
					for i := range 20 {
						_, err := l.pool.Release(l.t.Context(), pool.Held{Owner: fmt.Sprint(i + 1)})
						require.NoError(l.t, err)
					}
				}
			},
			[]check{{300, nil}, {390, []firing{{
				"IPAllocOutOfRange", inPodsIPv4,
				"9 IPv4 addresses of pool pods are held for hours although they are no longer in its ranges.",
			}}}, {402, nil}},
		},
	}
}

// run plays the scenario, and returns what was scraped.
func (s *scenario) run(t *testing.T) *scrapes {
	t.Helper()
	l := &life{t: t, fake: poolfake.New(time.Now())}
	m := metrics.New(nil)
	options := l.fake.Options()
	options.Observer = pool.Observers(options.Observer, m)
	now := l.fake.Now()
	options.Attempts = 5
	options.Clock = func() time.Time { now = now.Add(l.tick); return now }
	db := l.fake.Store()
	m.AddStore(db)
	var err error
	l.pool, err = pool.Create(t.Context(), db, "pods", spec(t, "192.0.2.0/24"), options)
	require.NoError(t, err)
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m))
	seen := &scrapes{values: map[string][]string{}}
	for minute := range s.minutes {
		s.minute(l, minute)
		seen.add(t, registry)
	}
	return seen
}

// scrapes are what a Prometheus has read, by series, with an entry for each minute.
type scrapes struct {
	minutes int
	values  map[string][]string
	text    string // the last one
}

const (
	missing = "_"
	stale   = "stale"
)

// add reads what the registry has, as a Prometheus reads it: as text.
func (s *scrapes) add(t *testing.T, registry prometheus.Gatherer) {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	var text bytes.Buffer
	for _, family := range families {
		_, err := expfmt.MetricFamilyToText(&text, family)
		require.NoError(t, err)
	}
	s.text = text.String()
	for line := range strings.Lines(s.text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndex(line, " ")
		series := line[:at]
		for len(s.values[series]) < s.minutes {
			s.values[series] = append(s.values[series], missing)
		}
		s.values[series] = append(s.values[series], strings.TrimSpace(line[at+1:]))
	}
	s.minutes++
	for series, values := range s.values {
		switch {
		case len(values) == s.minutes:
		case values[len(values)-1] == stale, values[len(values)-1] == missing:
			s.values[series] = append(values, missing)
		default:
			s.values[series] = append(values, stale)
		}
	}
}

// of returns a series with the labels that a Prometheus adds.
func of(series, instance string) string {
	name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
	if labels != "" {
		labels += ","
	}
	return fmt.Sprintf(`%s{%sinstance=%q,pod="agent-%[3]s",job="agent"}`, name, labels, instance)
}
