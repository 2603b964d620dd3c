package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/config"
)

func TestFieldErrorMessages(t *testing.T) {
	for want, e := range map[string]config.FieldError{
		"is empty":                    {Rule: "is empty"},
		`a.b: "x" is wrong, want y`:   {Field: "a.b", Value: `"x"`, Rule: "is wrong", Want: "y"},
		`f.yaml:3: a.b: "x" is wrong`: {File: "f.yaml", Line: 3, Field: "a.b", Value: `"x"`, Rule: "is wrong"},
		"f.yaml: is empty":            {File: "f.yaml", Rule: "is empty"},
		"a: is wrong":                 {Line: 3, Field: "a", Rule: "is wrong"},
	} {
		assert.Equal(t, want, e.Error())
	}
}

func TestFieldErrors(t *testing.T) {
	cause := errors.New("cause")
	a, b := &config.FieldError{Rule: "a", Err: cause}, &config.FieldError{Rule: "b"}
	err := fmt.Errorf("wrapped: %w", errors.Join(a, errors.New("other"), fmt.Errorf("once more: %w", b)))
	assert.Equal(t, []*config.FieldError{a, b}, config.FieldErrors(err))
	assert.Equal(t, []*config.FieldError{b}, config.FieldErrors(b))
	assert.Empty(t, config.FieldErrors(nil))
	assert.Empty(t, config.FieldErrors(cause))
	assert.ErrorIs(t, err, cause)
}

// A route and DNS are written as CNI has them.
func TestCNIText(t *testing.T) {
	table := 5
	for want, value := range map[string]any{
		`{"dst":"0.0.0.0/0"}`: config.Route{Destination: netip.MustParsePrefix("0.0.0.0/0")},
		`{"dst":"2001:db8::1/64","gw":"2001:db8::2","mtu":1400,"advmss":1300,"priority":1,"table":5}`: config.Route{
			Destination: netip.MustParsePrefix("2001:db8::1/64"), Gateway: netip.MustParseAddr("2001:db8::2"),
			MTU: 1400, AdvMSS: 1300, Priority: 1, Table: &table,
		},
		`{}`: config.DNS{},
		`{"nameservers":["192.0.2.1"],"search":["example.test"]}`: config.DNS{
			Nameservers: []string{"192.0.2.1"}, Search: []string{"example.test"},
		},
	} {
		got, err := json.Marshal(value)
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
}
