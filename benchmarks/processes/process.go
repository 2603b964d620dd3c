package processes

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// jobVariable is the environment variable by which a process knows that it is a copy, and what it is to do.
const jobVariable = "IPALLOC_BENCHMARK_JOB"

// ready is the first line that a process writes. What it tells follows once it was given the word.
const ready = "ready"

// longestLine is how many bytes a line may have at most that a process tells.
const longestLine = 16 << 20

// assignment is what such a process finds in its environment.
type assignment struct {
	Task string
	Job  json.RawMessage
}

// Process is a copy of this program that does a job.
type Process struct {
	command *exec.Cmd
	word    io.WriteCloser
	lines   *bufio.Scanner // of what it tells
}

// Start starts a process for a task. There it is [Given] the job, tells that it is ready, and waits for the word to go,
// all by [Ready]. It is killed when the context ends.
func Start(ctx context.Context, task string, job any) (*Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	if text, err = json.Marshal(assignment{task, text}); err != nil {
		return nil, err
	}
	p := &Process{command: exec.CommandContext(ctx, program)}
	p.command.Env = append(os.Environ(), jobVariable+"="+string(text))
	p.command.Stderr = os.Stderr
	if p.word, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.lines = bufio.NewScanner(output)
	p.lines.Buffer(nil, longestLine)
	return p, p.command.Start()
}

// Given reports whether this process was started for the task. If it was, the job is put into what job points to.
func Given(task string, job any) (bool, error) {
	text, ok := os.LookupEnv(jobVariable)
	if !ok {
		return false, nil
	}
	var a assignment
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return true, err
	}
	if a.Task != task {
		return false, nil
	}
	return true, json.Unmarshal(a.Job, job)
}

// Ready tells that this process is ready for its job, and returns when it was given the word.
func Ready() error {
	fmt.Println(ready)
	var word [1]byte
	if _, err := io.ReadFull(os.Stdin, word[:]); err != nil {
		return fmt.Errorf("waiting for the word to go: %w", err)
	}
	return nil
}

// AwaitReady returns when the process waits for the word.
func (p *Process) AwaitReady() error {
	if p.lines.Scan() && p.lines.Text() == ready {
		return nil
	}
	return errors.Join(fmt.Errorf("a process told %q before it was ready", p.lines.Text()), p.lines.Err())
}

// Go gives the word.
func (p *Process) Go() error {
	_, err := p.word.Write([]byte("\n"))
	return err
}

// End ends the standard input of the process. It comes after Go.
func (p *Process) End() error { return p.word.Close() }

// Lines gives what the process tells to take, a line each, until the process ends or take fails. A process that was
// killed is no error, nor is what take says of its last line, which a kill may have cut.
func (p *Process) Lines(take func(line []byte) error) error {
	var failed error
	for failed == nil && p.lines.Scan() {
		if err := take(p.lines.Bytes()); err != nil {
			failed = fmt.Errorf("a process told %.200q: %w", p.lines.Text(), err)
		}
	}
	last := failed == nil || !p.lines.Scan()
	if !last {
		p.Kill() // nobody reads what it tells
	}
	err := p.command.Wait()
	if state := p.command.ProcessState; last && state != nil && !state.Exited() {
		return nil
	}
	return errors.Join(failed, p.lines.Err(), err)
}

// Kill ends the process at once, in whatever it is doing.
func (p *Process) Kill() { _ = p.command.Process.Kill() }

// Stop stops the process where it is, until Resume. It is an error where the system cannot.
func (p *Process) Stop() error { return suspend(p.command.Process) }

// Resume lets a process that was stopped go on.
func (p *Process) Resume() error { return resume(p.command.Process) }
