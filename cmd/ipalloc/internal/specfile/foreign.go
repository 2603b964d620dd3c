package specfile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ipalloc/ipalloc/config/clusterapi"
	"github.com/ipalloc/ipalloc/config/hostlocal"
	"github.com/ipalloc/ipalloc/config/manifest"
	"github.com/ipalloc/ipalloc/config/whereabouts"
	"github.com/ipalloc/ipalloc/pool"
)

// ParseAny reads the spec of a pool of some name from a spec, as Parse does, or from a configuration of another system,
// which it tells by its members:
//
//   - A Kubernetes object of kind InClusterIPPool, GlobalInClusterIPPool, InClusterPrefixPool or
//     GlobalInClusterPrefixPool: a pool of Cluster API's in-cluster provider. If the text has several, it is the one
//     whose name, or namespace/name, is that of the pool. Its namespace is the scope, and externalAddresses are
//     excluded.
//   - A configuration of CNI with ipam, plugins or cniVersion, a NetworkAttachmentDefinition, or the section ipam
//     alone, whose ipam.type is host-local or whereabouts. All its ranges are one pool.
//
// All errors wrap pool.ErrInvalid.
func ParseAny(text []byte, name string) (pool.Spec, error) {
	var top struct {
		network `yaml:",inline"`
		Kind    string `json:"kind"`
		Type    string `json:"type"`
		Version string `json:"cniVersion" yaml:"cniVersion"`
	}
	if decode(text, &top) != nil {
		return Parse(text) // which says what is wrong
	}
	switch {
	case top.Kind == "NetworkAttachmentDefinition":
		var inner network
		if err := json.Unmarshal([]byte(top.Spec.Config), &inner); err != nil {
			return pool.Spec{}, invalid("spec.config: %v", err)
		}
		return parseCNI(text, inner.types())
	case top.Kind != "":
		return parseClusterAPI(text, name)
	case top.Version != "", len(top.types()) > 0:
		return parseCNI(text, top.types())
	case top.Type == typeHostLocal, top.Type == typeWhereabouts:
		return parseCNI(asIPAM(text), []string{top.Type})
	}
	return Parse(text)
}

// The values of ipam.type.
const (
	typeHostLocal   = "host-local"
	typeWhereabouts = "whereabouts"
)

// network is what is looked at of a configuration of CNI, or of the object that has one.
type network struct {
	plugin  `yaml:",inline"`
	Plugins []plugin `json:"plugins"`
	Spec    struct {
		Config string `json:"config"`
	} `json:"spec"`
}

type plugin struct {
	IPAM struct {
		Type string `json:"type"`
	} `json:"ipam"`
}

// types are the values of ipam.type, of all plugins that have one.
func (n network) types() []string {
	var types []string
	for _, p := range append([]plugin{n.plugin}, n.Plugins...) {
		if p.IPAM.Type != "" {
			types = append(types, p.IPAM.Type)
		}
	}
	return types
}

// decode reads JSON, or the first document of YAML.
func decode(text []byte, into any) error {
	if json.Valid(text) {
		return json.Unmarshal(text, into)
	}
	return yaml.Unmarshal(text, into)
}

// asIPAM makes a configuration of its section ipam.
func asIPAM(text []byte) []byte {
	if json.Valid(text) {
		return slices.Concat([]byte(`{"ipam": `), text, []byte("}"))
	}
	return []byte("ipam:\n  " + strings.ReplaceAll(string(text), "\n", "\n  "))
}

func parseCNI(text []byte, types []string) (pool.Spec, error) {
	switch {
	case slices.Contains(types, typeWhereabouts):
		c, err := manifest.Parse(text, whereabouts.Read)
		if err != nil {
			return pool.Spec{}, foreign("Whereabouts", err)
		}
		if c.NodeSliceBits != 0 {
			return pool.Spec{}, invalid("the configuration of Whereabouts has a node_slice_size: the slices are pools of " +
				"their own, which this command does not make")
		}
		if len(c.Ranges) == 1 {
			return c.Ranges[0].Spec, nil
		}
		return c.Spec(), nil
	case slices.Contains(types, typeHostLocal):
		c, err := manifest.Parse(text, hostlocal.Read)
		if err != nil {
			return pool.Spec{}, foreign("host-local", err)
		}
		return c.Spec, nil
	}
	return pool.Spec{}, invalid("the configuration of CNI has the ipam.type %q, want %s or %s", types, typeHostLocal,
		typeWhereabouts)
}

func parseClusterAPI(text []byte, name string) (pool.Spec, error) {
	pools, err := clusterapi.Parse(text)
	if err != nil {
		return pool.Spec{}, foreign("Cluster API", err)
	}
	var names []string
	for _, p := range pools {
		if len(pools) == 1 || name == p.Name || name == p.StoreName() {
			p.Spec.Scope = p.Namespace
			p.Spec.Exclude = append(slices.Clone(p.Spec.Exclude), p.External...)
			return p.Spec, p.Spec.Validate()
		}
		names = append(names, fmt.Sprintf("%q", p.StoreName()))
	}
	return pool.Spec{}, invalid("there are %d pools, none of which is called %q: %s", len(pools), name,
		strings.Join(names, ", "))
}

// foreign is an error of a configuration of another system, on one line.
func foreign(system string, err error) error {
	return fmt.Errorf("%w: the configuration of %s: %s", pool.ErrInvalid, system,
		strings.ReplaceAll(err.Error(), "\n", "; "))
}
