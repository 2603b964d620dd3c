package pool

import (
	"context"
	"iter"
	"net/netip"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// home is where a pool lives: in memory, or in a store. Beside it nothing asks which.
type home interface {
	// lead brings an op to its end: it waits for the op's turn, with the pools that take part, and runs attempts.
	lead(o *op) error
	// reading returns the context for what an attempt reads that the op leads.
	reading(o *op) (context.Context, context.CancelFunc)

	// What follows is for attempts, of whoever leads.

	// state is the pool as it is known; nil if it is not.
	state() *state
	// revision is that of the state, and created when the pool was.
	revision() int64
	created() time.Time
	// ready makes the state known. again tells that all ops of the attempt were in the last one too. It reports whether
	// an answer is certain only after a commit, even one that changes nothing, and whether that must be a fence.
	ready(ctx context.Context, again bool) (proof, fence bool, err error)
	// refresh makes the state the present one.
	refresh(ctx context.Context) error
	// reread makes the state the present one, trusting nothing that is remembered.
	reread(ctx context.Context) error
	// blank returns the state that the pool would have if nothing were held, also if its free space cannot be read.
	blank(ctx context.Context) (*state, error)
	// isAt reports whether the present revision is this one.
	isAt(ctx context.Context, revision int64) (bool, error)
	// spaceRecords iterates over the keys of all records of free space.
	spaceRecords(ctx context.Context) iter.Seq2[store.Key, error]
	// unchanged reports whether the state is still the present one, and makes it so.
	unchanged(ctx context.Context) (bool, error)
	// holding returns what the owner holds or has held last, nil if nothing. It reports whether the store was asked since
	// the state became known. If certain it always is; else the answer may come from memory.
	holding(ctx context.Context, owner string, certain bool) (h *holding, looked bool, err error)
	// fresh returns a zero holding for what is planned, and room for its prefix if it has one.
	fresh() (h *holding, room []netip.Prefix)
	// mustLook reports whether the store must be asked before a task for the owner can be planned: what is remembered is
	// no answer to a claim, and what is not known cannot be changed.
	mustLook(owner string, claims bool) bool
	// mayLook reports whether it is likely that an owner who claims holds something that this handle does not know of.
	mayLook(owner string) bool
	// lookUp asks the store what the owners hold, so that holding knows it. If it fails, holding asks again.
	lookUp(ctx context.Context, owners []string)
	// ending iterates over all records that end, the earliest first.
	ending(ctx context.Context) iter.Seq2[*holding, error]
	// aside iterates over the records that cool down beside what their owner holds.
	aside(ctx context.Context) iter.Seq2[*holding, error]
	// at returns the record that the address belongs to, but for those that are kept aside; nil if there is none.
	at(ctx context.Context, addr netip.Addr) (*holding, error)
	// all iterates over all records that hold addresses.
	all(ctx context.Context) iter.Seq2[*holding, error]
	// each is all, but returns the errors of do. What do gets is its own until it returns, and what that refers to for
	// ever: nothing is allocated for each record beside that.
	each(ctx context.Context, do func(*holding) error) error
	// audited is all, in spite of what is damaged: it goes on after an error, and trusts no index of the store.
	audited(ctx context.Context) iter.Seq2[*holding, error]
	// withOrphans is err, which says that there is no pool; it says more if there are records of the pool.
	withOrphans(ctx context.Context, err error) error
	// beside reports whether pools with this home and with the other one can be changed together.
	beside(other home) bool
	// neighbour returns a handle of another pool in the same place.
	neighbour(name string) (*Pool, error)
	// network returns a network in the same place, as it is at present.
	network(ctx context.Context, name string) (*network, error)
	// commit makes true what an attempt has planned. All its pools have the same kind of home.
	commit(a *attempt) error
	// learn takes from the error of a commit what is in it about this pool, and reports whether there was anything.
	learn(ctx context.Context, err error) bool
	// takesHistory returns an error unless pools of that spec may be here, with the history that it asks for.
	takesHistory(spec Spec) error
	// limit says how many tasks an attempt may have at most; batch is that number.
	limit(tasks int)
	batch() int

	// What follows is for everybody at any time.

	// get returns the owner's record, or an error that wraps ErrNotFound.
	get(ctx context.Context, owner string) (*holding, error)
	// find returns the record that the address belongs to.
	find(ctx context.Context, addr netip.Addr) (*holding, error)
	// info describes the pool as it is at present.
	info(ctx context.Context) (Info, error)
	// records iterates over all records that hold addresses; without aside, it leaves out those that cool down beside
	// what their owner holds. In memory they are as of one moment.
	records(ctx context.Context, aside bool) iter.Seq2[*holding, error]
	// labelled iterates over the records with a label that hold addresses, but for those that cool down beside what their
	// owner holds, in an order of their owners that is always the same. In memory they are as of one moment.
	labelled(ctx context.Context, l store.Labelled) iter.Seq2[*holding, error]
	// current is the present revision, or nearly so.
	current(ctx context.Context) (int64, error)
	// wait returns when the pool has another revision, or at the time until, unless that is zero. After an
	// error there is no point in waiting on.
	wait(ctx context.Context, revision int64, until time.Time) error
}
