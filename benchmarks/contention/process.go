package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
	"github.com/ipalloc/ipalloc/benchmarks/processes"
	"github.com/ipalloc/ipalloc/store"
)

// handleTask is the task of a process that is a handle.
const handleTask = "contention"

// runHandle is the handle for which this process was started, until its standard input ends, and then returns true. In
// any other process it returns false at once.
func runHandle() bool {
	var j job
	given, err := processes.Given(handleTask, &j)
	if given && err == nil {
		err = j.run(context.Background())
	}
	if err != nil {
		fmt.Println(err) // whoever started this process expected something else, and reports this
		os.Exit(1)
	}
	return given
}

// run opens the pool, waits for the word to go, and works.
func (j job) run(ctx context.Context) error {
	kind, err := durable.Find(j.Kind)
	if err != nil {
		return err
	}
	open := func(ctx context.Context) (store.Store, error) { return kind.Store(ctx, j.Address) }
	h, err := openHandle(ctx, open, j)
	if err != nil {
		return err
	}
	defer h.store.Close()
	if err := processes.Ready(); err != nil {
		return err
	}
	running, end := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end()
	}()
	told := json.NewEncoder(os.Stdout)
	h.work(running, func(b batch) {
		_ = told.Encode(b) // whoever started this process has gone if it cannot be written
	})
	return nil
}

// member is a process that is a handle.
type member struct {
	job      job
	process  *processes.Process
	followed chan error // what came of the process, once it has ended
}

// start starts the process, which opens the pool.
func (m *member) start(ctx context.Context) (err error) {
	m.process, err = processes.Start(ctx, handleTask, m.job)
	return err
}

// begin gives the word, and passes on what the process tells.
func (m *member) begin(take func(handle int, b batch)) error {
	if err := m.process.Go(); err != nil {
		return err
	}
	followed := make(chan error, 1)
	m.followed = followed
	go func() {
		followed <- m.process.Lines(func(line []byte) error {
			var b batch
			err := json.Unmarshal(line, &b)
			if err == nil {
				take(m.job.Handle, b)
			}
			return err
		})
	}()
	return nil
}

// kill ends the process amid its work, and starts another one in its place.
func (m *member) kill(ctx context.Context, take func(handle int, b batch)) error {
	m.process.Kill()
	if err := <-m.followed; err != nil {
		return err
	}
	m.job.Again = true
	if err := m.start(ctx); err != nil {
		return err
	}
	return errors.Join(m.process.AwaitReady(), m.begin(take))
}
