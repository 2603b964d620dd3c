package goipam_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/adopt/goipam"
	"github.com/ipalloc/ipalloc/adopt/internal/adopttest"
)

// Written by go-ipam 1.14.14: by Dump, and by its storage in a local file with two namespaces.
func TestFiles(t *testing.T) {
	of := func(namespace string) []string {
		const child = `(prefix "10.30.0.0/24")`
		return []string{
			"10.20.0.1/32 10.20.0.1 kind=address " + namespace + `prefix=10.20.0.0/28 (prefix "10.20.0.0/28")`,
			"10.20.0.2/32 10.20.0.2 kind=address " + namespace + `prefix=10.20.0.0/28 (prefix "10.20.0.0/28")`,
			"10.20.0.3/32 10.20.0.3 kind=address " + namespace + `prefix=10.20.0.0/28 (prefix "10.20.0.0/28")`,
			"10.20.0.9/32 10.20.0.9 kind=address " + namespace + `prefix=10.20.0.0/28 (prefix "10.20.0.0/28")`,
			"10.30.0.0/24 10.30.0.0/24 kind=prefix " + namespace + "prefix=10.30.0.0/16 " + child,
			"10.30.0.1/32 10.30.0.1 kind=address " + namespace + "prefix=10.30.0.0/24 " + child,
			"2001:db8:20::1/128 2001:db8:20::1 kind=address " + namespace +
				`prefix=2001:db8:20::/120 (prefix "2001:db8:20::/120")`,
		}
	}
	dump := of("")
	adopttest.RequireFile(t, goipam.Read, "testdata/dump.json",
		dump[6], dump[4], dump[5], dump[0], dump[1], dump[2], dump[3])
	adopttest.RequireFile(t, goipam.Read, "testdata/file.json", append(of("namespace=blue "), of("namespace=root ")...)...)
}

// A prefix as a row of a database has it.
const row = `{"Cidr": "10.0.0.0/31", "ParentCidr": "10.0.0.0/24", "Namespace": "", "AvailableChildPrefixes": {},
	"ChildPrefixLength": 0, "IsParent": false, "IPs": {"10.0.0.0": true, "10.0.0.1": false}, "Version": 1}`

func TestRow(t *testing.T) {
	require.Equal(t, []string{`10.0.0.0/31 10.0.0.0/31 kind=prefix prefix=10.0.0.0/24 (prefix "10.0.0.0/31")`},
		adopttest.Texts(t, goipam.Read(strings.NewReader(row))))
	require.Empty(t, adopttest.Texts(t, goipam.Read(strings.NewReader("{}"))))
	require.Empty(t, adopttest.Texts(t, goipam.Read(strings.NewReader("[]"))))
}

func TestWrongFilesAreRefused(t *testing.T) {
	adopttest.RequireErrors(t, goipam.Read, row, map[string]string{
		"":                          "unexpected EOF",
		"7":                         `"7" is not an object`,
		"[7]":                       "byte ",
		`{"root": 7}`:               `"7" is not an object`,
		`[{"Cidr": "x"}]`:           `prefix "x": cannot parse "x"`,
		`[{"Cidr": "10.0.0.1/24"}]`: "no host bits",
		`[{"Cidr": "10.0.0.0/24", "ParentCidr": "x"}]`:         "its parent: cannot parse",
		`[{"Cidr": "10.0.0.0/24", "IPs": {"x": true}}]`:        `cannot parse "x"`,
		`[{"Cidr": "10.0.0.0/24", "IPs": {"10.0.1.1": true}}]`: "10.0.1.1 is not in it",
		`{"Cidr": 7}`: "cannot unmarshal number",
	})
}

func FuzzRead(f *testing.F) {
	adopttest.Fuzz(f, goipam.Read, []string{"testdata/dump.json", "testdata/file.json"}, row)
}
