package kea_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/adopt/internal/adopttest"
	"github.com/ipalloc/ipalloc/adopt/kea"
)

// Written by Kea 2.2.0: of two leases one has ended since, one was declined and one was deleted; and what its commands
// lease4-get-all and lease6-get-all answered, the first while both leases lasted.
func TestFiles(t *testing.T) {
	const node1 = "10.0.0.21/32 hw:02:01:00:00:00:01 hardware=02:01:00:00:00:01 hostname=node-1 subnet-id=1 "
	adopttest.RequireFile(t, kea.Read, "testdata/kea-leases4.csv", node1+"(line 3)")
	adopttest.RequireFile(t, kea.Read, "testdata/lease4-get-all.json",
		"10.0.0.20/32 id:01020100000000 until 2026-11-22T22:17:11Z client-id=01020100000000 "+
			"hardware=02:01:00:00:00:00 subnet-id=1 (lease 1)",
		node1+"(lease 2)")
	for file, ats := range map[string][2]string{
		"testdata/kea-leases6.csv": {"line 2", "line 3"}, "testdata/lease6-get-all.json": {"lease 1", "lease 2"},
	} {
		adopttest.RequireFile(t, kea.Read, file,
			"2001:db8::121/128 duid:00030001020100000001/na/00000001 until 2026-11-23T02:29:07Z "+
				"duid=00030001020100000001 hostname=node-1. ia=na iaid=00000001 subnet-id=1 ("+ats[0]+")",
			"2001:db8:f000::/56 duid:00030001020100000001/pd/00000002 until 2026-11-23T02:29:07Z "+
				"duid=00030001020100000001 ia=pd iaid=00000002 subnet-id=1 ("+ats[1]+")")
	}
}

const (
	header = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,hostname,state\n"
	// dump is in the form in which kea-admin lease-dump of some versions writes a database.
	dump = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n" +
		"10.0.0.5,020100000005,01020100000005,3600,1795385831,7,0,0,a&#x2cb,default,\n" +
		"10.0.0.6,020100000006,,3600,1795385831,7,0,0,,declined,\n"
	// agent is the answer of the control agent, of which one server has nothing.
	agent = `[{"result": 3, "text": "0 IPv4 lease(s) found.", "arguments": {"leases": []}},
		{"arguments": {"leases": [{"ip-address":
			"10.0.0.5", "hw-address": "02:01:00:00:00:05", "state": 0, "cltt": 1795382231,
		"valid-lft": 3600, "subnet-id": 7}], "other": [1]}, "result": 0, "text": "", "more": {}}]`
)

func TestOtherForms(t *testing.T) {
	for text, want := range map[string][]string{
		dump: {"10.0.0.5/32 id:01020100000005 until 2026-11-22T22:17:11Z client-id=01020100000005 " +
			"hardware=02:01:00:00:00:05 hostname=a,b subnet-id=7 (line 2)"},
		agent: {"10.0.0.5/32 hw:02:01:00:00:00:05 until 2026-11-22T22:17:11Z hardware=02:01:00:00:00:05 " +
			"subnet-id=7 (lease 1)"},
		header:                      nil,
		`{"result": 3, "text": ""}`: nil,
	} {
		require.Equal(t, want, adopttest.Texts(t, kea.Read(strings.NewReader(text))))
	}
}

func TestWrongFilesAreRefused(t *testing.T) {
	const row = "10.0.0.1,02:01:00:00:00:05,,3600,1795385831,1,,0\n"
	adopttest.RequireErrors(t, kea.Read, header+row, map[string]string{
		"":                                   "the names of the columns are missing",
		"address,state\n":                    `"address,state" has no column "valid_lifetime"`,
		header + "10.0.0.1,a\n":              "line 2: it has fewer fields",
		header + "10.0.0,,,1,1,1,,0":         "line 2: cannot parse",
		header + row + "10.0.0.2,,,1,1,1,,0": "line 3: the lease of 10.0.0.2 has no client",
		header + "10.0.0.2,zz,,1,1,1,,0":     `"zz" is no hardware address`,
		header + "10.0.0.2,,zz,1,1,1,,0":     `"zz" is not hexadecimal digits`,
		header + "10.0.0.2,02:01:00:00:00:05,,x,1,1,,0":                                      `"x" is no lifetime`,
		header + "10.0.0.2,02:01:00:00:00:05,,1,-1,1,,0":                                     "-1 is no time in seconds",
		header + "2001:db8::1,,,1,1,1,,0":                                                    "is no IPv4 address",
		"address,duid,iaid,lease_type,valid_lifetime,expire,state\n2001:db8::1,00,x,0,1,1,0": `"x" is no IAID`,
		"address,duid,iaid,lease_type,valid_lifetime,expire,state\n2001:db8::1,00,1,9,1,1,0": `"9" is no type`,
		"address,duid,iaid,lease_type,valid_lifetime,expire,state\n2001:db8::,00,1,2,1,1,0":  "line 2: cannot parse",
		`{"result": 1, "text":
			"unknown command"}`: `"unknown command": the command failed`,
		`{"result": 0}`:                "there is no list of leases",
		`{"arguments": {"leases": 7}}`: `"7" is not a list`,
		`{"arguments": [}`:             "byte ",
		`[`:                            "unexpected EOF",
		`{"arguments": {"leases": [{"ip-address":
			"10.0.0.1", "state": 0, "valid-lft": 1}]}}`: "lease 1: the lease of 10.0.0.1 has no client",
		`{"arguments": {"leases": [{"cltt": -1}]}}`: "lease 1: cltt -1 and valid-lft 0 are no times",
	})
	adopttest.RequireErrors(t, kea.Read, agent, nil)
}

func FuzzRead(f *testing.F) {
	adopttest.Fuzz(f, kea.Read, []string{
		"testdata/kea-leases4.csv", "testdata/kea-leases6.csv",
		"testdata/lease4-get-all.json", "testdata/lease6-get-all.json",
	}, dump, agent)
}
