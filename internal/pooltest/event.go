package pooltest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/ipalloc/ipalloc/pool"
)

// Event is a line that a child writes: a call that begins, or one that has returned with what it granted or released.
type Event struct {
	Release    bool           `json:"release,omitempty"`
	Returned   bool           `json:"returned,omitempty"`
	Owner      string         `json:"owner"`
	Prefixes   []netip.Prefix `json:"prefixes,omitempty"`
	Generation int64          `json:"generation,omitempty"`
}

// tell writes an event in one write, which a kill does not cut in two.
func tell(e Event) error {
	line, err := json.Marshal(e)
	if err == nil {
		_, err = os.Stdout.Write(append(line, '\n'))
	}
	return err
}

// Allocate allocates between two events that it writes to the standard output.
func Allocate(ctx context.Context, p *pool.Pool, c pool.Claim) error {
	e := Event{Owner: c.Owner}
	if err := tell(e); err != nil {
		return err
	}
	a, err := p.Allocate(ctx, c)
	if err != nil {
		return err
	}
	e.Returned, e.Prefixes, e.Generation = true, a.Prefixes, a.Generation
	return tell(e)
}

// Release releases between two events, as Allocate does. An owner who holds nothing is one of the answers.
func Release(ctx context.Context, p *pool.Pool, owner string) error {
	e := Event{Owner: owner, Release: true}
	if err := tell(e); err != nil {
		return err
	}
	a, err := p.Release(ctx, pool.Held{Owner: owner})
	if err != nil && !errors.Is(err, pool.ErrNotFound) {
		return err
	}
	e.Returned, e.Prefixes, e.Generation = true, a.Prefixes, a.Generation
	return tell(e)
}

// ReadEvents passes the events that a child writes to take, until the child ends. It returns the other lines: the
// output of package testing, such as why the child failed.
func ReadEvents(output io.Reader, take func(Event)) string {
	var others strings.Builder
	for lines := bufio.NewScanner(output); lines.Scan(); {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(&others, lines.Text())
		} else {
			take(e)
		}
	}
	return others.String()
}
