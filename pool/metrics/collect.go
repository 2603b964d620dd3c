package metrics

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// Describe is for [prometheus.Registerer].
func (m *Metrics) Describe(descs chan<- *prometheus.Desc) {
	m.calls.Describe(descs)
	m.callDurations.Describe(descs)
	m.commits.Describe(descs)
	m.commitDurations.Describe(descs)
	descs <- m.addresses
	descs <- m.reservations
	descs <- m.history
	descs <- m.quotaHeld
	descs <- m.quotaMost
	descs <- m.up
}

// Collect is for [prometheus.Registerer]. It reads the pools.
func (m *Metrics) Collect(metrics chan<- prometheus.Metric) {
	m.calls.Collect(metrics)
	m.callDurations.Collect(metrics)
	m.commits.Collect(metrics)
	m.commitDurations.Collect(metrics)

	sums, err := m.read()
	up := 1.0
	if err != nil {
		up = 0
		m.options.Logger.Warn("pools could not be read for metrics", "error", err)
	}
	metrics <- prometheus.MustNewConstMetric(m.up, prometheus.GaugeValue, up)
	for key, count := range sums.addresses {
		metrics <- prometheus.MustNewConstMetric(m.addresses, prometheus.GaugeValue, float(count),
			key.pool, key.family.String(), key.state)
	}
	for key, use := range sums.quotas {
		for desc, count := range map[*prometheus.Desc]cidr.Count{m.quotaHeld: use.Held, m.quotaMost: use.Most} {
			metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float(count),
				key.pool, key.label, key.value, key.family.String())
		}
	}
	for name, n := range sums.reservations {
		metrics <- prometheus.MustNewConstMetric(m.reservations, prometheus.GaugeValue, float64(n), name)
	}
	for name, n := range sums.history {
		metrics <- prometheus.MustNewConstMetric(m.history, prometheus.GaugeValue, float64(n), name)
	}
}

// sums are what all pools of one name have together.
type sums struct {
	addresses    map[series]cidr.Count
	reservations map[string]int
	history      map[string]int // of pools that have one
	quotas       map[quotaSeries]pool.QuotaUse
}

// quotaSeries is one of the quotas.
type quotaSeries struct {
	pool, label, value string
	family             pool.Family
}

// series is one of the addresses.
type series struct {
	pool   string
	family pool.Family
	state  string
}

func newSums() sums {
	return sums{map[series]cidr.Count{}, map[string]int{}, map[string]int{}, map[quotaSeries]pool.QuotaUse{}}
}

// read adds up the counts of all pools. It goes on after an error, and returns the first.
func (m *Metrics) read() (sums, error) {
	ctx, cancel := context.WithTimeout(context.Background(), m.options.Timeout)
	defer cancel()
	m.mu.RLock()
	stores, pools := slices.Clone(m.stores), maps.Clone(m.pools)
	m.mu.RUnlock()

	var first error
	failed := func(err error) {
		if first == nil {
			first = err
		}
	}
	sums, found := newSums(), map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		info, err := pools[name].Info(ctx)
		if errors.Is(err, pool.ErrNoPool) {
			m.forgetDeleted(name, pools[name])
			continue
		}
		if err != nil {
			failed(err)
			continue
		}
		m.add(sums, name, info)
	}
	for _, s := range stores {
		for info, err := range pool.List(ctx, s) {
			if err != nil {
				failed(err)
				break
			}
			found[info.Name] = true
			if pools[info.Name] == nil {
				m.add(sums, info.Name, info)
			}
		}
	}
	if first == nil {
		m.scraped(found)
	}
	return sums, first
}

// forgetDeleted forgets a pool that is gone, unless another one was added under its name meanwhile.
func (m *Metrics) forgetDeleted(name string, p *pool.Pool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pools[name] == p {
		delete(m.pools, name)
		m.drop(name)
	}
}

// add adds what a pool of that name has.
func (m *Metrics) add(sums sums, name string, info pool.Info) {
	label := otherPools
	m.mu.Lock()
	if m.take(name) != nil {
		label = name
	}
	m.mu.Unlock()
	sums.reservations[label] += info.Reservations
	if info.Spec.History != 0 {
		sums.history[label] += info.History
	}
	if label == name { // those of other pools cannot be added up
		for _, use := range info.Quotas {
			sums.quotas[quotaSeries{name, use.Label, use.Value, use.Family}] = use
		}
	}
	for _, s := range info.Stats {
		for _, part := range []struct {
			state string
			count cidr.Count
		}{
			{"used", s.Used}, {"free", s.Free}, {"cooling", s.Cooling}, {"kept", s.Kept}, {"reserved", s.Reserved},
			{"out_of_range", s.OutOfRange},
		} {
			key := series{label, s.Family, part.state}
			sums.addresses[key] = sums.addresses[key].Add(part.count)
		}
	}
}

// float returns the nearest floating-point number.
func float(c cidr.Count) float64 {
	f, _ := strconv.ParseFloat(c.String(), 64) // which it always is
	return f
}
