package mysql_test

import (
	"io/fs"
	"net/url"
	"testing"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/mysql"
)

func TestCheckURL(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"mysql://db.example", ""},
		{"mysql://u:secret@[::1]:3307/lab?tls=skip-verify", ""},
		{"mysql://u:secret@db.example/lab?tls=true&ca=a&cert=b&key=c", ""},
		{"mysql://u@/lab?socket=/run/mysqld.sock", ""},
		{"postgres://db.example", "want mysql://"},
		{"mysql:lab", "want mysql://"},
		{"mysql:///lab", "want mysql://"},
		{"mysql://db.example?socket=/run/mysqld.sock", "want mysql://"},
		{"mysql://db.example#x", `fragment "x"`},
		{"mysql://db.example?charset=latin1", `unknown parameter "charset"`},
		{"mysql://db.example?tls=maybe", `the parameter tls of the URL is "maybe"`},
		{"mysql://db.example?tls=preferred&ca=a", `want true beside ca`},
		{"mysql://db.example?cert=a", "only one of the parameters cert and key"},
		{"mysql://u:secret@db.example/lab%20", "the schema name"},
	} {
		u, err := url.Parse(c.text)
		require.NoError(t, err)
		err = mysql.CheckURL(u)
		if c.want == "" {
			require.NoError(t, err, c.text)
			continue
		}
		require.ErrorIs(t, err, store.ErrInvalid, c.text)
		require.ErrorContains(t, err, c.want, c.text)
		require.NotContains(t, err.Error(), "secret")
		_, err = mysql.OpenURL(t.Context(), u, nil)
		require.ErrorContains(t, err, c.want, c.text)
	}
	_, err := mysql.OpenURL(t.Context(), &url.URL{Scheme: "mysql", Host: "db.example", RawQuery: "ca=/nowhere/ca"}, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "parameter ca")
}

func TestOpenURL(t *testing.T) {
	u := serverURL(t, "url/s")
	_, err := mysql.OpenURL(t.Context(), u, &mysql.Options{MustExist: true})
	require.ErrorIs(t, err, mysql.ErrNoSchema)
	_, err = mysql.OpenURL(t.Context(), u, &mysql.Options{Schema: "x"})
	require.ErrorContains(t, err, `the schema "x" is in the options`)
	s, err := mysql.OpenURL(t.Context(), u, nil)
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, "url/s", s.Schema())
}

// serverURL is the URL of a schema in the server that tests share.
func serverURL(t *testing.T, schema string) *url.URL {
	t.Helper()
	config, err := driver.ParseDSN(sharedServer(t).dsn())
	require.NoError(t, err)
	return &url.URL{
		Scheme: "mysql", User: url.UserPassword(config.User, config.Passwd), Host: config.Addr, Path: "/" + schema,
	}
}
