package etcd_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store/etcd"
)

// FuzzEscape checks that any part of a key comes back, and is text without slashes and control characters.
func FuzzEscape(f *testing.F) {
	for _, part := range []string{"", "pod-7", "a/b", "100%", "%2F", "\"\n\t ", "日本", "\u202e", "\ufffd", "%"} {
		f.Add(part)
	}
	f.Fuzz(func(t *testing.T, part string) {
		if !utf8.ValidString(part) {
			return
		}
		text := etcd.Escape(part)
		require.False(t, strings.ContainsAny(text, "/ \n\x00"), "%q", text)
		back, err := etcd.Unescape(text)
		require.NoError(t, err)
		require.Equal(t, part, back)
	})
}
