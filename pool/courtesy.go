package pool

import (
	"context"
	"time"
)

const (
	// A handle gives away what every so many releases free; one of at least the first number, and at most the second.
	oftenGiven, seldomGiven = 4, 64
	// A pause is so many times as long as a commit took, within bounds.
	commitsInPause              = 4
	shortestPause, longestPause = time.Millisecond, 100 * time.Millisecond
)

// courtesy is how the line of a handle shares what is released with the lines of other handles, of which it knows
// nothing.
//
// As a rule a release is committed together with the grant that it makes possible, so others never see it. Now and then
// the handle commits releases only, and pauses, so that others can have what is free. If afterwards all of that is
// still there, nobody else waits, and the next time comes later; else it comes soon. The more claims wait in the line,
// the less often, because what is bounded is how long others wait compared with these.
type courtesy struct {
	every   int           // of so many releases, one begins a pause
	kept    int           // releases since the last pause
	given   int           // releases with which that began
	judging bool          // whether they were given to anybody is not known yet
	pace    time.Duration // how long the last commit of releases took
}

// due reports whether it is time for a pause in a line with so many claims.
func (c *courtesy) due(claims int) bool {
	return c.kept >= min(max(c.every, oftenGiven), max(claims*oftenGiven, oftenGiven))
}

// pause is how long others may take what is free.
func (c *courtesy) pause() time.Duration {
	return min(max(commitsInPause*c.pace, shortestPause), longestPause)
}

// judge learns from how many claims were granted after a pause.
func (c *courtesy) judge(granted int) {
	if !c.judging {
		return
	}
	c.judging = false
	if granted < c.given {
		c.every = oftenGiven
	} else {
		c.every = min(2*max(c.every, oftenGiven), seldomGiven)
	}
}

// isCourteous reports whether what is about to be released is to be given away.
func (g *leading) isCourteous() bool {
	l := g.line
	l.mu.Lock()
	defer l.mu.Unlock()
	return g.pool.name != "" && len(l.releases) > 0 && len(l.claims) > 0 && l.courtesy.due(len(l.claims))
}

// giveAway releases without granting, and leaves what is free to others for a time. It releases nothing more meanwhile:
// each commit of this handle would be in the way of theirs.
func (g *leading) giveAway() {
	l := g.line
	l.courtesy.kept, l.courtesy.judging = 0, true
	defer l.stir()
	g.try(false)
	if g.ended() {
		return
	}
	pause, end := context.WithTimeout(g.own.ctx, l.courtesy.pause())
	defer end()
	<-pause.Done()
}
