package csv_test

import (
	"testing"

	"github.com/ipalloc/ipalloc/adopt/csv"
	"github.com/ipalloc/ipalloc/adopt/internal/adopttest"
)

// A table that ipalloc owners -o csv has printed, and one of a spreadsheet.
func TestFiles(t *testing.T) {
	adopttest.RequireFile(t, csv.Read, "testdata/owners.csv",
		"192.0.2.1/32 vm-7 tenant=acme (line 2)",
		"192.0.2.2/32,2001:db8::1/128 vm-8 until 2026-11-23T10:00:00Z scope team-a rack=1 tenant=acme (line 3)")
	adopttest.RequireFile(t, csv.Read, "testdata/spreadsheet.csv",
		"192.0.2.10/32 web-1 rack=r1 (line 2)",
		"192.0.2.11/32,2001:db8::11/128 web-2 until 2026-11-23T10:00:00Z rack=r2 (line 3)",
		"192.0.2.64/28 lab, east (line 4)")
}

func TestWrongFilesAreRefused(t *testing.T) {
	const header = "owner,address,expires,labels\n"
	adopttest.RequireErrors(t, csv.Read, header+"a,10.0.0.1,,\n", map[string]string{
		"":                             "line 1: the names of the columns are missing",
		"owner\n":                      `there is no column "prefixes"`,
		"address\n":                    `there is no column "owner"`,
		"owner,address,mac\n":          `"mac" is no column, want of: owner, prefixes`,
		"owner,address,prefix\n":       `the column "prefixes" is there twice`,
		header + "a,10.0.0.1\n":        "line 2: wrong number of fields",
		header + "a,10.0.0.1/24,,\n":   "line 2: cannot parse",
		header + "a,10.0.0.300,,\n":    "line 2: cannot parse",
		header + "a,,,\n":              "line 2: there is no address",
		header + ",10.0.0.1,,\n":       "line 2: there is no owner",
		header + "\na,10.0.0.1,now,\n": `line 3: "now" is no time, want one such as`,
		header + "a,10.0.0.1,,x\n":     `the label "x" is not NAME=VALUE`,
		header + "a,\"10.0.0.1,,\n":    `line 2: extraneous or missing`,
	})
}

func FuzzRead(f *testing.F) {
	adopttest.Fuzz(f, csv.Read, []string{"testdata/owners.csv", "testdata/spreadsheet.csv"})
}
