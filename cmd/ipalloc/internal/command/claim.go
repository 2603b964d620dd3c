package command

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// claimFlags are the flags of the commands that claim.
type claimFlags struct {
	exact  []string
	family string
	dual   bool
	bits   int
	band   string
	ttl    time.Duration
	scope  string
	share  string
	labels []string
}

// add adds the flags that a reservation has too.
func (f *claimFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringArrayVar(&f.exact, "exact", nil, "this address or prefix and no other; may be repeated")
	flags.StringVar(&f.family, "family", "", "IPv4 or IPv6; otherwise the pool's primary family")
	flags.BoolVar(&f.dual, "dual", false, "one of each family")
	flags.IntVar(&f.bits, "bits", 0, "prefix length; 0 means the pool's own, which mostly is a single address")
	flags.StringVar(&f.band, "band", "", "name of the band to take it from")
	flags.StringVar(&f.scope, "scope", "", "on whose behalf")
	labelFlag(c, &f.labels, "label to store with it, NAME=VALUE; may be repeated")
}

// claim returns the claim that the flags describe.
func (f *claimFlags) claim(owner string) (pool.Claim, error) {
	claim := pool.Claim{Owner: owner, TTL: f.ttl, Scope: f.scope, Share: f.share}
	var err error
	if claim.Labels, err = parseLabels(f.labels); err != nil {
		return pool.Claim{}, err
	}
	if f.dual {
		claim.Policy = pool.RequireDualStack
	}
	if len(f.exact) > 0 {
		if f.family != "" || f.dual || f.bits != 0 || f.band != "" {
			return pool.Claim{}, usagef("--exact goes with none of --family, --dual, --bits and --band")
		}
		claim.Requests, err = exactRequests(f.exact)
		return claim, err
	}
	request := pool.Request{Bits: f.bits, Band: f.band}
	if f.family != "" {
		if err := request.Family.UnmarshalText([]byte(f.family)); err != nil || f.dual {
			return pool.Claim{}, usagef("the family is %q, want IPv4 or IPv6, and not with --dual", f.family)
		}
	}
	claim.Requests = []pool.Request{request}
	return claim, nil
}

func exactRequests(texts []string) ([]pool.Request, error) {
	var requests []pool.Request
	for _, text := range texts {
		prefix, err := parsePrefix(text)
		if err != nil {
			return nil, err
		}
		requests = append(requests, pool.Request{Exact: prefix})
	}
	return requests, nil
}

func (a *app) allocate() *cobra.Command {
	var flags claimFlags
	var dryRun bool
	c := &cobra.Command{
		Use: "allocate POOL OWNER", Short: "Give an owner an address or a prefix", Args: arguments(2, 2),
		Long: `Give an owner an address or a prefix of a pool. An owner that holds what is asked
for already gets the same answer. Owners of one scope that name the same share key
hold the same address together.`,
		Example: `  ipalloc allocate pods vm-7
  ipalloc allocate pods vm-8 --dual --ttl 1h --label tenant=acme
  ipalloc allocate nodes node-1 --bits 26 --dry-run
  ipalloc allocate services shop/http --share shop`,
		ValidArgsFunction: a.completePool,
		RunE: func(c *cobra.Command, args []string) error {
			return a.claim(c.Context(), &flags, args, func(ctx context.Context, p *pool.Pool, claim pool.Claim) (
				pool.Allocation, error) {
				if dryRun {
					return p.DryRun(ctx, claim)
				}
				return p.Allocate(ctx, claim)
			})
		},
	}
	flags.add(c)
	c.Flags().DurationVar(&flags.ttl, "ttl", 0, "how long the lease lasts; 0 means for good")
	c.Flags().StringVar(&flags.share, "share", "", "share key: those that name it hold the same")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only show what the owner would get")
	return c
}

func (a *app) reserve() *cobra.Command {
	var flags claimFlags
	c := &cobra.Command{
		Use: "reserve POOL OWNER", Short: "Keep an address for an owner", Args: arguments(2, 2),
		Long: `Keep an address or a prefix of a pool for an owner, whether the owner holds it or
not. Nobody else gets it until unreserve.`,
		Example:           "  ipalloc reserve pods printer --exact 192.0.2.20",
		ValidArgsFunction: a.completePool,
		RunE: func(c *cobra.Command, args []string) error {
			return a.claim(c.Context(), &flags, args, func(ctx context.Context, p *pool.Pool, claim pool.Claim) (
				pool.Allocation, error) {
				return p.Reserve(ctx, claim)
			})
		},
	}
	flags.add(c)
	return c
}

// claim does what the pool is to do with the claim of the flags, and prints what is granted.
func (a *app) claim(ctx context.Context, flags *claimFlags, args []string,
	do func(context.Context, *pool.Pool, pool.Claim) (pool.Allocation, error),
) error {
	if err := a.checkFormat(); err != nil {
		return err
	}
	claim, err := flags.claim(args[1])
	if err != nil {
		return err
	}
	return a.withPool(ctx, args[0], func(p *pool.Pool) error {
		granted, err := do(ctx, p, claim)
		if err != nil {
			return err
		}
		return a.printHolding(holdingOf(args[0], granted))
	})
}

// withPool opens the store and the pool.
func (a *app) withPool(ctx context.Context, name string, do func(p *pool.Pool) error) error {
	return a.withStore(ctx, false, func(db store.Store) error {
		p, err := pool.Open(ctx, db, name, nil)
		if err != nil {
			return err
		}
		return do(p)
	})
}
