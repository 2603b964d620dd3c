// Package storeurl reads what the URLs of several drivers' stores have in common: their parameters, and the files of
// TLS.
package storeurl

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
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

// CheckTLS returns an error if only one of the parameters cert and key is there.
func CheckTLS(parameters url.Values) error {
	if parameters.Has("cert") != parameters.Has("key") {
		return Invalid("the URL has only one of the parameters cert and key, want both or none")
	}
	return nil
}

// TLS reads the files that the parameters name: ca has the certificates to trust, cert and key are the client's own. It
// returns nil if there is neither ca nor cert. An error names the parameter.
func TLS(parameters url.Values) (*tls.Config, error) {
	if !parameters.Has("ca") && !parameters.Has("cert") {
		return nil, nil //nolint:nilnil // a nil config is how a client is told to do without TLS
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca := parameters.Get("ca"); ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("the parameter ca of the URL: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, Invalid("the parameter ca of the URL: %s has no certificate", ca)
		}
	}
	if parameters.Has("cert") {
		pair, err := tls.LoadX509KeyPair(parameters.Get("cert"), parameters.Get("key"))
		if err != nil {
			return nil, fmt.Errorf("the parameters cert and key of the URL: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
