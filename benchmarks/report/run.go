package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
	"github.com/ipalloc/ipalloc/benchmarks/measure"
	"github.com/ipalloc/ipalloc/benchmarks/peer"
)

// settings are how thoroughly is measured.
type settings struct {
	sizes sizes
	quick bool
	// rounds is how often each cell is measured, in turns with the others of its row, unless that takes too long.
	rounds int
	// each is how long a round takes at least.
	each time.Duration
	// most is how long a cell may take, without the one row in progress: to prepare it, and then all rounds together.
	most time.Duration
	// only are parts of the names of the rows to measure; all if empty.
	only string
	log  io.Writer
	// servers are what durable pools may need.
	servers *durable.Servers
}

func fullSettings() settings {
	return settings{sizes: fullSizes(), rounds: 11, each: 50 * time.Millisecond, most: time.Minute}
}

func quickSettings() settings {
	return settings{sizes: quickSizes(), quick: true, rounds: 2, each: time.Millisecond, most: 500 * time.Millisecond}
}

// run measures all cases.
func run(ctx context.Context, s settings) (results Results, err error) {
	dir, err := os.MkdirTemp("", "ipalloc-servers-")
	if err != nil {
		return results, err
	}
	defer os.RemoveAll(dir)
	s.servers = durable.NewServers(dir)
	defer func() { err = errors.Join(err, s.servers.Close()) }()
	return s.measureAll(ctx, s.chosen())
}

// chosen are the cases to measure.
func (s settings) chosen() []benchCase {
	return slices.DeleteFunc(allCases(s.sizes), func(c benchCase) bool {
		return !strings.Contains(c.Name, s.only) && !strings.Contains(c.Group, s.only)
	})
}

func (s settings) measureAll(ctx context.Context, cases []benchCase) (Results, error) {
	if slices.ContainsFunc(cases, func(c benchCase) bool { return c.durable }) {
		s.servers.Start()
	}

	start := time.Now()
	r := Results{Machine: thisMachine(), Taken: start.UTC().Truncate(time.Second), Quick: s.quick, Subjects: subjects()}
	for i, c := range cases {
		cases[i] = benchCase{} // so that what it holds can go once it is measured
		began := time.Now()
		row, err := s.measureRow(ctx, c)
		if err != nil {
			return r, fmt.Errorf("%s: %w", c.Name, err)
		}
		r.Rows = append(r.Rows, row)
		fmt.Fprintf(s.log, "%-60s %s\n", c.Name, time.Since(began).Round(10*time.Millisecond))
	}
	r.Took = time.Since(start).Round(time.Second).String()
	return r, nil
}

// subjects are all columns.
func subjects() []Subject {
	versions := peer.Versions()
	var all []Subject
	for _, p := range peer.All() {
		all = append(all, Subject{p.Name, p.Module, versions[p.Module], p.Package, string(p.Order), p.Note, p.Absent})
	}
	for _, k := range durable.Kinds() {
		all = append(all, Subject{Name: k.Name, Module: k.Module, Version: versions[k.Module], Note: k.Note, Absent: k.Absent})
	}
	return all
}

// running is a cell that is measured.
type running struct {
	name string
	ours bool
	work work
	left int
	took []float64
	last reading
}

// measureRow prepares the case for each subject, measures all in turns, and cleans up. What a peer cannot do stands in its cell;
// what this library cannot do is an error.
func (s settings) measureRow(ctx context.Context, c benchCase) (Row, error) {
	row := c.Row
	row.Cells = map[string]Cell{}
	var cells []*running
	for _, one := range s.columns(c.durable) {
		cell, err := s.begin(ctx, c, one)
		if err != nil {
			if one.ours() && !errors.Is(err, durable.ErrNoServer) {
				return row, errors.Join(err, endAll(cells))
			}
			row.Cells[one.name()] = Cell{Missing: s.why(err)}
			continue
		}
		cells = append(cells, cell)
	}
	if err := s.interleave(row.Cells, cells); err != nil {
		return row, errors.Join(err, endAll(cells))
	}
	for _, cell := range cells {
		if len(cell.took) > 0 {
			row.Cells[cell.name] = Cell{Spread: measure.SpreadOf(cell.took), Allocs: cell.last.allocs, Note: cell.last.note}
		}
	}
	return row, endAll(cells)
}

// columns are the subjects of a row.
func (s settings) columns(isDurable bool) []subject {
	var all []subject
	if isDurable {
		for _, k := range durable.Kinds() {
			all = append(all, subject{kind: &k, servers: s.servers})
		}
		return all
	}
	for _, p := range peer.All() {
		if p.Absent == "" {
			all = append(all, subject{peer: &p})
		}
	}
	return all
}

func (s subject) name() string {
	if s.peer != nil {
		return s.peer.Name
	}
	return s.kind.Name
}

func (s subject) ours() bool { return isOurs(s.name()) }

// isOurs tells whether a column is this library.
func isOurs(name string) bool { return strings.HasPrefix(name, peer.Ours) }

// begin prepares a cell and measures it once, as a probe that also warms it up.
func (s settings) begin(ctx context.Context, c benchCase, one subject) (*running, error) {
	if one.kind != nil && one.kind.Absent != "" {
		return nil, fmt.Errorf("%w: %s", peer.ErrCannot, one.kind.Absent)
	}
	most := s.most
	if one.ours() {
		most = max(most, time.Minute)
	}
	limited, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	w, err := c.prepare(limited, one)
	if err != nil && limited.Err() != nil {
		err = errors.Join(peer.ErrSlow, err) // the peer may have hidden that its context ended
	}
	if err != nil {
		return nil, err
	}
	cell := &running{name: one.name(), ours: one.ours(), work: w}
	took := w.took
	if took == 0 {
		start := time.Now()
		if _, err = w.round(0); err != nil {
			return nil, errors.Join(err, cell.end())
		}
		took = time.Since(start)
	}
	if cell.left = s.roundsFor(max(took, s.each), most); cell.left == 0 {
		return nil, errors.Join(fmt.Errorf("%w: one operation takes %v", peer.ErrSlow, took.Round(time.Second)), cell.end())
	}
	if w.most > 0 {
		cell.left = min(cell.left, w.most)
	}
	return cell, nil
}

// roundsFor is how many rounds of that length fit, none if not even one does.
func (s settings) roundsFor(one, most time.Duration) int {
	return min(s.rounds, int(most/one))
}

// interleave measures each cell in turn, beginning with another one in each round, so that what disturbs the machine disturbs all.
func (s settings) interleave(missing map[string]Cell, cells []*running) error {
	for round := range s.rounds {
		for i := range cells {
			cell := cells[(i+round)%len(cells)]
			if cell.left == 0 {
				continue
			}
			cell.left--
			var err error
			if cell.last, err = cell.work.round(s.each); err == nil {
				cell.took = append(cell.took, cell.last.value)
				continue
			}
			if cell.ours {
				return err
			}
			missing[cell.name], cell.left, cell.took = Cell{Missing: s.why(err)}, 0, nil
		}
	}
	return nil
}

// why is what a cell without a figure says.
func (s settings) why(err error) string {
	switch {
	case errors.Is(err, peer.ErrSlow), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("over %v", s.most)
	case errors.Is(err, peer.ErrCannot):
		_, reason, _ := strings.Cut(err.Error(), peer.ErrCannot.Error()+": ")
		return shorten(reason)
	case errors.Is(err, durable.ErrNoServer):
		return shorten(err.Error())
	}
	return "error: " + shorten(err.Error())
}

// shorten makes a text fit into a line.
func shorten(text string) string {
	const most = 200
	text = strings.ReplaceAll(text, "\n", "; ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " …"
	}
	return text
}

func (r *running) end() error {
	if r.work.end == nil {
		return nil
	}
	return r.work.end()
}

func endAll(cells []*running) error {
	var all error
	for _, cell := range cells {
		all = errors.Join(all, cell.end())
	}
	return all
}
