// Package storetls reads the files of TLS that the URLs of stores name.
package storetls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"

	"github.com/ipalloc/ipalloc/internal/storeurl"
)

// Check returns an error if only one of the parameters cert and key is there.
func Check(parameters url.Values) error {
	if parameters.Has("cert") != parameters.Has("key") {
		return storeurl.Invalid("the URL has only one of the parameters cert and key, want both or none")
	}
	return nil
}

// Config reads the files that the parameters name: ca has the certificates to trust, cert and key are the client's own.
// It returns nil if there is neither ca nor cert. An error names the parameter.
func Config(parameters url.Values) (*tls.Config, error) {
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
			return nil, storeurl.Invalid("the parameter ca of the URL: %s has no certificate", ca)
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
