package group_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool/internal/group"
)

// A panic in the runner reaches the call that leads, and fails no call outside its batch. The others go on.
func TestPanic(t *testing.T) {
	const done, failed, panicked = "done", "failed", "panic: on purpose"
	boom := func() { panic("on purpose") }
	half := func(batch []*op) { finish(batch[1:2]) }
	for _, test := range []struct {
		name             string
		broken           runner // for the second round
		value            any    // what Fail gets
		lead, early, one string // how these calls end
	}{
		{"before", runner{round: func([]*op) { boom() }}, "on purpose", panicked, failed, failed},
		{"after", runner{round: func(batch []*op) { half(batch); boom() }}, "on purpose", panicked, done, failed},
		{"exit", runner{round: func([]*op) { runtime.Goexit() }}, nil, "exited", failed, failed},
		{"room", runner{room: func(_ []*op, next *op) bool {
			if next.name == "one" {
				boom()
			}
			return true
		}}, "on purpose", panicked, failed, done},
		{"leave", runner{round: half, leave: func(*op) bool { boom(); return true }},
			"on purpose", panicked, done, failed},
		{"pause", runner{round: func(batch []*op) { finish(batch[1:]) }, pause: func(*op) { boom() }},
			"on purpose", panicked, done, done},
		{"fail", runner{round: func(batch []*op) { half(batch); boom() }, fail: func([]*op, any) { panic("again") }},
			"on purpose", "panic: again", done, group.ErrPanicked.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			ends := map[string]string{"lead": test.lead, "early": test.early, "one": test.one, "late": done}
			panics(t, &test.broken, test.value, ends)
		})
	}
}

// panics lets a call lead two queues while three wait, of which the last one has no room. Its second round, and what
// comes before and after it, is that of the broken runner.
func panics(t *testing.T, broken *runner, value any, ends map[string]string) {
	phase := 1 // the round; at last 3
	round := func(batch []*op) {
		switch phase {
		case 2:
			broken.Round(batch)
		case 3:
			finish(batch)
		}
	}
	inBubble(t, round, func(s *scene, a, b, c *group.Queue) {
		s.run.pause = func(own *op) {
			if phase == 2 {
				broken.Pause(own)
			}
			phase = 2
		}
		s.run.room = func(batch []*op, next *op) bool {
			return next.name != "late" && (phase != 2 || broken.Room(batch, next))
		}
		s.run.leave = func(o *op) bool { return phase != 2 || broken.MayLeave(o) }
		var seen any
		s.run.fail = func(batch []*op, panicked any) {
			phase, seen = 3, panicked
			broken.Fail(batch, panicked)
		}
		s.start("lead", a, b)
		s.start("early", a)
		s.start("late", b, c)
		s.start("one", b)
		s.finish(a, b, c)
		require.Equal(t, value, seen)
		require.Equal(t, ends, s.ended)
	})
}
