package pool

import (
	"context"
	"time"
)

const (
	// A pause comes after so many releases, or after so many for each claim in the line if that is less.
	givenEvery, givenForEach = 16, 4
	// A pause is so many times as long as a commit takes, within bounds.
	commitsInPause              = 2
	shortestPause, longestPause = time.Millisecond, 100 * time.Millisecond
	// knockAfter is how often a line sees the pool change, and gets nothing, before it lets the others know.
	knockAfter = 32
	// For so many changes by others a line that has been granted something lets those go first that have not.
	politeFor = 32
)

// courtesy is how the line of a handle shares what is released with the lines of other handles, which it does not see.
//
// As a rule a release is committed together with the grant that it makes possible, so others never see it. But if
// another handle has changed the pool, the handle now and then commits releases only, and pauses, so that others can
// have what is free. A line that gets nothing changes no pool. So after some changes in vain it knocks: it commits the
// head as it is. A handle that is alone therefore never pauses, and what is bounded is how many commits of others a
// line has to see before it gets something.
//
// When others change the pool, all lines try at once, and one is first. Were that by chance, a line would now and then
// be unlucky many times in a row. So a line waits a little before it tries, the longer the less has happened since it
// was granted something.
type courtesy struct {
	kept   int           // releases since the last pause
	pace   time.Duration // how long a commit of releases takes, with the wait for it
	vain   int           // how often the pool was changed by others since a claim was granted
	polite int           // for how many more such changes the line lets others go first
}

// granted notes that a claim was granted.
func (c *courtesy) granted() { c.vain, c.polite = 0, politeFor }

// lets is how long the line lets others go first after a change that they made: at most half the time of a commit.
func (c *courtesy) lets() time.Duration {
	if c.polite == 0 {
		return 0
	}
	c.polite--
	return c.pace * time.Duration(c.polite) / (2 * politeFor)
}

// due reports whether it is time for a pause in a line with so many claims.
func (c *courtesy) due(claims int) bool { return c.kept >= min(givenEvery, givenForEach*claims) }

// pause is how long others may take what is free.
func (c *courtesy) pause() time.Duration {
	return min(max(commitsInPause*c.pace, shortestPause), longestPause)
}

// learn takes note of how long a commit took. A single one says little.
func (c *courtesy) learn(took time.Duration) {
	if c.pace == 0 {
		c.pace = took
	}
	c.pace += (took - c.pace) / 8
}

// isCourteous reports whether what is about to be released is to be given away.
func (g *leading) isCourteous() bool {
	s, ok := g.pool.home.(*stored)
	if !ok || !s.met.Load() {
		return false
	}
	l := g.line
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.releases) > 0 && len(l.claims) > 0 && l.courtesy.due(len(l.claims))
}

// giveAway releases without granting, and leaves what is free to others for a time. It releases nothing more meanwhile:
// each commit of this handle would be in the way of theirs.
func (g *leading) giveAway() {
	l := g.line
	l.courtesy.kept = 0
	g.pool.home.(*stored).met.Store(false)
	defer l.stir()
	g.try(false)
	if g.ended() {
		return
	}
	pause, end := context.WithTimeout(g.own.ctx, l.courtesy.pause())
	defer end()
	<-pause.Done()
}

// knock lets other handles know that claims wait here, if they have waited through many changes. It does not matter if
// that fails: there will be more changes.
func (g *leading) knock() {
	if g.pool.name == "" || g.line.courtesy.vain < knockAfter {
		return
	}
	g.line.courtesy.vain = 0
	_ = exclusively(g.own.ctx, func(a *attempt) error {
		d, err := a.present(g.pool)
		if err == nil {
			d.touch = true
		}
		return err
	}, g.pool)
}
