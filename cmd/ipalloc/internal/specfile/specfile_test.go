package specfile_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cmd/ipalloc/internal/specfile"
	"github.com/ipalloc/ipalloc/pool"
)

const whole = `ranges:
  - 192.0.2.0/24
  - 2001:db8::/64
exclude: [192.0.2.9]
subnets:
  - {prefix: 192.0.2.0/24, gateway: 192.0.2.1}
  - prefix: 2001:db8::/64
ipv4:
  bits: 32
  allocateReserved: false
cooldown: 1m
quotas:
  - {label: tenant, addresses: "100"}
  - percent: 20
labels:
  zone: eu-1
  since: 2024-05-06 # a day, which YAML takes for a time
  open: "true"
  version: 1.10
cordoned: true
`

func TestParse(t *testing.T) {
	spec, err := specfile.Parse([]byte(whole))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"zone": "eu-1", "since": "2024-05-06", "open": "true", "version": "1.10"},
		spec.Labels)
	require.Equal(t, 20, spec.Quotas[1].Percent)
	require.True(t, spec.Cordoned)

	asJSON, err := json.Marshal(spec)
	require.NoError(t, err)
	asYAML, err := specfile.FromJSON(asJSON)
	require.NoError(t, err)
	again, err := specfile.Parse(asYAML)
	require.NoError(t, err, string(asYAML))
	require.True(t, spec.Equal(again), string(asYAML))
	require.Equal(t, spec.Labels, again.Labels)
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "no YAML document",
		"ranges: [":                     "no YAML document",
		"ranges: []\n---\nranges: []":   "more than one YAML document",
		"range: [10.0.0.0/8]":           `the member "range" is not known`,
		"ranges: [10.0.0.0/8]\nranges:": "ranges",
		"ranges: [10.0.0.0/33]":         "10.0.0.0/33",
		"ranges: [&a 10.0.0.0/8, *a]":   "line 1: an alias, *a",
		"ranges: 10.0.0.0/8":            "ranges",
		"{ranges: [10.0.0.0/8], labels: {[a]: b}}": "line 1: the name of a member is no text",
		"exclude: [10.0.0.0/8]":                    "famil",
		"- 10.0.0.0/8":                             "array",
	} {
		_, err := specfile.Parse([]byte(text))
		require.ErrorIs(t, err, pool.ErrInvalid, text)
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(`{"ranges": ["10.0.0.0/24"], "bands": [{"name": "a", "ranges": ["10.0.0.4"], "exclusive": true}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		spec, err := specfile.Parse(text)
		if err != nil {
			require.ErrorIs(t, err, pool.ErrInvalid)
			return
		}
		asJSON, err := json.Marshal(spec)
		require.NoError(t, err)
		asYAML, err := specfile.FromJSON(asJSON)
		require.NoError(t, err)
		again, err := specfile.Parse(asYAML)
		require.NoError(t, err, string(asYAML))
		require.True(t, spec.Equal(again), string(asYAML))
	})
}
