// Package network reads the configuration of a CNI network and says what the plugin is to do for it: from which pools a
// container gets addresses, and what goes with them. It touches no store.
package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/ipalloc/ipalloc/config/hostlocal"
)

// Kind says whose configuration it is.
type Kind string

// The kinds of configurations.
const (
	HostLocal   Kind = "host-local"
	Static      Kind = "static"
	Whereabouts Kind = "whereabouts"
)

// Header is what all commands need of a configuration. DEL and GC need nothing else, so that they work whatever has
// become of the ranges.
//
// The zero Header is not useful. It may be copied.
type Header struct {
	Kind Kind
	// Name is the name of the CNI network, and NetworkName what Whereabouts calls network_name.
	Name, NetworkName string
	// CNIVersion is the version of the result.
	CNIVersion string
	// Store is where the pools are.
	Store *url.URL
	// DataDir is where host-local keeps its files. Without its ranges, which DEL may not get, a configuration of
	// host-local looks like one of static: so any configuration may have it.
	DataDir string
	// Sliced reports whether each node has slices of its own, and Overlapping whether ranges that overlap share their
	// addresses.
	Sliced, Overlapping bool
	// Valid are the attachments that exist, for GC; nil if the configuration does not say.
	Valid []types.GCAttachment
}

// storeKey is the key of the URL of the store, the only key that is not one of the other plugins.
const storeKey = "ipam.store"

// storeFile is the file of the pools in the data folder if the configuration names no store.
const storeFile = "ipalloc.db"

// text is the part of a configuration that a Header is read from.
type text struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	IPAM       *struct {
		Type    string `json:"type"`
		Store   string `json:"store"`
		DataDir string `json:"dataDir"`

		Range             json.RawMessage `json:"range"`
		IPRanges          json.RawMessage `json:"ipRanges"`
		NetworkName       string          `json:"network_name"`
		NodeSliceSize     json.RawMessage `json:"node_slice_size"`
		OverlappingRanges *bool           `json:"enable_overlapping_ranges"`

		Subnet    json.RawMessage `json:"subnet"`
		Ranges    json.RawMessage `json:"ranges"`
		Addresses json.RawMessage `json:"addresses"`
	} `json:"ipam"`
	RuntimeConfig struct {
		IPRanges json.RawMessage `json:"ipRanges"`
	} `json:"runtimeConfig"`
	Valid []types.GCAttachment `json:"cni.dev/valid-attachments"`
}

// ReadHeader reads the header of the configuration that a plugin gets on its standard input.
func ReadHeader(data []byte) (Header, error) {
	var t text
	if err := json.Unmarshal(data, &t); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return Header{}, invalid(wrong.Field, "is a %s", wrong.Value)
		}
		return Header{}, types.NewError(types.ErrDecodingFailure, "the configuration is not JSON", err.Error())
	}
	if t.IPAM == nil {
		return Header{}, invalid("ipam", "is missing")
	}
	kind, err := t.kind()
	if err != nil {
		return Header{}, err
	}
	h := Header{
		Kind: kind, Name: t.Name, NetworkName: t.IPAM.NetworkName, CNIVersion: t.CNIVersion, DataDir: t.IPAM.DataDir,
		Sliced:      kind == Whereabouts && isSet(t.IPAM.NodeSliceSize),
		Overlapping: t.IPAM.OverlappingRanges == nil || *t.IPAM.OverlappingRanges, Valid: t.Valid,
	}
	if h.DataDir == "" {
		h.DataDir = hostlocal.DefaultDataDir
	}
	return h, h.readStore(t.IPAM.Store)
}

// kind tells the configurations apart, by the plugin's name or else by their keys.
func (t *text) kind() (Kind, error) {
	switch kind := Kind(t.IPAM.Type); kind {
	case HostLocal, Static, Whereabouts:
		return kind, nil
	}
	whereabouts := firstOf("ipam.range", t.IPAM.Range, "ipam.ipRanges", t.IPAM.IPRanges)
	if whereabouts == "" && t.IPAM.NetworkName != "" {
		whereabouts = "ipam.network_name"
	}
	hostLocal := firstOf("ipam.subnet", t.IPAM.Subnet, "ipam.ranges", t.IPAM.Ranges)
	addresses := firstOf("ipam.addresses", t.IPAM.Addresses, "", nil)
	switch {
	case whereabouts != "" && hostLocal != "":
		return "", invalid(whereabouts, "is a key of whereabouts, but %s is one of host-local", hostLocal)
	case addresses != "" && hostLocal != "":
		return "", invalid(addresses, "is a key of static, but %s is one of host-local", hostLocal)
	case whereabouts != "":
		return Whereabouts, nil
	case hostLocal != "" || isSet(t.RuntimeConfig.IPRanges):
		return HostLocal, nil
	}
	return Static, nil
}

// firstOf is the first of two keys that is set; empty if none is.
func firstOf(key1 string, value1 json.RawMessage, key2 string, value2 json.RawMessage) string {
	switch {
	case isSet(value1):
		return key1
	case isSet(value2):
		return key2
	}
	return ""
}

// isSet reports whether a key is there with a value other than null, an empty text or an empty list.
func isSet(value json.RawMessage) bool {
	switch string(bytes.TrimSpace(value)) {
	case "", "null", `""`, "[]":
		return false
	}
	return true
}

func (h *Header) readStore(text string) error {
	if text == "" {
		if h.Sliced {
			return invalid(storeKey, "is missing: slices of nodes (ipam.node_slice_size) need a store that all nodes share")
		}
		h.Store = &url.URL{Scheme: "file", Path: filepath.Join(h.DataDir, storeFile)}
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return invalid(storeKey, "is not a URL, such as file:///var/lib/ipalloc.db") // the error may have a password
	}
	h.Store = u
	return nil
}

// invalid is CNI's error for a wrong configuration, which names the key.
func invalid(key, format string, args ...any) *types.Error {
	return types.NewError(types.ErrInvalidNetworkConfig, "invalid network configuration",
		key+": "+fmt.Sprintf(format, args...))
}
