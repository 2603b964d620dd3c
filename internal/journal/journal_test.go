package journal_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/journal"
)

func TestRecord(t *testing.T) {
	folder := t.TempDir()
	j, err := journal.Create(folder, "one")
	require.NoError(t, err)
	_, err = journal.Create(folder, "one")
	require.ErrorIs(t, err, os.ErrExist)
	intent := journal.Intent{Op: journal.Grant, Call: "Allocate", Owner: "a", Parts: [][]string{{"blue"}}, Asks: "any"}
	held := journal.Holding{Place: "blue", Owner: "a", Prefixes: prefixes("10.0.0.1"), Generation: 7}
	result := journal.Result{Outcome: journal.Done, Held: []journal.Holding{held}}
	require.NoError(t, j.Record(intent, func() journal.Result {
		processes, err := journal.ReadAll(folder)
		require.NoError(t, err)
		calls, err := journal.Calls(processes...)
		require.NoError(t, err)
		require.Len(t, calls, 1, "the intent is kept before the call")
		require.Equal(t, int64(journal.Forever), calls[0].Return)
		return result
	}))
	require.NoError(t, j.Died("two"))
	require.NoError(t, j.Close())

	processes, err := journal.ReadAll(folder)
	require.NoError(t, err)
	calls, err := journal.Calls(processes...)
	require.NoError(t, err)
	require.Equal(t, []journal.Call{
		{Process: "one", Number: 1, Begin: 1, Return: 2, Intent: intent, Result: result},
		{
			Process: "one", Number: 2, Begin: 3, Return: journal.Forever,
			Intent: journal.Intent{Op: journal.Died, Owner: "two"},
		},
	}, calls)
	require.Error(t, j.Died("three"), "it is closed")
	require.Error(t, j.Record(intent, func() journal.Result {
		t.Error("called without a record of it")
		return result
	}))
}

// TestClock has many goroutines take stamps from several clocks of one file.
func TestClock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	var mu sync.Mutex
	var all []int64
	var wg sync.WaitGroup
	for range 4 {
		clock, err := journal.OpenClock(path)
		require.NoError(t, err)
		t.Cleanup(func() { clock.Close() })
		for range 4 {
			wg.Go(func() {
				last := int64(0)
				for range 200 {
					at, err := clock.Now()
					if err != nil || at <= last {
						t.Errorf("%d after %d: %v", at, last, err)
						return
					}
					last = at
					mu.Lock()
					all = append(all, at)
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	slices.Sort(all)
	require.Len(t, slices.Compact(all), 4*4*200, "each stamp is given once")
}

const line = `{"process":"p","call":1,"at":1,` +
	`"intent":{"op":"free","call":"Release","owner":"a","parts":[["blue"]]}}` + "\n"

// TestTorn reads what a process leaves that was killed while it wrote.
func TestTorn(t *testing.T) {
	for end := range len(line) {
		events, err := journal.Read(strings.NewReader(line + line[:end]))
		require.NoError(t, err)
		require.Len(t, events, 1, "the last line is torn after %d bytes", end)
	}
	events, err := journal.Read(strings.NewReader(line + line))
	require.NoError(t, err)
	require.Len(t, events, 2)
	for _, text := range []string{line[:20] + "\n" + line, "\n", line[:len(line)-1] + line, `{"op":"free"}` + "\n"} {
		_, err := journal.Read(strings.NewReader(text))
		require.Error(t, err, "%s", text)
	}
}

func TestCallsRefuses(t *testing.T) {
	intent, result := &journal.Intent{Op: journal.Free}, &journal.Result{Outcome: journal.Done}
	for name, events := range map[string][]journal.Event{
		"neither":      {{Call: 1, At: 1}},
		"both":         {{Call: 1, At: 1, Intent: intent, Result: result}},
		"begins twice": {{Call: 1, At: 1, Intent: intent}, {Call: 1, At: 2, Intent: intent}},
		"returns twice": {
			{Call: 1, At: 1, Intent: intent}, {Call: 1, At: 2, Result: result}, {Call: 1, At: 3, Result: result},
		},
		"never begins":   {{Call: 1, At: 1, Result: result}},
		"returns before": {{Call: 1, At: 2, Intent: intent}, {Call: 1, At: 1, Result: result}},
	} {
		_, err := journal.Calls(events)
		require.Error(t, err, name)
	}
}
