package store

import (
	"cmp"
	"context"
	"iter"
	"slices"
)

// ByLabel implements [Labeller]. It yields the records in the order of their names, byte by byte, as they were when the
// iteration began, without any lock. Cost: O(n log n) for n records that have the label.
func (m *Memory) ByLabel(ctx context.Context, l Labelled) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := l.Validate(); err != nil {
			yield(Record{}, err)
			return
		}
		if err := m.usable(ctx); err != nil {
			yield(Record{}, err)
			return
		}
		found := m.shared.labelled(l)
		slices.SortFunc(found, func(a, b *Record) int { return cmp.Compare(a.Name, b.Name) })
		for _, r := range found {
			if err := m.usable(ctx); err != nil {
				yield(Record{}, err)
				return
			}
			if !yield(r.Canonical(), nil) {
				return
			}
		}
	}
}

func (s *records) labelled(l Labelled) (found []*Record) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tables[tableKey{l.Kind, l.Pool}]
	if t == nil {
		return nil
	}
	for _, r := range t.labels[label{l.Name, l.Value}] {
		if l.matches(r) {
			found = append(found, r)
		}
	}
	return found
}

// label is a name with a value.
type label struct{ name, value string }

// labelIndex has the records of a table that have a label, by their names. It is not safe for concurrent changes.
type labelIndex map[label]map[string]*Record

func (x labelIndex) add(r *Record) {
	for name, value := range r.Labels {
		l := label{name, value}
		if x[l] == nil {
			x[l] = map[string]*Record{}
		}
		x[l][r.Name] = r
	}
}

func (x labelIndex) remove(r *Record) {
	for name, value := range r.Labels {
		l := label{name, value}
		if delete(x[l], r.Name); len(x[l]) == 0 {
			delete(x, l)
		}
	}
}
