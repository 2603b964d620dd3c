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

// process is a copy of this program that does a job.
type process struct {
	command *exec.Cmd
	word    io.WriteCloser
	output  io.ReadCloser
	lines   *bufio.Scanner // of the output
}

// start starts a process, which reports that it is ready and then waits for the word to go. It is
// killed when the context ends.
func start(ctx context.Context, job Job) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	p := &process{command: exec.CommandContext(ctx, program)}
	p.command.Env = append(os.Environ(), jobVariable+"="+string(text))
	p.command.Stderr = os.Stderr
	if p.word, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	if p.output, err = p.command.StdoutPipe(); err != nil {
		return nil, err
	}
	p.lines = bufio.NewScanner(p.output)
	return p, p.command.Start()
}

// awaitReady returns when the process waits for the word.
func (p *process) awaitReady() error {
	if p.lines.Scan() && p.lines.Text() == ready {
		return nil
	}
	return errors.Join(fmt.Errorf("a process told %q before it was ready", p.lines.Text()), p.lines.Err())
}

// goAhead gives the word.
func (p *process) goAhead() error {
	if _, err := p.word.Write([]byte("\n")); err != nil {
		return err
	}
	return p.word.Close()
}

// events gives what the process tells to take, until it ends. A process that was killed is no error.
func (p *process) events(take func(Event)) error {
	for p.lines.Scan() {
		var e Event
		if err := json.Unmarshal(p.lines.Bytes(), &e); err != nil {
			return fmt.Errorf("a process told %q: %w", p.lines.Text(), err)
		}
		take(e)
	}
	err := p.command.Wait()
	if state := p.command.ProcessState; state != nil && !state.Exited() {
		return nil
	}
	return err
}

// kill ends the process at once, in whatever it is doing.
func (p *process) kill() { _ = p.command.Process.Kill() }

// Once runs a job in a fresh process, which is to make one claim, and returns its event.
func Once(ctx context.Context, job Job) (Event, error) {
	p, err := start(ctx, job)
	if err != nil {
		return Event{}, err
	}
	if err := errors.Join(p.awaitReady(), p.goAhead()); err != nil {
		return Event{}, err
	}
	var got Event
	err = p.events(func(e Event) {
		if !e.Ended {
			got = e
		}
	})
	if err == nil && got.Error != "" {
		err = fmt.Errorf("in a process of its own: %s", got.Error)
	}
	return got, err
}
