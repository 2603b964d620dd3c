package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/store"
)

// readNetwork reads a file as in /etc/cni/net.d: a configuration of one plugin, or a list of them. Of a list it takes
// the first that has a section ipam.
func readNetwork(path string) (network.Network, error) {
	if path == "" {
		return network.Network{}, fmt.Errorf("%w: -config is missing", ErrUsage)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return network.Network{}, err
	}
	if data, err = firstPlugin(data); err != nil {
		return network.Network{}, fmt.Errorf("%s: %w", path, err)
	}
	n, err := network.Read(data, network.Args{})
	if err != nil {
		return network.Network{}, fmt.Errorf("%s: %w", path, err)
	}
	if n.Name == "" {
		return network.Network{}, fmt.Errorf("%s: name: is missing", path)
	}
	return n, nil
}

// firstPlugin is what the plugin of a list gets on its standard input, or the text if it is no list.
func firstPlugin(data []byte) ([]byte, error) {
	var list struct {
		Name, CNIVersion string
		Plugins          []map[string]any
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	if list.Plugins == nil {
		return data, nil
	}
	for _, plugin := range list.Plugins {
		if plugin["ipam"] != nil {
			plugin["name"], plugin["cniVersion"] = list.Name, list.CNIVersion
			return json.Marshal(plugin)
		}
	}
	return nil, errors.New("plugins: has no plugin with a section ipam")
}

// open opens the store of a configuration.
func (c *Control) open(ctx context.Context, h network.Header, create bool) (store.Store, bool, error) {
	of, err := c.Drivers.Find(h.Store)
	if err != nil {
		return nil, false, err
	}
	s, err := of.Open(ctx, h.Store, create)
	return s, of.Shared, err
}
