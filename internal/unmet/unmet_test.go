package unmet_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/unmet"
)

// outcome is a test that notes how it ended.
type outcome struct {
	testing.TB
	how string
}

func (o *outcome) Helper()           {}
func (o *outcome) Skip(args ...any)  { o.how = "skipped" }
func (o *outcome) Fatal(args ...any) { o.how = "failed" }

func TestSkip(t *testing.T) {
	for _, test := range []struct {
		ci   string
		err  error
		want string
	}{
		{"", nil, ""}, {"true", nil, ""}, {"", errors.ErrUnsupported, "skipped"}, {"true", errors.ErrUnsupported, "failed"},
	} {
		t.Setenv("CI", test.ci)
		var got outcome
		unmet.Skip(&got, test.err)
		require.Equal(t, test.want, got.how, "%+v", test)
	}
}
