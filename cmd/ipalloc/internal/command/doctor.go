package command

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// check is one line of what doctor finds.
type check struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Result string `json:"result"`
}

func (a *app) doctor() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Check the store and all its pools", Args: arguments(0, 0),
		Long: `Check the store: what it is, whether it can be opened, how long that and a round
trip take, how old the pools are, and whether each agrees with what its owners
hold, as verify does. What is wrong is what repair would mend. It changes nothing. If anything is
wrong, the exit code is 5. Only a release of this program that knows the format of
the store can open it.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			began := a.now()
			return a.withStore(c.Context(), false, func(db store.Store) error {
				return a.examine(c.Context(), db, a.now().Sub(began))
			})
		},
	}
}

func (a *app) examine(ctx context.Context, db store.Store, opened time.Duration) error {
	checks := []check{
		{"program", true, programVersion()},
		{"store", true, fmt.Sprintf("%s, opened in %v", a.storeVersion(ctx, db), opened.Round(time.Microsecond))},
	}
	trips, err := a.roundTrips(ctx, db)
	if err != nil {
		return err
	}
	ages, err := a.ages(ctx, db)
	if err != nil {
		return err
	}
	checks = append(checks, trips, ages)
	reports, err := verifyPools(ctx, db, nil)
	if err != nil {
		return err
	}
	for _, r := range reports {
		result := r.Summary
		if n := len(r.OutOfRange); n > 0 {
			result += fmt.Sprintf("; %d out of range", n)
		}
		checks = append(checks, check{"pool " + r.Pool, r.OK, result})
	}
	t := table{columns: []string{"check", "ok", "result"}}
	for _, c := range checks {
		t.add(c.Check, strconv.FormatBool(c.OK), c.Result)
	}
	if err := a.print(checks, t); err != nil {
		return err
	}
	return wrongIn(reports)
}

// storeVersion names what the store is. Not everybody who may use one may ask that.
func (a *app) storeVersion(ctx context.Context, db store.Store) string {
	scheme, _, _ := strings.Cut(a.store, ":")
	switch version, err := store.Version(ctx, db); {
	case err != nil:
		return fmt.Sprintf("%s of unknown version (%v)", scheme, err)
	case version != "":
		return fmt.Sprintf("%s (%s)", scheme, version)
	}
	return scheme
}

func programVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown version"
	}
	return fmt.Sprintf("%s, %s", info.Main.Version, info.GoVersion)
}

// roundTrips reads a pool that cannot be there a few times.
func (a *app) roundTrips(ctx context.Context, db store.Store) (check, error) {
	const times = 9
	key := store.Key{Kind: store.KindPool, Pool: "no pool of ipalloc doctor"}
	var took []time.Duration
	for range times {
		began := a.now()
		if _, err := db.Get(ctx, key); err != nil && !errors.Is(err, store.ErrNotFound) {
			return check{}, err
		}
		took = append(took, a.now().Sub(began).Round(time.Microsecond))
	}
	slices.Sort(took)
	return check{"round trip", true, fmt.Sprintf("median %v, longest %v, of %d", took[times/2], took[times-1], times)}, nil
}

// ages says how many pools there are, and since when.
func (a *app) ages(ctx context.Context, db store.Store) (check, error) {
	infos, err := listPools(ctx, db)
	switch {
	case errors.Is(err, pool.ErrCorrupt):
		return check{"pools", false, err.Error()}, nil
	case len(infos) == 0:
		return check{"pools", true, "none"}, err
	}
	oldest := slices.MinFunc(infos, func(i, j pool.Info) int { return i.Created.Compare(j.Created) })
	return check{"pools", true, fmt.Sprintf("%d; the oldest is %q, created %s, %v ago", len(infos), oldest.Name,
		timeText(oldest.Created), a.now().Sub(oldest.Created).Round(time.Second))}, nil
}
