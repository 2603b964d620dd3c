package main

import (
	"cmp"
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
	// rounds is how often each cell is measured, in turns with the others of its row, unless that takes too long. At 0
	// the figure is that of the round that warms the cell up.
	rounds int
	// each is how long a round takes at least.
	each time.Duration
	// most is how long a cell may take to prepare, and for its first round: in memory, in a durable pool, and for this
	// library, whose figures are wanted even if they are bad.
	most, mostDurable, mostOurs time.Duration
	// all is how long the rounds of a cell may take together. If not even two would fit, the first is the figure.
	all time.Duration
	// only are parts of the names of the rows to measure; all if empty.
	only string
	log  io.Writer
	// keep keeps the results so far, after each row.
	keep func(Results) error
	// servers are what durable pools may need, and places what rows leave to each other.
	servers *durable.Servers
	places  *places
}

func fullSettings() settings {
	return settings{
		sizes: fullSizes(), rounds: 11, each: 30 * time.Millisecond, all: 3 * time.Second,
		most: time.Minute, mostDurable: time.Minute, mostOurs: 6 * time.Minute,
	}
}

func quickSettings() settings {
	return settings{
		sizes: quickSizes(), quick: true,
		most: 5 * time.Second, mostDurable: 15 * time.Second, mostOurs: time.Minute,
	}
}

// run measures the chosen cases. When the context ends it returns what it has.
func run(ctx context.Context, s settings) (results Results, err error) {
	dir, err := os.MkdirTemp("", "ipalloc-servers-")
	if err != nil {
		return results, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s.servers, s.places = durable.NewServers(dir), newPlaces()
	defer func() { err = errors.Join(err, s.places.end(), s.servers.Close()) }()
	return s.measureAll(ctx, s.chosen())
}

// chosen are the cases to measure.
func (s settings) chosen() []benchCase {
	return slices.DeleteFunc(allCases(s.sizes), func(c benchCase) bool {
		return !strings.Contains(c.Name, s.only) && !strings.Contains(c.Group, s.only)
	})
}

// measureAll measures one row after the other. A row that fails is in the results as well, and the
// others are still measured.
func (s settings) measureAll(ctx context.Context, cases []benchCase) (Results, error) {
	start := time.Now()
	r := Results{Machine: thisMachine(), Taken: start.UTC().Truncate(time.Second), Quick: s.quick, Subjects: subjects()}
	rows := make([]*Row, len(cases))
	var all error
	for done, i := range inOrder(cases) {
		c := cases[i]
		cases[i] = benchCase{} // so that what it holds can go once it is measured
		if s.quick && done == 0 || c.durable {
			s.startServers(cases, c)
		}
		began := time.Now()
		row, err := s.measureRow(ctx, c)
		if ctx.Err() != nil {
			return r, errors.Join(all, fmt.Errorf("ended in the row %q: %w", c.Name, context.Cause(ctx)))
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w", c.Name, err))
		}
		rows[i] = &row
		fmt.Fprintf(s.log, "%-60s %s\n", c.Name, time.Since(began).Round(10*time.Millisecond))
		r.Rows, r.Took = present(rows), time.Since(start).Round(time.Second).String()
		r.Missing = len(rows) - len(r.Rows)
		if err := s.keep(r); err != nil {
			return r, errors.Join(all, err)
		}
	}
	return r, all
}

// startServers starts the servers if any of the cases may need one. A full run waits until all of them run, so
// that none starts while something is measured.
func (s settings) startServers(cases []benchCase, now benchCase) {
	if now.durable || slices.ContainsFunc(cases, func(c benchCase) bool { return c.durable }) {
		s.servers.Start()
	}
	if !s.quick {
		s.servers.Wait()
	}
}

// inOrder are the indexes of the cases in the order in which they are measured.
func inOrder(cases []benchCase) []int {
	order := make([]int, len(cases))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := cases[a].holds, cases[b].holds
		return cmp.Or(compareBool(cases[a].durable, cases[b].durable), cmp.Compare(x.held, y.held), cmp.Compare(x.nth, y.nth))
	})
	return order
}

// compareBool puts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func present(rows []*Row) []Row {
	var all []Row
	for _, row := range rows {
		if row != nil {
			all = append(all, *row)
		}
	}
	return all
}

// subjects are all columns.
func subjects() []Subject {
	versions := peer.Versions()
	var all []Subject
	for _, p := range peer.All() {
		all = append(all, Subject{p.Name, p.Module, versions[p.Module], p.Package, string(p.Order), p.Note, p.Absent})
	}
	for _, k := range durable.Kinds() {
		all = append(all, Subject{
			Name: k.Name, Module: k.Module, Version: versions[k.Module], Note: k.Note, Absent: k.Absent,
		})
	}
	return all
}

// running is a cell that is measured.
type running struct {
	name   string
	ours   bool
	work   work
	left   int
	took   []float64
	last   reading
	failed bool
}

// measureRow prepares the case for each subject, measures all in turns, and gives the pools back. If a peer cannot do
// something, its cell says so; if this library cannot, that is an error as well.
func (s settings) measureRow(ctx context.Context, c benchCase) (Row, error) {
	row := c.Row
	row.Cells = map[string]Cell{}
	var cells []*running
	var all error
	for _, one := range s.columns(c.durable) {
		began := time.Now()
		cell, err := s.begin(ctx, c, one)
		if took := time.Since(began); took > worthTelling {
			fmt.Fprintf(s.log, "  %s: %s to prepare\n", one.name(), took.Round(10*time.Millisecond))
		}
		if err != nil {
			if one.ours() && s.wrong(err) {
				all = errors.Join(all, fmt.Errorf("%s: %w", one.name(), err))
			}
			row.Cells[one.name()] = Cell{Missing: s.why(err, s.limit(one))}
			continue
		}
		cells = append(cells, cell)
	}
	all = errors.Join(all, s.interleave(ctx, row.Cells, cells))
	for _, cell := range cells {
		if len(cell.took) > 0 {
			row.Cells[cell.name] = Cell{Spread: measure.SpreadOf(cell.took), Allocs: cell.last.allocs, Note: cell.last.note}
		}
		all = errors.Join(all, s.leave(cell))
	}
	return row, all
}

// wrong reports whether an error is one of this library, not of what a machine has, or of its speed.
func (s settings) wrong(err error) bool {
	slow := errors.Is(err, peer.ErrSlow) || errors.Is(err, context.DeadlineExceeded)
	return !errors.Is(err, durable.ErrNoServer) && !errors.Is(err, errNone) && (s.quick || !slow)
}

// worthTelling is how long a cell takes to prepare if the log is to say so.
const worthTelling = 3 * time.Second

// leave gives the cell's pool to the next row, or ends it if it cannot be known what it holds.
func (s settings) leave(cell *running) error {
	switch p := cell.work.place; {
	case p == nil:
		return nil
	case cell.failed:
		return p.end()
	default:
		s.places.giveBack(p)
		return nil
	}
}

// limit is how long preparing may take, and the first round.
func (s settings) limit(one subject) time.Duration {
	switch {
	case one.ours():
		return s.mostOurs
	case one.kind != nil:
		return s.mostDurable
	}
	return s.most
}

// columns are the subjects of a row.
func (s settings) columns(isDurable bool) []subject {
	var all []subject
	if isDurable {
		for _, k := range durable.Kinds() {
			all = append(all, subject{kind: &k, servers: s.servers, places: s.places})
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

// isOurs reports whether a column is this library.
func isOurs(name string) bool { return strings.HasPrefix(name, peer.Ours) }

// begin prepares a cell and measures it once, which warms it up, and is its figure if there is no time for more.
func (s settings) begin(ctx context.Context, c benchCase, one subject) (*running, error) {
	if one.kind != nil && one.kind.Absent != "" {
		return nil, fmt.Errorf("%w: %s", peer.ErrCannot, one.kind.Absent)
	}
	limited, cancel := context.WithTimeout(ctx, s.limit(one))
	defer cancel()
	w, err := c.prepare(limited, one)
	if err == nil && w.first == nil {
		limited, cancel = context.WithTimeout(ctx, s.limit(one))
		defer cancel()
		var first reading
		start := time.Now()
		first, err = w.round(limited, 0)
		w.first, w.spent = &first, time.Since(start)
	}
	cell := &running{name: one.name(), ours: one.ours(), work: w, failed: err != nil}
	if err != nil && limited.Err() != nil {
		err = errors.Join(peer.ErrSlow, err) // the peer may have hidden that its context ended
	}
	if err != nil {
		return nil, errors.Join(err, s.leave(cell))
	}
	if cell.left = s.roundsFor(max(w.spent, s.each)); w.most > 0 {
		cell.left = min(cell.left, w.most)
	}
	if cell.left < 2 {
		cell.left, cell.took, cell.last = 0, []float64{w.first.value}, *w.first
	}
	return cell, nil
}

// roundsFor is how many rounds of that length fit.
func (s settings) roundsFor(one time.Duration) int {
	if s.rounds == 0 {
		return 0
	}
	return min(s.rounds, int(s.all/one))
}

// interleave measures the cells in turn, and begins each round with another one, so that a
// disturbance of the machine affects all of them.
func (s settings) interleave(ctx context.Context, missing map[string]Cell, cells []*running) error {
	var all error
	for round := range s.rounds {
		for i := range cells {
			cell := cells[(i+round)%len(cells)]
			if cell.left == 0 || ctx.Err() != nil {
				continue
			}
			cell.left--
			var err error
			if cell.last, err = cell.work.round(ctx, s.each); err == nil {
				cell.took = append(cell.took, cell.last.value)
				continue
			}
			if cell.ours {
				all = errors.Join(all, fmt.Errorf("%s: %w", cell.name, err))
			}
			missing[cell.name], cell.left, cell.took, cell.failed = Cell{Missing: s.why(err, s.all)}, 0, nil, true
		}
	}
	return all
}

// why is what a cell without a figure says.
func (s settings) why(err error, limit time.Duration) string {
	switch {
	case errors.Is(err, peer.ErrSlow), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("over %v", limit)
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
