package postgres

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ipalloc/ipalloc/internal/storeurl"
)

// OpenURL opens the store as [Open] does, in the database that a URL names:
//
//	postgres://USER:PASSWORD@HOST:PORT/DATABASE?schema=SCHEMA
//
// The scheme may be postgresql too. The URL is one of libpq, with any of its parameters, and with one more: schema is
// [Options.Schema], which opts must not have.
//
// Errors: those of [CheckURL] and Open. None has the URL, whose Redacted method returns it without the password.
func OpenURL(ctx context.Context, u *url.URL, opts *Options) (*Store, error) {
	if err := CheckURL(u); err != nil {
		return nil, err
	}
	var options Options
	if opts != nil {
		options = *opts
	}
	if options.Schema != "" {
		return nil, storeurl.Invalid("the schema %q is in the options, want it in the URL", options.Schema)
	}
	var connString string
	connString, options.Schema = splitURL(u)
	return Open(ctx, connString, &options)
}

// CheckURL returns an error that wraps store.ErrInvalid if [OpenURL] would refuse the URL, and names what is wrong. It
// connects to no server. Parameters that pgx does not know are left to the server.
func CheckURL(u *url.URL) error {
	if u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Opaque != "" {
		return storeurl.Invalid("want postgres://USER:PASSWORD@HOST:PORT/DATABASE, with parameters of libpq")
	}
	if query, err := url.ParseQuery(u.RawQuery); err != nil {
		return storeurl.Invalid("the parameters of the URL cannot be parsed: %v", err)
	} else if len(query["schema"]) > 1 {
		return storeurl.Invalid(`the URL has the parameter "schema" twice`)
	}
	connString, schema := splitURL(u)
	if _, err := (&Options{Schema: schema}).schema(); err != nil {
		return err
	}
	if _, err := pgxpool.ParseConfig(connString); err != nil {
		return storeurl.Invalid("want postgres://USER:PASSWORD@HOST:PORT/DATABASE, with parameters of libpq: %s", cause(err))
	}
	return nil
}

// splitURL returns what pgx connects with, and the schema.
func splitURL(u *url.URL) (connString, schema string) {
	query := u.Query()
	schema = query.Get("schema")
	query.Del("schema")
	other := *u
	other.RawQuery = query.Encode()
	return other.String(), schema
}

// cause is what pgx says of a URL that it cannot parse, without the URL.
func cause(err error) string {
	text := err.Error()
	if refused := new(pgconn.ParseConfigError); errors.As(err, &refused) {
		text = text[strings.LastIndex(text, "`: ")+1:]
	}
	return strings.TrimPrefix(text, ": ")
}
