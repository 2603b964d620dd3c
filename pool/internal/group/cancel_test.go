package group_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool/internal/group"
)

var canceled = context.Canceled.Error()

func TestCancelBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	run := &runner{round: func([]*op) { t.Error("a round") }}
	for _, queues := range [][]*group.Queue{nil, {new(group.Queue)}, {new(group.Queue), new(group.Queue)}} {
		require.ErrorIs(t, group.Do(ctx, &op{}, queues, run), context.Canceled)
		for _, q := range queues {
			require.True(t, group.Idle(q))
		}
	}
}

// A call that waits leaves at once, from the front, the middle and the end of its queue.
func TestCancelWaiting(t *testing.T) {
	for _, leaves := range []string{"1", "2", "3"} {
		inBubble(t, finish, func(s *scene, a, _, _ *group.Queue) {
			s.start("0", a)
			stays, cancels := []string{}, map[string]context.CancelFunc{}
			for _, name := range []string{"1", "2", "3"} {
				cancels[name] = s.start(name, a)
				if name != leaves {
					stays = append(stays, name)
				}
			}
			cancels[leaves]()
			require.Equal(t, map[string]string{leaves: canceled}, s.ended)
			s.finish(a)
			require.Equal(t, [][]string{{"0"}, stays}, s.rounds)
		})
	}
}

// A call that waits in its second queue gives the first one back.
func TestCancelHavingLeads(t *testing.T) {
	inBubble(t, finish, func(s *scene, a, b, c *group.Queue) {
		s.start("c", c)
		cancel := s.start("abc", a, b, c)
		s.start("a1", a)
		s.start("b1", b)
		s.start("c1", c)
		require.Len(t, s.rounds, 1)
		cancel()
		require.ElementsMatch(t, [][]string{{"c"}, {"a1"}, {"b1"}}, s.rounds)
		s.finish(a, b, c)
		require.Equal(t, canceled, s.ended["abc"])
	})
}

// A call that was just given the lead when its context ended hands it on.
func TestCancelGivenTheLead(t *testing.T) {
	for range 200 {
		inBubble(t, finish, func(s *scene, a, b, _ *group.Queue) {
			ctx, cancelAll := context.WithCancel(s.t.Context())
			round := s.run.round
			s.run.round = func(batch []*op) {
				round(batch)
				cancelAll()
			}
			s.start("ab", a, b)
			for i, queues := range [][]*group.Queue{{a}, {b}, {a, b}, {a}, {b}, {a, b}} {
				s.startWith(ctx, fmt.Sprint(i), queues...)
			}
			s.start("a", a)
			s.start("b", b)
			s.run.room = func([]*op, *op) bool { return false }
			s.finish(a, b)
			require.Len(t, s.rounds, 3)
			for name, end := range s.ended {
				if name == "ab" || name == "a" || name == "b" {
					require.Equal(t, "done", end)
				} else {
					require.Equal(t, canceled, end)
				}
			}
		})
	}
}

// A call whose context ends during its round returns with what the round says of it.
func TestCancelInRound(t *testing.T) {
	for _, test := range []struct {
		name      string
		rounds    int // until it is done
		uncertain int // how many rounds leave its outcome uncertain
		end       string
		in        int // the number of rounds that it is in
	}{
		{"done", 1, 0, "done", 1},
		{"undone", 2, 0, canceled, 1},
		{"uncertain until done", 3, 3, "done", 3},
		{"uncertain, then not", 4, 2, canceled, 3},
	} {
		for _, leads := range []bool{false, true} {
			t.Run(test.name, func(t *testing.T) {
				in := 0
				left := until(map[string]int{"lead": 10, "it": test.rounds})
				round := func(batch []*op) {
					for _, o := range batch {
						if o.name == "it" {
							in++
							o.uncertain = in <= test.uncertain
						}
					}
					left(batch)
				}
				inBubble(t, round, func(s *scene, a, b, c *group.Queue) {
					if !leads {
						s.start("lead", a)
					}
					cancel := s.start("it", a)
					if !leads {
						s.step("lead")
					}
					s.start("last", a)
					cancel()
					require.Empty(t, s.ended)
					s.finish(a)
					require.Equal(t, test.end, s.ended["it"])
					require.Equal(t, "done", s.ended["last"])
					require.Equal(t, test.in, in)
				})
			})
		}
	}
}

// A call that waits after a round left it undone leaves at once, unless its outcome is uncertain.
func TestCancelBetweenRounds(t *testing.T) {
	for _, uncertain := range []bool{false, true} {
		round := func(batch []*op) {
			for _, o := range batch {
				o.uncertain = uncertain
			}
		}
		inBubble(t, func(batch []*op) { round(batch) }, func(s *scene, a, _, _ *group.Queue) {
			pause := make(chan struct{})
			s.run.pause = func(*op) { <-pause }
			s.start("lead", a)
			cancel := s.start("it", a)
			s.step("lead")
			pause <- struct{}{}
			s.step() // nothing
			require.Empty(t, s.ended)
			s.start("new", a)
			s.step("lead")
			cancel()
			if uncertain {
				require.Empty(t, s.ended)
			} else {
				require.Equal(t, map[string]string{"it": canceled}, s.ended)
			}
			round = finish
			close(pause)
			s.finish(a)
			require.Equal(t, "done", s.ended["lead"])
			if uncertain {
				require.Equal(t, "done", s.ended["it"])
			}
		})
	}
}

// A leader whose context ends while it pauses hands the lead on, unless its outcome is uncertain.
func TestCancelPausing(t *testing.T) {
	for _, uncertain := range []bool{false, true} {
		done := until(map[string]int{"lead": 2})
		round := func(batch []*op) {
			batch[0].uncertain = uncertain
			done(batch)
		}
		inBubble(t, round, func(s *scene, a, b, _ *group.Queue) {
			pause := make(chan struct{})
			s.run.pause = func(*op) { <-pause }
			cancel := s.start("lead", a, b)
			s.start("a", a)
			s.start("b", b)
			s.step("lead")
			cancel()
			require.Empty(t, s.ended)
			close(pause)
			s.finish(a, b)
			if uncertain {
				require.Equal(t, map[string]string{"lead": "done", "a": "done", "b": "done"}, s.ended)
				require.Equal(t, [][]string{{"lead"}, {"lead", "a", "b"}}, s.rounds)
				return
			}
			require.Equal(t, map[string]string{"lead": canceled, "a": "done", "b": "done"}, s.ended)
		})
	}
}
