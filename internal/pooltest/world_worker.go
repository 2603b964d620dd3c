package pooltest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/journal"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// worldJob is the environment variable that tells a child of a [World] who it is.
const worldJob = "POOLTEST_WORLD"

// job is what such a child is told.
type job struct {
	Folder  string // of the journals
	Process string
	Seed    uint64
	// Calls is after how many calls it closes the store and opens it again; 0 for never.
	Calls int
	// CommitTimeout is for its pools.
	CommitTimeout time.Duration
}

// worldGoroutines is how many goroutines of each process make calls.
const worldGoroutines = 4

// WorkInWorld is what a child of a [World] does in the store that open opens, until its standard input ends or it is
// killed. Opening may fail; it is then tried again.
func WorkInWorld(t *testing.T, open func(ctx context.Context) (store.Store, error)) {
	t.Helper()
	var j job
	require.NoError(t, json.Unmarshal([]byte(os.Getenv(worldJob)), &j))
	book, err := journal.Create(j.Folder, j.Process)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	for round := uint64(0); ctx.Err() == nil; round++ {
		opening, cancel := context.WithTimeout(ctx, worldPatience)
		s, err := open(opening)
		cancel()
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		require.NoError(t, j.work(ctx, newClient(book, s, &pool.Options{CommitTimeout: j.CommitTimeout}), round))
		_ = s.Close() // what was acknowledged before must be there in any case
	}
	require.NoError(t, book.Close())
}

// worldPatience is how long a call may take that has no short deadline.
const worldPatience = 5 * time.Second

// work makes calls until the context ends, or as many as the job says.
func (j job) work(ctx context.Context, c *client, round uint64) error {
	failed := make(chan error, worldGoroutines)
	var wg sync.WaitGroup
	for g := range uint64(worldGoroutines) {
		w := worker{client: c, random: rand.New(rand.NewPCG(j.Seed, round*worldGoroutines+g))}
		wg.Go(func() {
			for n := 0; ctx.Err() == nil && (j.Calls == 0 || n < j.Calls/worldGoroutines); n++ {
				if err := w.act(); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// worker is a goroutine that makes calls, one after the other.
type worker struct {
	*client
	random *rand.Rand
}

// act does one thing. Some things are cut short. The end of the process does not cut anything short.
func (w *worker) act() error {
	patience := worldPatience
	if w.random.IntN(4) == 0 {
		patience = time.Duration(w.random.Int64N(int64(8 * time.Millisecond)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch n := w.random.IntN(100); {
	case n < 35:
		return w.plain(ctx)
	case n < 60:
		return w.together(ctx)
	case n < 85:
		return w.inBlocks(ctx)
	case n < 90:
		name := worldRoots[w.random.IntN(len(worldRoots))]
		if w.random.IntN(3) == 0 {
			return w.look(ctx, name)
		}
		return w.respec(ctx, name, w.random.IntN(2) == 0, w.random.IntN(3) > 0)
	case n < 95:
		return w.delegate(ctx)
	case n < 98:
		return w.retire(ctx)
	default:
		w.forget()
		return nil
	}
}

// plain is about one owner of one pool.
func (w *worker) plain(ctx context.Context) error {
	name := []string{worldBlue, worldGreen, worldChild}[w.random.IntN(3)]
	claim := worldClaim("plain", w.random.IntN(worldPlainOwners))
	switch n := w.random.IntN(10); {
	case n < 4:
		return w.allocate(ctx, name, claim)
	case n < 8:
		return w.release(ctx, name, claim.Owner)
	case n < 9:
		return w.renew(ctx, name, claim.Owner)
	default:
		return w.get(ctx, name, claim.Owner)
	}
}

// together is about one owner of several pools.
func (w *worker) together(ctx context.Context) error {
	n := w.random.IntN(worldTogetherOwners)
	claim, parts := worldClaim("together", n), worldParts(n)
	if w.random.IntN(2) == 0 {
		return w.allocateTogether(ctx, claim, parts)
	}
	return w.releaseTogether(ctx, claim.Owner, parts)
}

// inBlocks is about one owner of the blocks of a writer.
func (w *worker) inBlocks(ctx context.Context) error {
	writer := worldWriters[w.random.IntN(len(worldWriters))]
	claim := worldClaim("block", w.random.IntN(worldBlockOwners))
	switch n := w.random.IntN(20); {
	case n < 10:
		return w.allocateInBlock(ctx, writer, claim)
	case n < 19:
		return w.releaseInBlock(ctx, writer, claim.Owner)
	default:
		return w.giveBack(ctx, writer)
	}
}

// retire releases all that is held in the child, and then deletes it, if nobody was granted something there meanwhile.
func (w *worker) retire(ctx context.Context) error {
	for n := range worldPlainOwners {
		if err := w.release(ctx, worldChild, worldClaim("plain", n).Owner); err != nil {
			return err
		}
	}
	for n := range worldTogetherOwners {
		if parts := worldParts(n); fmt.Sprint(parts[len(parts)-1]) == fmt.Sprint([]string{worldChild}) {
			if err := w.releaseTogether(ctx, worldClaim("together", n).Owner, parts); err != nil {
				return err
			}
		}
	}
	return w.remove(ctx)
}
