package main

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEverythingIsTold(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	for _, want := range []string{
		`"Name":"pool.Allocate"`, `"Name":"pool.commit"`, `"Value":"exhausted"`,
		`"Name":"ipalloc_addresses"`, `"Name":"ipalloc_calls_total"`, `"Name":"ipalloc_commit_duration_seconds"`,
		`pool "pods": IPv4: raised: used 90 % (cleared at 75 %); 1 of 10 addresses are free`,
	} {
		require.Contains(t, out.String(), want)
	}
}

// full is a writer that takes nothing.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestErrorsAreReturned(t *testing.T) {
	require.ErrorContains(t, run(t.Context(), full{}), "disk full")
}
