package postgres_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
)

func TestCheckURL(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"postgres://db.example/name", ""},
		{"postgresql://u:secret@a:5432,b:5433/name?sslmode=disable&schema=x&pool_max_conns=4", ""},
		{"mysql://db.example/name", "want postgres://"},
		{"postgres:name", "want postgres://"},
		{"postgres://u:secret@db.example/name?sslmode=wrong", "sslmode"},
		{"postgres://u:secret@db.example/name?pool_max_conns=many", "pool_max_conns"},
		{"postgres://u:secret@db.example/name?schema=a&schema=b", `the parameter "schema" twice`},
		{"postgres://u:secret@db.example/name?schema=%00", "the schema name"},
		{"postgres://u:secret@db.example/name?schema=%zz", "cannot be parsed"},
	} {
		u, err := url.Parse(c.text)
		require.NoError(t, err)
		err = postgres.CheckURL(u)
		if c.want == "" {
			require.NoError(t, err, c.text)
			continue
		}
		require.ErrorIs(t, err, store.ErrInvalid, c.text)
		require.ErrorContains(t, err, c.want, c.text)
		require.NotContains(t, err.Error(), "secret")
		_, err = postgres.OpenURL(t.Context(), u, nil)
		require.ErrorContains(t, err, c.want, c.text)
	}
}

func TestOpenURL(t *testing.T) {
	u, err := url.Parse(sharedServer(t).url("postgres"))
	require.NoError(t, err)
	query := u.Query()
	query.Set("schema", newSchema())
	u.RawQuery = query.Encode()

	_, err = postgres.OpenURL(t.Context(), u, &postgres.Options{MustExist: true})
	require.ErrorIs(t, err, postgres.ErrNoSchema)
	_, err = postgres.OpenURL(t.Context(), u, &postgres.Options{Schema: "x"})
	require.ErrorContains(t, err, `the schema "x" is in the options`)
	s, err := postgres.OpenURL(t.Context(), u, nil)
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, query.Get("schema"), s.Schema())
}
