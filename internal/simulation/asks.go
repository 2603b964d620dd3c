package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ipalloc/ipalloc/store"
)

// ask is what a place in a line has asked for.
type ask struct {
	data     []byte // empty for nothing
	answer   []byte // nil if it has not been answered
	revision int64
	gone     bool // its caller has withdrawn it
}

// groupTurn is a turn at one head, in which others can be answered.
type groupTurn struct {
	turn
	key     store.Key
	place   *place
	asks    [][]byte
	asking  []*place // whose asks they are
	given   [][]byte // to them; nil for none
	unknown bool     // nobody can tell whether the place has been answered
	over    bool     // its commit has succeeded
}

var _ store.Grouper = (*handle)(nil)

// Join waits step by step, as Turn does.
func (h *handle) Join(ctx context.Context, key store.Key, wanted []byte) (store.GroupTurn, error) {
	if err := store.ValidateJoin(key, wanted); err != nil {
		return nil, err
	}
	t := &groupTurn{turn: turn{handle: h}, key: key, place: &place{}}
	if h.process != nil && !h.backend.Turnless {
		if err := h.delay(key, wanted); err != nil {
			return nil, err
		}
		t.place = h.backend.enter(key, h.process, wanted)
		t.keys, t.places = []store.Key{key}, []*place{t.place}
		for first := false; !first; first = h.backend.isFirst(key, t.place) {
			if err := h.read(ctx); err != nil {
				return t.withdraw(err)
			}
			if t.place.ask.answer != nil {
				return t, nil
			}
		}
	}
	t.begin()
	return t, nil
}

// delay has an ask arrive late now and then: when its process has died, or has gone on without it, and others wait who
// may find it.
func (h *handle) delay(key store.Key, wanted []byte) error {
	w := h.process.World
	if len(wanted) == 0 || !w.chance(w.Rates.Late) {
		return nil
	}
	late := placeOf(h.process, wanted)
	late.left = true
	var land func()
	land = func() {
		if len(h.backend.turns[key]) < 2 {
			w.Postpone(land)
			return
		}
		h.backend.add(key, late)
	}
	w.Postpone(land)
	if w.Random.IntN(2) == 0 {
		h.process.Die()
	}
	return fmt.Errorf("%w: the ask takes long", store.ErrUnknown)
}

// withdraw makes the step with which a caller leaves that can wait no longer, for the reason err. If it cannot be told
// whether that has been done in time, the place stays for a while.
func (t *groupTurn) withdraw(err error) (store.GroupTurn, error) {
	h := t.handle
	leave := func() { h.backend.withdraw(t.key, t.place) }
	t.place.left = true
	switch fate := h.step(true); fate {
	case Pass:
		leave()
		if t.place.ask.answer != nil {
			return t, nil
		}
		return nil, err
	case LoseReply:
		leave()
	case Late, TimeOut:
		h.process.World.Postpone(leave)
	case CrashAfter:
		leave()
		h.process.Die()
	}
	return nil, fmt.Errorf("%w: it could not be withdrawn: %w", store.ErrUnknown, err)
}

// withdraw takes a place out of its line, with its ask.
func (b *Backend) withdraw(key store.Key, at *place) {
	if at.ask.gone = true; b.AnswersLate {
		b.keepAsk(key, at)
	}
	b.leave(key, at)
}

// keptAsks is how many asks a broken backend keeps at a head.
const keptAsks = 3

// keepAsk keeps an ask that should be there no more.
func (b *Backend) keepAsk(key store.Key, at *place) {
	if b.kept == nil {
		b.kept = turns{}
	}
	b.kept[key] = append(b.kept[key], at)
	b.kept[key] = b.kept[key][max(0, len(b.kept[key])-keptAsks):]
}

// begin reads the head, and takes note of who waits behind the turn, or of some of them.
func (t *groupTurn) begin() {
	b := t.handle.backend
	r, ok := b.read(t.handle.process, t.key)
	if !ok {
		r = store.Record{Key: t.key}
	}
	t.heads = []store.Record{r.Canonical()}
	for _, at := range slices.Concat(b.turns[t.key], b.kept[t.key]) {
		if at == t.place || len(at.ask.data) == 0 || at.process.World.Random.IntN(10) == 0 {
			continue
		}
		t.asks, t.asking = append(t.asks, at.ask.data), append(t.asking, at)
	}
	t.given = make([][]byte, len(t.asks))
}

func (t *groupTurn) Asks() [][]byte { return t.asks }

func (t *groupTurn) Answer(i int, answer []byte) { t.given[i] = slices.Clone(answer) }

// Next goes on for others, half of the time.
func (t *groupTurn) Next() store.GroupTurn {
	if !t.over || t.handle.process.World.Random.IntN(2) == 0 {
		return nil
	}
	next := &groupTurn{turn: turn{handle: t.handle}, key: t.key, place: &place{}}
	if next.begin(); len(next.asks) == 0 {
		return nil
	}
	return next
}

// End ends the turn, as that of any other. Now and then the ask stays behind for a while.
func (t *groupTurn) End() {
	p := t.handle.process
	if p == nil || p.dying || t.places == nil {
		return
	}
	if t.place.ask.data != nil && t.place.ask.answer == nil && p.World.chance(4*p.World.Rates.LoseRequest) {
		t.place.left, t.unknown, t.places = true, true, nil
		return
	}
	t.places = nil
	t.handle.backend.withdraw(t.key, t.place)
}

// Answered makes a step that reads, once the turn has ended.
func (t *groupTurn) Answered() ([]byte, int64, error) {
	a := &t.place.ask
	if a.data == nil || t.places != nil {
		return a.answer, a.revision, nil
	}
	if t.handle.step(false) == Refuse || t.unknown {
		return nil, 0, fmt.Errorf("%w: it may have been answered", store.ErrUnknown)
	}
	return a.answer, a.revision, nil
}

// answers are those that a commit gives, and what its own caller has asked others for.
type answers struct {
	turn  *groupTurn // in which it is made; nil for none
	own   *place     // of the turn
	key   store.Key
	to    []*place
	texts [][]byte
}

// answersOf returns the answers that go with changes.
func answersOf(changes []store.Change) answers {
	for _, c := range changes {
		t, ok := c.Turn.(*groupTurn)
		if !ok {
			continue
		}
		all := answers{turn: t, own: t.place, key: t.key}
		for i, text := range t.given {
			if text != nil {
				all.to, all.texts = append(all.to, t.asking[i]), append(all.texts, text)
			}
		}
		return all
	}
	return answers{}
}

// admitAnswers returns a conflict if one of those has left that are to be answered.
func (b *Backend) admitAnswers(sent commit) error {
	for _, at := range sent.to {
		if slices.Contains(b.kept[sent.key], at) || slices.Contains(b.turns[sent.key], at) && at.ask.answer == nil {
			continue
		}
		b.Conflicts++
		head := sent.changes[0].Head
		return &store.ConflictError{Expected: head.Revision, Current: b.records[head.Key].Canonical()}
	}
	return nil
}

// give gives the answers of a commit that has made these heads, and ends its turn.
func (b *Backend) give(sent commit, heads []store.Record) {
	for i, at := range sent.to {
		text := sent.texts[i]
		if b.AnswersAstray {
			text = renamed(sent.texts[(i+1)%len(sent.texts)], ownersOf(at.ask.data, nil))
		}
		if at.ask.answer == nil {
			at.ask.answer, at.ask.revision = text, heads[0].Revision
		}
		if b.Answers++; b.AnswersTwice {
			b.keepAsk(sent.key, at)
		}
		b.leave(sent.key, at)
	}
	if sent.turn != nil {
		b.leave(sent.key, sent.own)
		sent.turn.over = sent.turn.handle.process != nil
	}
}

// renamed is an answer with the names of other owners.
func renamed(answer []byte, owners []string) []byte {
	var data map[string]any
	if json.Unmarshal(answer, &data) != nil {
		return answer
	}
	steps, _ := data["steps"].([]any)
	for i, owner := range owners {
		if i < len(steps) && steps[i] != nil {
			steps[i].(map[string]any)["owner"] = owner
		}
	}
	text, err := json.Marshal(data)
	if err != nil {
		return answer
	}
	return text
}

// note notes a change that the commit has made with whoever has asked for it. What is done for an owner whom nobody
// names, such as one whose time is over, any of those may have done whom the commit serves.
func (c *commit) note(each Change) {
	by := []*Call{c.call}
	if len(c.to) > 0 && each.Now.Pool == c.key.Pool && each.Now.Kind == store.KindAllocation {
		if c.own != nil && slices.Contains(ownersOf(c.own.ask.data, nil), each.Now.Name) {
			noteChange(each, by...)
			return
		}
		for i, at := range c.to {
			if slices.Contains(ownersOf(at.ask.data, c.texts[i]), each.Now.Name) {
				noteChange(each, at.call)
				return
			}
		}
	}
	for _, at := range c.to {
		by = append(by, at.call)
	}
	noteChange(each, by...)
}

// ownersOf returns for which owners an ask asks; if there is an answer, only those for whom it says that it was done.
func ownersOf(asked, answer []byte) []string {
	var ask struct {
		Ops []struct {
			Steps []struct {
				Owner string `json:"owner"`
			} `json:"steps"`
		} `json:"ops"`
	}
	var done struct {
		Steps []json.RawMessage `json:"steps"`
	}
	if json.Unmarshal(asked, &ask) != nil || answer != nil && json.Unmarshal(answer, &done) != nil {
		return nil
	}
	var owners []string
	i := 0
	for _, op := range ask.Ops {
		for _, s := range op.Steps {
			if answer == nil || i < len(done.Steps) && string(done.Steps[i]) != "null" {
				owners = append(owners, s.Owner)
			}
			i++
		}
	}
	return owners
}
