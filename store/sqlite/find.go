package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ipalloc/ipalloc/store"
)

// findSQL returns the last row that begins at an address or before it. Of those that begin at the address, only the
// ones that are no longer than so many bits count.
const findSQL = "SELECT prefix, name FROM address WHERE kind = 'allocation' AND pool = ?1 AND family = ?2 " +
	"AND first <= ?3 AND (first < ?3 OR bits <= ?4) ORDER BY first DESC, bits DESC LIMIT 1"

// Find implements [store.Store]. Cost: one look-up if the last prefix that begins no later than addr contains it, as
// always where no prefix of the pool contains another one and addr is held; otherwise a few, at most as many as addr
// has bits.
func (s *Store) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
	key := store.Key{Kind: store.KindAllocation, Pool: pool}
	if err := key.Validate(); err != nil {
		return store.Record{}, err
	}
	var record store.Record
	err := s.with(ctx, func(c *conn) error {
		return c.snapshot(func() (err error) {
			var found bool
			if key.Name, found, err = c.longest(pool, addr.WithZone("")); err != nil {
				return err
			}
			if found {
				record, err = c.record(key)
			}
			switch {
			case err != nil:
				return err
			case !found:
				return fmt.Errorf("%w: no allocation of pool %q contains %v", store.ErrNotFound, pool, addr)
			case record.Revision == 0:
				return fmt.Errorf("%w: table address has %v at record %v, which does not exist", ErrCorrupt, addr, key)
			}
			return nil
		})
	})
	return record, err
}

// snapshot runs do, whose statements see the file as it was at the first of them.
func (c *conn) snapshot(do func() error) error {
	if err := c.do("BEGIN"); err != nil {
		return err
	}
	err := do()
	return errors.Join(err, c.do("ROLLBACK"))
}

// longest returns the name of an allocation of pool that has the longest prefix which contains addr.
//
// It looks for the last prefix that begins no later than addr. If that does not contain addr, then any prefix that does
// contains both addr and that one; so it is no longer than the bits that these have in common, and begins no later than
// at addr masked to these bits.
func (c *conn) longest(pool string, addr netip.Addr) (name string, found bool, err error) {
	if !addr.IsValid() || addr.Is4In6() {
		return "", false, nil
	}
	for bits := addr.BitLen(); ; {
		from, err := addr.Prefix(bits)
		if err != nil {
			return "", false, err
		}
		var text string
		args := []any{pool, familyOf(addr), sortable(from.Addr()), bits}
		switch err := c.one(findSQL, args, &text, &name); {
		case errors.Is(err, sql.ErrNoRows):
			return "", false, nil
		case err != nil:
			return "", false, err
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return "", false, fmt.Errorf("%w: table address: %w", ErrCorrupt, err)
		}
		if prefix.Contains(addr) {
			return name, true, nil
		}
		common := commonBits(addr, prefix.Addr())
		if common >= bits {
			return "", false, fmt.Errorf("%w: table address has %v at %v", ErrCorrupt, prefix, from.Addr())
		}
		bits = common
	}
}
