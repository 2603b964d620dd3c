// Package storeurl reads what the URLs of several drivers' stores have in common: their parameters. Package storetls
// reads the files of TLS that some of them name, so that a program whose stores have none has no TLS in it.
package storeurl

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/internal/sentinel"
)

// Invalid returns an error that wraps store.ErrInvalid.
func Invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", sentinel.ErrInvalid, fmt.Sprintf(format, args...))
}

// Parameters returns the parameters of a URL. Each must have one of the known names, a value, and be there once.
func Parameters(u *url.URL, known ...string) (url.Values, error) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, Invalid("the parameters of the URL cannot be parsed: %v", err)
	}
	for name, values := range query {
		switch {
		case len(known) == 0:
			return nil, Invalid("the URL has the unknown parameter %q, want none", name)
		case !slices.Contains(known, name):
			return nil, Invalid("the URL has the unknown parameter %q, want one of: %s", name, strings.Join(known, ", "))
		case len(values) > 1:
			return nil, Invalid("the URL has the parameter %q twice", name)
		case values[0] == "":
			return nil, Invalid("the parameter %q of the URL is empty", name)
		}
	}
	return query, nil
}
