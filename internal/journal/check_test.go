package journal_test

import (
	"testing"

	"github.com/ipalloc/ipalloc/internal/journal"
)

func TestSound(t *testing.T) {
	for name, tell := range map[string]func(s *story){
		"nothing": func(*story) {},
		"granted, and held": func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.holds("a", at("blue", "10.0.0.1", 5))
		},
		"granted, asked again, freed, granted to another": func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.look("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.look("a", "blue").returns(journal.Nothing)
			s.grant("b", "blue").done(at("blue", "10.0.0.1", 7))
			s.holds("b", at("blue", "10.0.0.1", 7))
		},
		"granted to another while the release runs": func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			free := s.free("a", "blue")
			s.grant("b", "blue").done(at("blue", "10.0.0.1", 7))
			free.done(at("blue", "10.0.0.1", 5))
			s.holds("b", at("blue", "10.0.0.1", 7))
		},
		"granted unknown, and there": func(s *story) {
			s.grant("a", "blue").unknown()
			s.holds("a", at("blue", "10.0.0.1", 5))
		},
		"granted unknown, and not there": func(s *story) {
			s.grant("a", "blue").unknown()
		},
		"freed unknown, and gone": func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue").unknown()
		},
		"killed while freeing, and still there": func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue")
			s.holds("a", at("blue", "10.0.0.1", 5))
		},
		"a killed process's release lands after the owner was told that it holds": func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue").by("victim")
			s.died("victim")
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.grant("b", "blue").done(at("blue", "10.0.0.1", 8))
			s.holds("b", at("blue", "10.0.0.1", 8))
		},
		"a release that was told that it freed what another one freed is no fence": func(s *story) {
			s.grant("x", "blue").done(at("blue", "10.0.0.9", 4))
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			other := s.free("x", "blue")
			s.free("a", "blue").by("victim")
			s.died("victim")
			other.done(at("blue", "10.0.0.9", 4))
			s.free("x", "blue").done(at("blue", "10.0.0.9", 4))
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
		},
		"nor is one that freed what another one may have freed": func(s *story) {
			s.grant("x", "blue").done(at("blue", "10.0.0.9", 4))
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("x", "blue").unknown()
			s.free("a", "blue").by("victim")
			s.died("victim")
			s.free("x", "blue").done(at("blue", "10.0.0.9", 4))
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
		},
		"two releases at once, of which one finds nothing": func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			one, other := s.free("a", "blue"), s.free("a", "blue")
			one.done(at("blue", "10.0.0.1", 5))
			other.returns(journal.Nothing)
		},
		"together, by alternatives": func(s *story) {
			s.grant("delegate", "green").done(to("child", at("green", "10.0.1.64/26", 3)))
			s.holds("delegate", to("child", at("green", "10.0.1.64/26", 3)))
			s.grant("a", "blue|green child").done(at("green", "10.0.1.1", 5), at("child", "10.0.1.65", 6))
			s.holds("a", at("green", "10.0.1.1", 5))
			s.holds("a", at("child", "10.0.1.65", 6))
		},
		"delegated without an answer, held there, and looked at": func(s *story) {
			s.grant("delegate", "green").done()
			s.look("delegate", "green").done(to("child", at("green", "10.0.1.64/26", 3)))
			s.grant("a", "child").done(at("child", "10.0.1.64", 9))
			s.free("a", "child").done(at("child", "10.0.1.64", 9))
			s.free("delegate", "green").done()
		},
		"delegated, and delegated anew before the first one looked": func(s *story) {
			first := s.grant("delegate", "green")
			s.look("delegate", "green").done(to("child", at("green", "10.0.1.64/26", 3)))
			s.free("delegate", "green").done()
			s.grant("delegate", "green").done(to("child", at("green", "10.0.1.128/26", 5)))
			first.done(to("child", at("green", "10.0.1.128/26", 5)))
			s.free("delegate", "green").done()
		},
		"held where it is not handed out any more": func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.respec("blue", "10.0.0.128/25").done()
			s.pool("blue").Ranges = prefixes("10.0.0.128/25")
			s.holds("a", at("blue", "10.0.0.1", 5))
		},
		"granted while the ranges change": func(s *story) {
			s.finds("blue", "10.0.0.0/24")
			change := s.respec("blue", "10.0.2.0/24")
			s.finds("blue", "10.0.0.0/24")
			s.finds("blue", "10.0.2.0/24")
			s.grant("a", "blue").done(at("blue", "10.0.2.1", 5))
			change.done()
			s.pool("blue").Ranges = prefixes("10.0.2.0/25 10.0.2.128/25")
			s.holds("a", at("blue", "10.0.2.1", 5))
		},
		"the same address in two places without a network": func(s *story) {
			s.grant("a", "red").done(at("red", "10.0.0.1", 5))
			s.grant("a", "black").done(at("black", "10.0.0.1", 5))
			s.holds("a", at("red", "10.0.0.1", 5))
			s.holds("a", at("black", "10.0.0.1", 5))
			s.pool("red").Delegated, s.pool("black").Delegated = false, false
		},
		"in one block and then in another": func(s *story) {
			s.grant("a", "blocks").done(at("blocks", "10.0.0.1", 900))
			s.free("a", "blocks").done(at("blocks", "10.0.0.1", 900))
			s.grant("a", "blocks").done(at("blocks", "10.0.0.9", 2))
			s.free("a", "blocks").done(at("blocks", "10.0.0.9", 2))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			tell(s)
			s.sound(t)
		})
	}
}

// broken is a history that breaks a rule.
type broken struct {
	name  string
	tell  func(s *story)
	words string
	rules []journal.Rule
}

func one(rule journal.Rule) []journal.Rule { return []journal.Rule{rule} }

func runBroken(t *testing.T, cases []broken) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newStory()
			c.tell(s)
			s.breaks(t, c.words, c.rules...)
		})
	}
}

func TestLost(t *testing.T) {
	runBroken(t, []broken{
		{"not there in the end", func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
		}, "is not held in the end", one(journal.Lost)},
		{"not there in the end, though acknowledged three times", func(s *story) {
			for range 3 {
				s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			}
		}, "is not held in the end", one(journal.Lost)},
		{"granted anew after an unknown release, which was fenced before", func(s *story) {
			s.grant("x", "blue").done(at("blue", "10.0.0.9", 4))
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue").unknown()
			s.free("x", "blue").done(at("blue", "10.0.0.9", 4)) // nothing lands after it
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
		}, "is not held in the end", one(journal.Lost)},
		{"told that it holds nothing", func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.look("a", "blue").returns(journal.Nothing)
			s.holds("a", at("blue", "10.0.0.1", 5))
		}, "and then nothing", one(journal.Lost)},
		{"told that there is no pool", func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.grant("a", "blue").returns(journal.NoPool)
			s.holds("a", at("blue", "10.0.0.1", 5))
		}, "and then no pool", one(journal.Lost)},
		{"a delegated pool", func(s *story) {
			s.grant("delegate", "green").done()
		}, "something of \"delegate\"", one(journal.Lost)},
		{"ranges", func(s *story) {
			s.respec("blue", "10.0.2.0/24").done()
		}, "ranges of \"blue\" in the end are [10.0.0.0/24]", one(journal.Lost)},
		{"ranges, as a look finds", func(s *story) {
			s.respec("blue", "10.0.2.0/24").done()
			s.finds("blue", "10.0.0.0/24")
			s.pool("blue").Ranges = prefixes("10.0.2.0/24")
		}, "ranges of \"blue\" at the time are [10.0.0.0/24]", one(journal.Lost)},
	})
}

func TestShared(t *testing.T) {
	runBroken(t, []broken{
		{"in one pool", func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.grant("b", "blue").done(at("blue", "10.0.0.0/30", 6))
			s.free("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.holds("b", at("blue", "10.0.0.0/30", 6))
		}, "10.0.0.0/30 of \"b\"", one(journal.Shared)},
		{"in two pools of a network", func(s *story) {
			s.respec("green", "10.0.0.0/23").done()
			s.pool("green").Ranges = prefixes("10.0.0.0/23")
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.grant("a", "green").done(at("green", "10.0.0.1", 6))
			s.free("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "green").done(at("green", "10.0.0.1", 6))
		}, "in \"green\"", one(journal.Shared)},
		{"in a parent and its child", func(s *story) {
			s.grant("delegate", "green").done(to("child", at("green", "10.0.1.64/26", 3)))
			s.grant("a", "child").done(at("child", "10.0.1.64", 9))
			s.grant("b", "green").done(at("green", "10.0.1.64", 5))
			s.free("a", "child").done(at("child", "10.0.1.64", 9))
			s.free("delegate", "green").done()
			s.holds("b", at("green", "10.0.1.64", 5))
		}, "in \"green\"", []journal.Rule{journal.Shared, journal.Shared}},
		{"in the end, by grants that were not acknowledged", func(s *story) {
			s.grant("a", "blue").unknown()
			s.grant("b", "blue").unknown()
			s.holds("a", at("blue", "10.0.0.1", 5))
			s.holds("b", at("blue", "10.0.0.1", 6))
		}, "in the end", one(journal.Shared)},
	})
}

func TestChanged(t *testing.T) {
	runBroken(t, []broken{
		{"another address", func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.grant("a", "blue").done(at("blue", "10.0.0.2", 6))
			s.holds("a", at("blue", "10.0.0.2", 6))
		}, "and then 10.0.0.2/32", one(journal.Changed)},
		{"another generation", func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.look("a", "blue").done(at("blue", "10.0.0.1", 6))
			s.holds("a", at("blue", "10.0.0.1", 6))
		}, "without a release", []journal.Rule{journal.Changed, journal.Unasked}},
		{"freed is another one", func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue").done(at("blue", "10.0.0.2", 5))
		}, "10.0.0.2/32 of \"a\" in \"blue\" (generation 5) was freed", one(journal.Changed)},
		{"another one in the end", func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.grant("a", "blue").unknown()
			s.holds("a", at("blue", "10.0.0.2", 6))
		}, "in the end it holds", one(journal.Changed)},
		{"two in one place", func(s *story) {
			s.grant("a", "blocks").unknown()
			s.pool("blocks/0").Place, s.pool("blocks/1").Place = "blocks", "blocks"
			for i, name := range []string{"blocks/0", "blocks/1"} {
				h := at("blocks", []string{"10.0.0.1", "10.0.0.9"}[i], 1)
				h.Owner = "a"
				s.pool(name).Held, s.pool(name).Delegated = []journal.Found{{Holding: h}}, false
			}
		}, "10.0.0.9/32", one(journal.Changed)},
		{"two of the alternatives", func(s *story) {
			s.grant("a", "blue|green red").unknown()
			s.pool("red").Delegated = false
			s.holds("a", at("blue", "10.0.0.1", 5))
			s.holds("a", at("green", "10.0.1.1", 5))
			s.holds("a", at("red", "10.9.1.1", 5))
		}, "of alternatives", one(journal.Changed)},
	})
}

func TestTookEffect(t *testing.T) {
	runBroken(t, []broken{
		{"a grant, found in the end", func(s *story) {
			s.grant("a", "blue").fails()
			s.holds("a", at("blue", "10.0.0.1", 5))
		}, "10.0.0.1/32 of \"a\" in \"blue\" (generation 5) was granted", one(journal.TookEffect)},
		{"a grant, found by a look", func(s *story) {
			s.grant("a", "blue").fails()
			s.look("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue").done(at("blue", "10.0.0.1", 5))
		}, "was granted", one(journal.TookEffect)},
		{"a grant, as the generations tell", func(s *story) {
			s.grant("a", "blue").fails() // makes generation 5
			s.grant("b", "blue").done(at("blue", "10.0.0.2", 6))
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.holds("a", at("blue", "10.0.0.1", 5))
			s.holds("b", at("blue", "10.0.0.2", 6))
		}, "was granted", one(journal.TookEffect)},
		{"a claim over several pools", func(s *story) {
			s.grant("a", "blue green").fails()
			s.holds("a", at("blue", "10.0.0.1", 5))
			s.holds("a", at("green", "10.0.1.1", 6))
		}, "was granted", one(journal.TookEffect)},
		{"a release, not there in the end", func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue").fails()
		}, "is not held in the end", one(journal.TookEffect)},
		{"a release, granted anew", func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue").fails()
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 7))
			s.holds("a", at("blue", "10.0.0.1", 7))
		}, "without a release in between", one(journal.TookEffect)},
		{"a release, told nothing", func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue").fails()
			s.look("a", "blue").returns(journal.Nothing)
		}, "and then nothing", one(journal.TookEffect)},
		{"a change of ranges, in the end", func(s *story) {
			s.respec("blue", "10.0.2.0/24").fails()
			s.pool("blue").Ranges = prefixes("10.0.2.0/24")
		}, "are [10.0.2.0/24]", one(journal.TookEffect)},
		{"a change of ranges, found by a look", func(s *story) {
			s.respec("blue", "10.0.2.0/24").fails()
			s.finds("blue", "10.0.2.0/24")
			s.respec("blue", "10.0.0.0/24").done()
		}, "are [10.0.2.0/24]", one(journal.TookEffect)},
		{"a change of ranges, seen by a grant", func(s *story) {
			s.respec("blue", "10.0.2.0/24").fails()
			s.grant("a", "blue").done(at("blue", "10.0.2.1", 5))
			s.free("a", "blue").done(at("blue", "10.0.2.1", 5))
			s.respec("blue", "10.0.0.0/24").done()
		}, "10.0.2.1/32 of \"a\" in \"blue\" (generation 5) was granted", one(journal.TookEffect)},
	})
}

func TestPartial(t *testing.T) {
	runBroken(t, []broken{
		{"a killed claim", func(s *story) {
			s.grant("a", "blue green")
			s.holds("a", at("blue", "10.0.0.1", 5))
		}, "1 of 2 parts", one(journal.Partial)},
		{"an unknown release", func(s *story) {
			s.grant("a", "blue green").done(at("blue", "10.0.0.1", 5), at("green", "10.0.1.1", 6))
			s.free("a", "blue green").unknown()
			s.holds("a", at("blue", "10.0.0.1", 5))
		}, "1 of 2 parts", one(journal.Partial)},
		{"a release that finds one part", func(s *story) {
			s.grant("a", "blue green").unknown()
			s.free("a", "blue green").done(at("blue", "10.0.0.1", 5))
		}, "1 of 2 parts", one(journal.Partial)},
		{"a delegated pool of nothing", func(s *story) {
			s.pool("child")
		}, "nothing is delegated to it", one(journal.Partial)},
		{"a delegation without a pool", func(s *story) {
			s.grant("delegate", "green").unknown()
			s.holds("delegate", to("child", at("green", "10.0.1.64/26", 3)))
		}, "which is not there", one(journal.Partial)},
	})
}

func TestOutside(t *testing.T) {
	runBroken(t, []broken{
		{"of the ranges", func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.2.1", 5))
			s.holds("a", at("blue", "10.0.2.1", 5))
		}, "no ranges of \"blue\"", one(journal.Outside)},
		{"of the ranges since they changed", func(s *story) {
			s.respec("blue", "10.0.0.128/25").done()
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.pool("blue").Ranges = prefixes("10.0.0.128/25")
		}, "no ranges of \"blue\"", one(journal.Outside)},
		{"of the ranges of the parent since they changed", func(s *story) {
			s.grant("delegate", "green").done(to("child", at("green", "10.0.1.64/26", 3)))
			s.respec("green", "10.0.1.128/25").done()
			s.grant("a", "child").done(at("child", "10.0.1.64", 9))
			s.free("a", "child").done(at("child", "10.0.1.64", 9))
			s.free("delegate", "green").done()
			s.pool("green").Ranges = prefixes("10.0.1.128/25")
		}, "no ranges of \"green\"", one(journal.Outside)},
		{"of what is delegated", func(s *story) {
			s.grant("delegate", "green").done(to("child", at("green", "10.0.1.64/26", 3)))
			s.holds("delegate", to("child", at("green", "10.0.1.64/26", 3)))
			s.grant("a", "child").done(at("child", "10.0.1.1", 9))
			s.holds("a", at("child", "10.0.1.1", 9))
		}, "is delegated to \"child\"", one(journal.Outside)},
	})
}

func TestUnasked(t *testing.T) {
	runBroken(t, []broken{
		{"granted to nobody who asked", func(s *story) {
			s.look("a", "blue").returns(journal.Nothing)
			s.holds("a", at("blue", "10.0.0.1", 5))
		}, "10.0.0.1/32 of \"a\"", one(journal.Unasked)},
		{"freed, and held in the end", func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.holds("a", at("blue", "10.0.0.1", 5))
		}, "is held in the end", one(journal.Unasked)},
		{"freed, and told again", func(s *story) {
			s.grant("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.look("a", "blue").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue").unknown()
		}, "is there again", one(journal.Unasked)},
	})
}

func TestMalformed(t *testing.T) {
	runBroken(t, []broken{
		{"a part without an answer", func(s *story) {
			s.grant("a", "blue green").done(at("blue", "10.0.0.1", 5))
			s.free("a", "blue green").unknown()
		}, "0 answers about [green]", one(journal.Malformed)},
	})
}
