package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// server is what an etcd server tells of itself.
type server struct {
	transactions, watches, streams, memory float64
}

// serverAt asks the server of an address of [durable].
func serverAt(ctx context.Context, address string) (s server, err error) {
	host, _, _ := strings.Cut(address, "/")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/metrics", nil)
	if err != nil {
		return server{}, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return server{}, err
	}
	defer answer.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		return server{}, err
	}
	for name, into := range map[string]*float64{
		"grpc_server_handled_total": &s.transactions, "etcd_debugging_mvcc_watcher_total": &s.watches,
		"etcd_debugging_mvcc_watch_stream_total": &s.streams, "process_resident_memory_bytes": &s.memory,
	} {
		family, ok := families[name]
		if !ok {
			return server{}, fmt.Errorf("the server does not tell %s", name)
		}
		for _, metric := range family.GetMetric() {
			ofTxn := len(metric.GetLabel()) == 0
			for _, label := range metric.GetLabel() {
				ofTxn = ofTxn || label.GetName() == "grpc_method" && label.GetValue() == "Txn"
			}
			if ofTxn {
				*into += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return s, nil
}

// lookEvery is how often a server is asked.
const lookEvery = 200 * time.Millisecond

// look asks the server until the function that it returns is called, which returns the most of each, and the
// transactions since look.
func look(ctx context.Context, address string) (func() (server, error), error) {
	before, err := serverAt(ctx, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	most := before
	take := func(now server) {
		most.watches, most.streams = max(most.watches, now.watches), max(most.streams, now.streams)
		most.memory = max(most.memory, now.memory)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for ticks := time.Tick(lookEvery); ctx.Err() == nil; {
			select {
			case <-ticks:
				if now, err := serverAt(ctx, address); err == nil { // one that fails here fails at the end too
					take(now)
				}
			case <-ctx.Done():
			}
		}
	})
	return func() (server, error) {
		cancel()
		wg.Wait()
		now, err := serverAt(context.WithoutCancel(ctx), address)
		take(now)
		most.transactions = now.transactions - before.transactions
		return most, err
	}, nil
}
