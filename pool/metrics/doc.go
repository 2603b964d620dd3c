// Package metrics exports to Prometheus what pools do, and how full they are.
//
//	m := metrics.New(nil)
//	m.AddStore(db) // the counts of all pools in it
//	prometheus.MustRegister(m)
//	p, err := pool.Open(ctx, db, "pods", &pool.Options{Observer: m})
//
// # Metrics
//
//	ipalloc_calls_total{pool, call, result}        calls that allocate, release or renew, by how they ended
//	ipalloc_call_duration_seconds{pool, call}      how long they took, waiting for their turn included (histogram)
//	ipalloc_commits_total{pool, result}            attempts to commit to the store, by how they ended
//	ipalloc_commit_duration_seconds{pool}          how long the store took (histogram)
//	ipalloc_addresses{pool, family, state}         addresses: used, free, cooling, kept, reserved, out_of_range
//	ipalloc_reservations{pool}                     owners with a reservation, see pool.Pool.Reserve
//	ipalloc_history{pool}                          past tenures that are remembered at most, see pool.Pool.History
//	ipalloc_quota_held{pool, label, value, family} addresses that count for a quota, see pool.QuotaUse
//	ipalloc_quota_most{pool, label, value, family} addresses that the quota allows
//	ipalloc_up                                     1 if all pools could be read at this scrape, else 0
//
// The call is allocate, release, renew, decline, reserve or unreserve; a call of several steps counts once for each.
// Commits are those to a store, not those of a pool in memory. The result of a call is ok, exhausted, taken, held,
// not_found, not_in_pool, cordoned, over_quota, conflict (too many conflicts), unknown (it is unknown whether the call
// took effect), canceled (its context ended), invalid (a rule refused it) or error. The result of a commit is ok,
// conflict, unknown, too_large or error. So the rate of exhaustion is
//
//	rate(ipalloc_calls_total{result="exhausted"}[5m])
//
// and how full a pool is
//
//	sum by (pool, family) (ipalloc_addresses{state=~"used|cooling|kept"})
//	  / sum by (pool, family) (ipalloc_addresses{state=~"used|cooling|kept|free"})
//
// The family is IPv4 or IPv6. The states used, free, cooling, kept and reserved add up to the size of the pool; kept
// are those that are reserved for an owner that does not hold them. A count of more than 2^53 addresses is rounded, as
// all floating-point numbers are.
//
// # Alerts and a dashboard
//
// The folder of this package has two files to use as they are, or to begin with. alerts.yaml are rules for Prometheus:
// pools that are full, nearly full, or will be soon; claims refused for lack of room; pools that cannot be read; calls
// that fail; commits that conflict or are slow; addresses that stay out of range. dashboard.json is a dashboard for
// Grafana: import it, and choose the data source. Both count a store once, however many processes export it. Both are
// for the default namespace.
//
// To be told within the program, without Prometheus, use package pool/alarm.
//
// # OpenTelemetry
//
// A program that exports its metrics with OpenTelemetry registers the collector as above, and gives the registry to the
// bridge go.opentelemetry.io/contrib/bridges/prometheus, as a producer of its reader:
//
//	bridge := prometheus.NewMetricProducer(prometheus.WithGatherer(registry))
//	reader := metric.NewPeriodicReader(exporter, metric.WithProducer(bridge))
//
// The names and labels stay the same. For traces there is the module pool/tracing.
//
// # Cardinality
//
// No owner, address or label of an allocation becomes a label. Pools do: only [Options.MaxPools] pools
// have metrics of their own, and all others are counted together, as the pool "_other".
//
// The metrics of deleted pools are dropped. A scrape that reads all pools drops the metrics of each pool that an
// earlier scrape has found and that no longer exists. While MaxPools pools have metrics, a scrape also drops the
// metrics of pools that no scrape has found and that have been idle since the second scrape before. [Metrics.Forget]
// drops the metrics of a pool at once. A call that fails because its pool is gone counts for "_other" if the pool has
// no metrics.
//
// # Errors of a scrape
//
// If the store cannot be read, ipalloc_up is 0, [Options.Logger] is told why, and the scrape lacks ipalloc_addresses
// for the pools that could not be read. The scrape does not fail, so the other metrics of the process are not lost.
//
// # Cost
//
// An observed call costs a few hundred nanoseconds. A scrape reads the head of each pool. It takes O(pools), however
// much they hold.
package metrics
