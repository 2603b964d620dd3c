package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/store"
)

func labelCases() []testCase {
	return []testCase{
		{"labels/by name and value", labelsFound},
		{"labels/odd texts", labelsOdd},
		{"labels/after changes", labelChanges},
		{"labels/pools and kinds apart", labelsApart},
		{"labels/of past tenures, in their order", labelsOfHistory},
		{"labels/on from any record", labelsAfter},
		{"labels/early stop and again", labelsStop},
		{"labels/changes in the body", labelsBody},
		{"labels/under concurrent commits", labelsRaced},
		{"labels/errors come last", labelErrors},
		{"labels/invalid", labelsInvalid},
	}
}

// labelled returns a claim of pool a with labels, each NAME=VALUE.
func labelled(name string, labels ...string) store.Record {
	r := claim("a", name)
	r.Labels = map[string]string{}
	for _, l := range labels {
		label, value, _ := strings.Cut(l, "=")
		r.Labels[label] = value
	}
	return r
}

// byLabel returns what ByLabel yields.
func (s *subject) byLabel(l store.Labelled) []store.Record {
	s.Helper()
	var all []store.Record
	for r, err := range store.ByLabel(s.ctx, s.s, l) {
		s.check(err == nil, ruleLabel, "ByLabel of %+v failed: %v", l, err)
		value, ok := r.Labels[l.Name]
		s.check(ok && value == l.Value && r.Kind == l.Kind && r.Pool == l.Pool, ruleLabel,
			"ByLabel of %+v yielded %v with the labels %v", l, r.Key, r.Labels)
		s.check(!slices.ContainsFunc(all, func(other store.Record) bool { return other.Key == r.Key }), ruleLabel,
			"ByLabel of %+v yielded %v twice", l, r.Key)
		all = append(all, r)
	}
	return all
}

// found checks that ByLabel of pool a yields just want, in whatever order.
func (s *subject) found(name, value string, want ...store.Record) {
	s.Helper()
	got := s.byLabel(store.Labelled{Kind: store.KindAllocation, Pool: "a", Name: name, Value: value})
	s.check(len(got) == len(want), ruleLabel, "ByLabel of %.40q with value %.40q yielded %d records, want %d", name, value,
		len(got), len(want))
	for _, w := range want {
		i := slices.IndexFunc(got, func(r store.Record) bool { return r.Key == w.Key })
		s.check(i >= 0, ruleLabel, "ByLabel of %.40q with value %.40q did not yield %v", name, value, w.Key)
		s.same(ruleLabel, "the record that ByLabel yielded", got[i], w)
	}
}

func labelsFound(s *subject) {
	s.found("node", "n1")
	one := apart(fullRecord(claimKey("a", "one")), 1)
	one.Labels = map[string]string{"node": "n1", "pod": "web"}
	two, three := labelled("two", "node=n1", "pod=db"), labelled("three", "node=n2", "pod=web")
	four := labelled("four", "node=n10", "n1=node", "Node=n1", "nod=en1")
	five, six := labelled("five", "node="), labelled("six", "node=N1")
	head := s.commit(newHead("a"), create(one), create(two), create(three), create(four), create(five), create(six),
		create(claim("a", "none")))
	for _, r := range []*store.Record{&one, &two, &three, &four, &five, &six} {
		r.Revision = head.Revision
	}
	s.found("node", "n1", one, two)
	s.found("node", "n2", three)
	s.found("node", "n10", four)
	s.found("node", "", five)
	s.found("node", "N1", six)
	s.found("node", "n")
	s.found("pod", "web", one, three)
	s.found("n1", "node", four)
	s.found("Node", "n1", four)
	s.found("nod", "en1", four)
	s.found("missing", "")
}

// labelsOdd has labels that a driver may take for one another, or take apart in the wrong place.
func labelsOdd(s *subject) {
	texts := append(oddTexts(), strings.Repeat("l", store.MaxLabelBytes-10))
	for i := 0; i < len(texts); i += 10 {
		s.oddLabels(i, texts[i:min(i+10, len(texts))])
	}
	var writes []store.Write
	want := map[[2]string]store.Record{}
	for i, label := range [][2]string{
		{"a", "b/c"}, {"a/b", "c"}, {"a=b", "c"}, {"a", "b=c"}, {"a/", "b"}, {"a", "/b"}, {"a%2Fb", "c"}, {"x--", "x--"},
	} {
		r := claim("a", fmt.Sprint("alike ", i))
		r.Labels = map[string]string{label[0]: label[1]}
		want[label] = r
		writes = append(writes, create(r))
	}
	head, _ := s.get(headKey("a"))
	head = s.commit(head, writes...)
	for label, r := range want {
		s.found(label[0], label[1], at(r, head.Revision))
	}
	most := claim("a", "most")
	most.Labels = map[string]string{}
	for i := range store.MaxLabels {
		most.Labels[fmt.Sprint("name", i)] = fmt.Sprint("value", i)
	}
	head = s.commit(head, create(most))
	for i := range store.MaxLabels {
		s.found(fmt.Sprint("name", i), fmt.Sprint("value", i), at(most, head.Revision))
	}
}

// oddLabels creates records with the texts as names, and with them as values; their own names begin with a number.
func (s *subject) oddLabels(first int, texts []string) {
	s.Helper()
	var writes []store.Write
	var names, values []store.Record
	for i, text := range texts {
		name, value := claim("a", fmt.Sprint("name ", first+i)), claim("a", fmt.Sprint("value ", first+i))
		name.Labels, value.Labels = map[string]string{text: "v"}, map[string]string{"odd": text}
		names, values = append(names, name), append(values, value)
		writes = append(writes, create(name), create(value))
	}
	head, ok := s.get(headKey("a"))
	if !ok {
		head = newHead("a")
	}
	head = s.commit(head, writes...)
	for i, text := range texts {
		s.found(text, "v", at(names[i], head.Revision))
		s.found("odd", text, at(values[i], head.Revision))
	}
}

func labelChanges(s *subject) {
	x, y := labelled("x", "node=n1", "pod=web"), labelled("y", "node=n1")
	head := s.commit(newHead("a"), create(x), create(y))
	first := head.Revision
	s.found("node", "n1", at(x, first), at(y, first))
	x.Labels = map[string]string{"node": "n2", "pod": "web"}
	head = s.commit(head, put(x))
	s.found("node", "n1", at(y, first))
	s.found("node", "n2", at(x, head.Revision))
	s.found("pod", "web", at(x, head.Revision))
	x.State = "changed" // with the same labels
	head = s.commit(head, put(x))
	s.found("node", "n2", at(x, head.Revision))
	x.Labels = nil
	head = s.commit(head, put(x))
	s.found("node", "n2")
	s.found("pod", "web")
	x.Labels = map[string]string{"node": "n1"}
	head = s.commit(head, put(x))
	second := head.Revision
	s.found("node", "n1", at(x, second), at(y, first))
	head = s.commit(head, remove(y.Key))
	s.found("node", "n1", at(x, second))
	head = s.commit(head, create(y))
	third := head.Revision
	s.found("node", "n1", at(x, second), at(y, third))
	s.refused(ruleConflict, store.ErrConflict, newHead("a"), remove(x.Key), put(labelled("y", "node=n3")))
	s.refused(ruleExists, store.ErrExists, head, create(x), put(labelled("y", "node=n3")),
		create(labelled("z", "node=n3")))
	s.found("node", "n1", at(x, second), at(y, third))
	s.found("node", "n3")
	s.reopen()
	s.found("node", "n1", at(x, second), at(y, third))
	head, _ = s.get(headKey("a"))
	s.commit(head, remove(x.Key), remove(y.Key))
	s.found("node", "n1")
}

func labelsApart(s *subject) {
	head := newHead("a")
	head.Labels = map[string]string{"node": "n1"}
	var writes []store.Write
	pools := []string{"a", "ab", "b", "A", "a/b", `a"`}
	for i, pool := range pools {
		r := apart(labelled("x", "node=n1"), i)
		r.Pool = pool
		writes = append(writes, create(r))
	}
	for i, kind := range []store.Kind{store.KindCooling, store.KindSpace, "unknown kind", "allocation2"} {
		r := apart(labelled("other", "node=n1"), len(pools)+i)
		r.Kind = kind
		writes = append(writes, create(r))
	}
	head = s.commit(head, writes...)
	for i, pool := range pools {
		got := s.byLabel(store.Labelled{Kind: store.KindAllocation, Pool: pool, Name: "node", Value: "n1"})
		s.check(len(got) == 1, ruleLabel, "ByLabel in pool %q yielded %d records, want 1", pool, len(got))
		s.same(ruleLabel, "the record that ByLabel yielded", got[0], at(writes[i].Record, head.Revision))
	}
	for _, w := range writes {
		s.holds(ruleCommit, at(w.Record, head.Revision))
	}
	s.holds(ruleCommit, head)
	got := s.byLabel(store.Labelled{Kind: store.KindAllocation, Pool: "none", Name: "node", Value: "n1"})
	s.check(len(got) == 0, ruleLabel, "ByLabel in a pool that does not exist yielded records")
}

// labelsOfHistory has records of both kinds that are found by label, with the same names and labels.
func labelsOfHistory(s *subject) {
	of := func(kind store.Kind, i int) store.Record {
		r := apart(labelled(fmt.Sprintf("%016d", i), "node=n1"), i/2)
		r.Kind = kind
		return r
	}
	const n = 300
	head := newHead("a")
	for i := 0; i < n; i += 50 {
		var writes []store.Write
		for j := i; j < i+50; j++ {
			k := j * 37 % n
			writes = append(writes, create(of(store.KindHistory, k)))
			if k%10 == 0 {
				writes = append(writes, create(of(store.KindAllocation, k)))
			}
		}
		head = s.commit(head, writes...)
	}
	past := store.Labelled{Kind: store.KindHistory, Pool: "a", Name: "node", Value: "n1"}
	all := names(s.byLabel(past))
	s.check(len(all) == n, ruleLabel, "ByLabel yielded %d records, want %d", len(all), n)
	s.check(slices.IsSorted(all), ruleLabelDigits, "ByLabel yielded names of 16 digits in another order")
	s.check(len(s.byLabel(store.Labelled{Kind: store.KindAllocation, Pool: "a", Name: "node", Value: "n1"})) == n/10,
		ruleLabel, "ByLabel of allocations yielded another number of records than %d", n/10)
	s.commit(head, remove(of(store.KindHistory, 20).Key), remove(of(store.KindAllocation, 10).Key))
	past.After = all[9]
	rest := names(s.byLabel(past))
	s.check(slices.Equal(rest, slices.Concat(all[10:20], all[21:])), ruleLabelAfter,
		"ByLabel after %q yielded %d records, want the %d that came after it", past.After, len(rest), n-11)
}

// shelf is the label that the records of shelve have.
var shelf = store.Labelled{Kind: store.KindAllocation, Pool: "a", Name: "shelf", Value: "7"}

// shelve creates n claims of pool a with a label, and as many without, and returns the former by name.
func (s *subject) shelve(n int) map[string]store.Record {
	s.Helper()
	head, all := newHead("a"), map[string]store.Record{}
	for i := 0; i < n; i += 50 {
		var writes []store.Write
		for j := i; j < min(i+50, n); j++ {
			r := labelled(fmt.Sprintf("book %d/%%%d", j*37%n, j), "shelf=7")
			all[r.Name] = r
			writes = append(writes, create(r), create(labelled(fmt.Sprint("other ", j), "shelf=8")))
		}
		head = s.commit(head, writes...)
		for _, w := range writes {
			if r, ok := all[w.Record.Name]; ok {
				all[r.Name] = at(r, head.Revision)
			}
		}
	}
	return all
}

func names(records []store.Record) []string {
	all := make([]string, len(records))
	for i, r := range records {
		all[i] = r.Name
	}
	return all
}

func labelsAfter(s *subject) {
	all := s.shelve(300)
	got := s.byLabel(shelf)
	for _, r := range got {
		s.same(ruleLabel, "the record that ByLabel yielded", r, all[r.Name])
	}
	s.check(len(got) == len(all), ruleLabel, "ByLabel yielded %d records, want %d", len(got), len(all))
	s.check(slices.Equal(names(s.byLabel(shelf)), names(got)), ruleLabelOrder,
		"ByLabel yielded another order the second time")
	for _, i := range []int{0, 1, 7, 127, 128, 150, 255, 256, 298, 299} {
		l := shelf
		l.After = got[i].Name
		rest := names(s.byLabel(l))
		s.check(slices.Equal(rest, names(got[i+1:])), ruleLabelAfter,
			"ByLabel after %q yielded %d records, want the %d that came after it", l.After, len(rest), len(got)-i-1)
	}
	head, _ := s.get(headKey("a"))
	s.commit(head, remove(got[150].Key), remove(got[151].Key))
	l := shelf
	l.After = got[150].Name
	s.check(slices.Equal(names(s.byLabel(l)), names(got[152:])), ruleLabelAfter,
		"ByLabel after a record that is gone did not yield those that came after it")
}

func labelsStop(s *subject) {
	s.shelve(40)
	order := names(s.byLabel(shelf))
	all := store.ByLabel(s.ctx, s.s, shelf)
	for n := range 4 {
		taken := 0
		s.within(ruleListBody, func() error {
			for r, err := range all {
				if err != nil || r.Name != order[taken] {
					return fmt.Errorf("record %d is %v, want %q; error %w", taken, r.Key, order[taken], err)
				}
				if taken++; taken > n {
					break
				}
			}
			return nil
		})
		s.check(taken == n+1, ruleListBody, "a loop over ByLabel took %d records, want %d", taken, n+1)
	}
	head, _ := s.get(headKey("a"))
	s.commit(head)
}

// labelsBody deletes records, and changes the labels of others, while they are listed.
func labelsBody(s *subject) {
	all := s.shelve(150)
	head, _ := s.get(headKey("a"))
	times, changed, n := map[string]int{}, map[string]bool{}, 0
	sorted := slices.Sorted(maps.Keys(all))
	s.within(ruleListBody, func() error {
		for r, err := range store.ByLabel(s.ctx, s.s, shelf) {
			if err != nil {
				return err
			}
			if times[r.Name]++; n%10 == 0 {
				gone, moved := all[r.Name], all[sorted[n*7%150]]
				changed[gone.Name], changed[moved.Name] = true, true
				writes := []store.Write{remove(gone.Key)}
				if moved.Name != gone.Name {
					moved.Labels = map[string]string{"shelf": "9"}
					writes = append(writes, put(moved))
				}
				if head, err = CommitOne(s.ctx, s.s, head, writes...); err != nil {
					return err
				}
			}
			n++
		}
		return nil
	})
	for name := range all {
		s.check(times[name] <= 1, ruleLabelFresh, "%q came up %d times", name, times[name])
		s.check(times[name] == 1 || changed[name], ruleLabelFresh, "%q did not come up", name)
	}
}

// labelsRaced has callers that commit at once, of whom most lose, and compares what labels find with what there is.
func labelsRaced(s *subject) {
	const callers, rounds, names = 4, 12, 7
	s.commit(newHead("a"))
	handles := []store.Store{s.s, s.another()}
	s.within(ruleLabel, func() error {
		failed := make(chan error, callers)
		for c := range callers {
			go func() { failed <- s.relabels(handles[c%2], c, rounds, names) }()
		}
		var errs []error
		for range callers {
			errs = append(errs, <-failed)
		}
		return errors.Join(errs...)
	})
	want := map[[2]string][]store.Record{{"turn", "none"}: nil}
	for c := range callers {
		for i := range rounds {
			want[[2]string{"turn", fmt.Sprint(c, "-", i)}] = nil
		}
	}
	for _, r := range s.list(store.KindAllocation, "a") {
		for name, value := range r.Labels {
			want[[2]string{name, value}] = append(want[[2]string{name, value}], r)
		}
	}
	for _, s.s = range handles {
		for label, records := range want {
			s.found(label[0], label[1], records...)
		}
	}
}

// relabels commits changes of labels, each as often as it takes.
func (s *subject) relabels(handle store.Store, caller, rounds, names int) error {
	for i := range rounds {
		for done := false; !done; {
			head, err := handle.Get(s.ctx, headKey("a"))
			if err != nil {
				return err
			}
			n := caller + i
			gone := claimKey("a", fmt.Sprint("x", n%names))
			kept := labelled(fmt.Sprint("x", (n+1)%names), fmt.Sprintf("turn=%d-%d", caller, i), "shelf=7")
			bare := claim("a", fmt.Sprint("x", (n+2)%names))
			_, err = CommitOne(s.ctx, handle, head, remove(gone), put(kept), put(bare))
			if err != nil && !errors.Is(err, store.ErrConflict) {
				return err
			}
			done = err == nil
		}
	}
	return nil
}

func labelErrors(s *subject) {
	s.shelve(150)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	n, failed := 0, false
	for _, err := range store.ByLabel(ctx, s.s, shelf) {
		s.check(!failed, ruleListError, "ByLabel went on after an error")
		if err != nil {
			failed = true
			continue
		}
		if n++; n == 10 {
			cancel()
		}
	}
	s.check(failed || n == 150, ruleListError, "ByLabel ended after %d records without an error, want 150", n)
}

func labelsInvalid(s *subject) {
	long := strings.Repeat("x", store.MaxLabelBytes)
	for _, l := range []store.Labelled{
		{Name: "n"}, {Pool: "a"}, {Pool: "a\x00", Name: "n"}, {Pool: "\xff", Name: "n"}, {Pool: "a", Name: "n\x00"},
		{Pool: "a", Name: "\xff"}, {Pool: "a", Name: "n", Value: "\x00"}, {Pool: "a", Name: "n", Value: "\xff"},
		{Pool: "a", Name: "n", Value: long}, {Pool: "a", Name: long, Value: "v"}, {Pool: "a", Name: "n", After: "\x00"},
		{Pool: "a", Name: "n", After: strings.Repeat("x", store.MaxNameBytes+1)},
		{Kind: store.KindCooling, Pool: "a", Name: "n"}, {Kind: store.KindPool, Pool: "a", Name: "n"},
	} {
		l.Kind = cmp.Or(l.Kind, store.KindAllocation)
		n := 0
		for _, err := range store.ByLabel(s.ctx, s.s, l) {
			s.check(errors.Is(err, store.ErrInvalid), ruleLabelInvalid, "ByLabel of %.80q yielded the error %v", l, err)
			n++
		}
		s.check(n == 1, ruleLabelInvalid, "ByLabel of %.80q yielded %d times, want one error", l, n)
	}
}
