package manifest_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/hostlocal"
	"github.com/ipalloc/ipalloc/config/manifest"
	"github.com/ipalloc/ipalloc/config/static"
	"github.com/ipalloc/ipalloc/config/whereabouts"
)

const text = `
cniVersion: 1.0.0
name: pods
ipam:
  type: host-local
  subnet: 192.0.2.0/24
  addresses: [{address: 192.0.2.7/24}]
  range: 192.0.2.0/24
`

func TestYAML(t *testing.T) {
	local, err := manifest.Parse([]byte(text), hostlocal.Read)
	require.NoError(t, err)
	require.Equal(t, "pods", local.Name)
	require.Equal(t, "192.0.2.0/24", local.Sets[0][0].Subnet.String())
	fixed, err := manifest.Parse([]byte(text), static.Read)
	require.NoError(t, err)
	require.Equal(t, "192.0.2.7/24", fixed.Addresses[0].Address.String())
	shared, err := manifest.Parse([]byte(text), whereabouts.Read)
	require.NoError(t, err)
	require.Equal(t, "192.0.2.0/24", shared.Ranges[0].Subnet.String())

	_, err = manifest.Parse([]byte(strings.Replace(text, "192.0.2.0/24", "here", 1)), hostlocal.Read)
	require.ErrorContains(t, err, `ipam.subnet: "here"`)
	require.Equal(t, 6, config.FieldErrors(err)[0].Line)
	_, err = hostlocal.Parse([]byte(text))
	require.ErrorContains(t, err, "the text is not JSON")
}

// The readers of what CNI plugins get are in plugins, which have no use for YAML.
func TestReadersHaveNoYAML(t *testing.T) {
	for _, reader := range []string{"hostlocal", "static", "whereabouts"} {
		out, err := exec.Command("go", "list", "-deps", "github.com/ipalloc/ipalloc/config/"+reader).Output()
		require.NoError(t, err)
		require.Contains(t, string(out), "config/internal/tree\n")
		require.NotContains(t, string(out), "yaml", reader)
	}
}
