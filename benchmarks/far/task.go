package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/ipalloc/ipalloc/benchmarks/processes"
)

// tasks are what processes of their own do. Each is given its job as JSON, and tells lines of JSON.
var tasks = map[string]func(ctx context.Context, given func(job any) error, tell func(any) error) error{
	probeTask: probeProcess, verifyTask: verifyProcess, writersTask: writersProcess,
}

// runTask does the task for which this process was started, and then returns true. In any other process it returns
// false at once.
func runTask() bool {
	encoder := json.NewEncoder(os.Stdout)
	for name, do := range tasks {
		var text json.RawMessage
		given, err := processes.Given(name, &text)
		if !given && err == nil {
			continue
		}
		if err == nil {
			err = do(context.Background(), func(job any) error { return json.Unmarshal(text, job) }, encoder.Encode)
		}
		if err != nil {
			fmt.Println(err) // whoever started this process expected something else, and reports this
			os.Exit(1)
		}
		return true
	}
	return false
}

// inProcess does a task that tells one thing in a fresh process.
func inProcess(ctx context.Context, task string, job, told any) error {
	p, err := processes.Start(ctx, task, job)
	if err != nil {
		return err
	}
	if err := errors.Join(p.AwaitReady(), p.Go(), p.End()); err != nil {
		p.Kill()
		return errors.Join(err, p.Lines(func([]byte) error { return nil }))
	}
	lines := 0
	err = p.Lines(func(line []byte) error {
		lines++
		return json.Unmarshal(line, told)
	})
	if err == nil && lines != 1 {
		err = fmt.Errorf("a process told %d lines instead of one", lines)
	}
	return err
}
