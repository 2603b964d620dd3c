// Package input has what the readers of package adopt share: errors with a place, lines, and files of which the last
// record of a key counts.
package input

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// MaxLine is the largest length of a line in bytes, and of other things that are read at once: 1 MiB.
const MaxLine = 1 << 20

// Invalid returns an error that says where the source breaks a rule.
func Invalid(at, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %w", pool.ErrInvalid, at, fmt.Errorf(format, args...))
}

// Quote is the text in quotes, cut if it is too long for a message.
func Quote(text string) string {
	const most = 80
	if len(text) > most {
		return fmt.Sprintf("%.*q…", most, text)
	}
	return fmt.Sprintf("%q", text)
}

// AtLine is the place of a line.
func AtLine(n int) string { return fmt.Sprintf("line %d", n) }

// Lines returns the lines of a text, from its beginning, with their numbers from 1 on.
func Lines(r io.ReadSeeker, yield func(n int, line string) error) error {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, MaxLine)
	n := 0
	for lines.Scan() {
		n++
		if err := yield(n, lines.Text()); err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return Invalid(AtLine(n+1), "it is longer than %d bytes", MaxLine)
	}
	return lines.Err()
}

// Begins reports whether the first character of a text that is no space is one of these.
func Begins(r io.ReadSeeker, with string) (bool, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	in := bufio.NewReader(r)
	for {
		switch b, err := in.ReadByte(); {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, err
		case !strings.ContainsRune(" \t\r\n", rune(b)):
			return strings.IndexByte(with, b) >= 0, nil
		}
	}
}

// errStop ends a walk whose consumer wants no more.
var errStop = errors.New("stop")

// Stream makes a sequence of a function that calls yield for each entry, and returns the errors of yield.
func Stream(walk func(yield func(adopt.Entry) error) error) adopt.Entries {
	return func(yield func(adopt.Entry, error) bool) {
		err := walk(func(e adopt.Entry) error {
			if !yield(e, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(adopt.Entry{}, err)
		}
	}
}

// Last makes a sequence of a file in which the last record of each prefix counts. It walks twice: first to learn which
// is the last, and again to make entries of these; make returns false for one that is no longer in use. So it holds a
// number for each prefix, and no records.
func Last[R any](
	walk func(yield func(key netip.Prefix, record R) error) error,
	entry func(key netip.Prefix, record R) (e adopt.Entry, inUse bool, err error),
) adopt.Entries {
	return Stream(func(yield func(adopt.Entry) error) error {
		last := map[netip.Prefix]int64{}
		var n int64
		err := walk(func(key netip.Prefix, _ R) error {
			n++
			last[key] = n
			return nil
		})
		if err != nil {
			return err
		}
		n = 0
		return walk(func(key netip.Prefix, record R) error {
			if n++; last[key] != n {
				return nil
			}
			e, inUse, err := entry(key, record)
			if err != nil || !inUse {
				return err
			}
			return yield(e)
		})
	})
}

// Group makes one entry of those with the same owner and world, with all their prefixes, in the order of the owners.
// Labels are those of the first. It holds all entries.
func Group(entries iter.Seq2[adopt.Entry, error], world func(adopt.Entry) string) adopt.Entries {
	return Stream(func(yield func(adopt.Entry) error) error {
		type key struct{ world, owner string }
		held := map[key]*adopt.Entry{}
		for e, err := range entries {
			if err != nil {
				return err
			}
			k := key{world(e), e.Owner}
			if first := held[k]; first != nil {
				first.Prefixes = append(first.Prefixes, e.Prefixes...)
				continue
			}
			held[k] = &e
		}
		all := make([]*adopt.Entry, 0, len(held))
		worlds := make(map[*adopt.Entry]string, len(held))
		for k, e := range held {
			slices.SortFunc(e.Prefixes, netipx.ComparePrefix)
			all = append(all, e)
			worlds[e] = k.world
		}
		slices.SortFunc(all, func(a, b *adopt.Entry) int {
			return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(worlds[a], worlds[b]))
		})
		for _, e := range all {
			if err := yield(*e); err != nil {
				return err
			}
		}
		return nil
	})
}

// Prefix parses an address, or a prefix without host bits.
func Prefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return cidr.ParsePrefix(text)
	}
	addr, err := cidr.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}
