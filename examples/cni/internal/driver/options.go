package driver

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// CheckQuery returns an error if the URL has a parameter of another name than these, or one twice.
func CheckQuery(u *url.URL, known ...string) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("its parameters cannot be parsed: %w", err)
	}
	for name, values := range query {
		if !slices.Contains(known, name) {
			return fmt.Errorf("it has the unknown parameter %q, want one of: %s", name, strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return fmt.Errorf("it has the parameter %q twice", name)
		}
	}
	return nil
}
