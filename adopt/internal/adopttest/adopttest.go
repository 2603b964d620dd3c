// Package adopttest has what the tests of the readers share.
package adopttest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/pool"
)

// Text is an entry as a line of text: prefixes, owner, end, scope and labels, as far as it has them, and the place.
func Text(e adopt.Entry) string {
	var parts []string
	for _, p := range e.Prefixes {
		parts = append(parts, p.String())
	}
	parts = []string{strings.Join(parts, ","), e.Owner}
	if !e.Ends.IsZero() {
		parts = append(parts, "until "+e.Ends.Format(time.RFC3339))
	}
	if e.Scope != "" {
		parts = append(parts, "scope "+e.Scope)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Labels)) {
		parts = append(parts, name+"="+e.Labels[name])
	}
	return fmt.Sprintf("%s (%s)", strings.Join(parts, " "), e.At)
}

// Texts are the entries as lines of text.
func Texts(t testing.TB, entries adopt.Entries) []string {
	t.Helper()
	var texts []string
	for e, err := range entries {
		require.NoError(t, err)
		texts = append(texts, Text(e))
	}
	return texts
}

// Reader is the function Read of a reader.
type Reader func(io.ReadSeeker) adopt.Entries

// RequireFile requires that a file has these entries, each time that it is read.
func RequireFile(t *testing.T, read Reader, file string, want ...string) {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	entries := read(f)
	require.Equal(t, want, Texts(t, entries))
	require.Equal(t, want, Texts(t, entries), "again")
	for _, err := range entries {
		require.NoError(t, err)
		break // which ends the reading, and is no error
	}
}

// errDisk is an error of reading.
var errDisk = errors.New("disk on fire")

// broken is a source that fails after its text.
type broken struct{ io.ReadSeeker }

func (b broken) Read(p []byte) (int, error) {
	n, err := b.ReadSeeker.Read(p)
	if errors.Is(err, io.EOF) {
		err = errDisk
	}
	return n, err
}

// RequireErrors requires that each text is refused with an error that says so, is of one line, and comes last; and that
// an error of reading a right text is told as it is.
func RequireErrors(t *testing.T, read Reader, right string, wrong map[string]string) {
	t.Helper()
	for text, want := range wrong {
		err := last(read(strings.NewReader(text)))
		require.ErrorIs(t, err, pool.ErrInvalid, "%q", text)
		require.ErrorContains(t, err, want, "%q", text)
		require.NotContains(t, err.Error(), "\n")
	}
	require.NoError(t, last(read(strings.NewReader(right))))
	err := last(read(broken{strings.NewReader(right)}))
	require.ErrorIs(t, err, errDisk)
	require.NotErrorIs(t, err, pool.ErrInvalid)
}

// last returns the error of the entries; nil if there is none.
func last(entries adopt.Entries) (last error) {
	for _, err := range entries {
		last = err
	}
	return last
}

// Fuzz reads any bytes, and requires that all entries can be claimed, that an error says what is wrong, and that the
// same bytes read again give the same. The seeds are files and texts.
func Fuzz(f *testing.F, read Reader, files []string, texts ...string) {
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(text)
	}
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		entries := read(bytes.NewReader(text))
		first, err := collect(t, entries)
		again, errAgain := collect(t, entries)
		require.Equal(t, first, again)
		require.Equal(t, err == nil, errAgain == nil)
	})
}

func collect(t *testing.T, entries adopt.Entries) (texts []string, failed error) {
	for e, err := range entries {
		require.NoError(t, failed, "an error is the last")
		if err != nil {
			require.ErrorIs(t, err, pool.ErrInvalid)
			require.Equal(t, adopt.Entry{}, e)
			require.Less(t, len(err.Error()), 2000)
			failed = err
			continue
		}
		RequireClaim(t, e)
		texts = append(texts, Text(e))
	}
	return texts, failed
}

// RequireClaim requires that an entry has an owner, masked prefixes without IPv4-mapped ones, and a place.
func RequireClaim(t testing.TB, e adopt.Entry) {
	t.Helper()
	require.NotEmpty(t, e.Owner)
	require.NotEmpty(t, e.At)
	require.NotEmpty(t, e.Prefixes)
	for _, p := range e.Prefixes {
		require.Equal(t, p.Masked(), p)
		require.True(t, p.IsValid())
		require.False(t, p.Addr().Is4In6())
	}
}
