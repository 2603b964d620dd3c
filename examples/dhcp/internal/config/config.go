// Package config reads the configuration of the server: one file of YAML (or JSON, which is YAML too). A key that it
// does not know is an error, and so is everything that cannot work.
package config

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// ErrInvalid is returned for a configuration that breaks a rule. The message names the place, quotes the value and says
// the rule.
var ErrInvalid = errors.New("configuration")

// Config is the configuration of a server. Read fills in the defaults.
type Config struct {
	// Store is the URL of the store; see package driver. Default: file:///var/lib/dhcpalloc/leases.db.
	Store string `yaml:"store"`
	// Interfaces are where relays reach the server, beside the interfaces of the networks.
	Interfaces []string `yaml:"interfaces"`
	// HTTP is the address of the debug page and of the metrics. Empty means none.
	HTTP string `yaml:"http"`
	// DUID is the DHCPv6 identifier of the server (RFC 8415, section 11). Servers that share it and a store look like one
	// to their clients. Default: made of the hardware address of the first interface.
	DUID Hex `yaml:"duid"`

	// Offer is how long an offered address is kept for its client. Default: 30 s.
	Offer time.Duration `yaml:"offer"`
	// Quarantine is how long a declined address is given to nobody. Default: 24 h.
	Quarantine time.Duration `yaml:"quarantine"`
	// Sticky is how long a released address is given to nobody but its last client. Default: 1 h; less than 0 means not
	// at all.
	Sticky time.Duration `yaml:"sticky"`
	// Authoritative says that no other server knows clients of these networks: a client with an address that the server
	// has no record of gets it, or an answer that says no. Otherwise it gets no answer.
	Authoritative bool `yaml:"authoritative"`
	// RapidCommit allows leases in two messages (RFC 8415, section 18.3.1; RFC 4039).
	RapidCommit bool `yaml:"rapidCommit"`

	// Quota bounds how many addresses and prefixes one hardware address (DHCPv6: one link-local address) may hold by many
	// identities. Default: 64; less than 0
	// means no bound.
	Quota int `yaml:"quota"`
	// CircuitQuota bounds how many a circuit of a relay may hold: option 82's circuit and remote id (RFC 3046), or
	// DHCPv6's interface id. It is for relays that name a circuit for each customer. Default: 0, no bound.
	CircuitQuota int `yaml:"circuitQuota"`
	// Busy bounds how many messages are being worked on at once; a quarter of them may be of clients that have nothing
	// yet. More are dropped, and their clients send them again. Default: 4096.
	Busy int `yaml:"busy"`

	Networks []Network `yaml:"networks"`
}

// Network is one link, whose clients may get addresses of any of its subnets (a shared network, if there are several).
type Network struct {
	Name string `yaml:"name"`
	// Interface is where clients of the link are heard directly. Relayed reports whether relays pass them on. At least
	// one of them must be set.
	Interface string `yaml:"interface"`
	Relayed   bool   `yaml:"relayed"`

	// Lease is how long leases last, unless the client asks for another time between MinLease and MaxLease. Default:
	// 12 h for Lease, and Lease for the others.
	Lease    time.Duration `yaml:"lease"`
	MinLease time.Duration `yaml:"minLease"`
	MaxLease time.Duration `yaml:"maxLease"`

	Subnets []Subnet `yaml:"subnets"`
}

// Subnet is one subnet of a link, of either family.
type Subnet struct {
	Subnet netip.Prefix `yaml:"subnet"`
	// Pools are the ranges that are handed out, in the forms of package cidr. None means only reservations.
	Pools   []string `yaml:"pools"`
	Exclude []string `yaml:"exclude"`

	Gateway netip.Addr   `yaml:"gateway"`
	DNS     []netip.Addr `yaml:"dns"`
	Domain  string       `yaml:"domain"`
	Search  []string     `yaml:"search"`
	NTP     []netip.Addr `yaml:"ntp"`
	MTU     uint16       `yaml:"mtu"`
	Routes  []Route      `yaml:"routes"`

	// Prefixes are what is delegated to routers of the link (IA_PD). IPv6 only.
	Prefixes     []Delegation  `yaml:"prefixes"`
	Reservations []Reservation `yaml:"reservations"`
}

// Route is a static route (RFC 3442).
type Route struct {
	To  netip.Prefix `yaml:"to"`
	Via netip.Addr   `yaml:"via"`
}

// Delegation is a prefix of which prefixes of a length are delegated.
type Delegation struct {
	Prefix netip.Prefix `yaml:"prefix"`
	Length int          `yaml:"length"`
}

// Reservation keeps an address, a prefix or both for one client. It names the client by its hardware address, or by the
// identifier that the client sends: a client identifier (RFC 2132, section 9.14) or a DUID.
type Reservation struct {
	Hardware Hardware     `yaml:"hardware"`
	ClientID Hex          `yaml:"clientID"`
	DUID     Hex          `yaml:"duid"`
	Address  netip.Addr   `yaml:"address"`
	Prefix   netip.Prefix `yaml:"prefix"`
	Hostname string       `yaml:"hostname"`
}

// Hardware is a hardware address, as text aa:bb:cc:dd:ee:ff in any form that net.ParseMAC takes.
type Hardware string

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hardware) UnmarshalText(text []byte) error {
	mac, err := net.ParseMAC(string(text))
	if err != nil {
		return fmt.Errorf("%q is no hardware address, such as 02:00:00:00:00:01", text)
	}
	*h = Hardware(mac.String())
	return nil
}

// Hex are bytes, as text of hexadecimal digits, with or without colons between the bytes.
type Hex string

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hex) UnmarshalText(text []byte) error {
	digits := strings.ToLower(strings.ReplaceAll(string(text), ":", ""))
	if b, err := hex.DecodeString(digits); err != nil || len(b) == 0 || len(b) > 255 {
		return fmt.Errorf("%q is not 1 to 255 bytes in hexadecimal digits, such as 01:02:00:00:00:00:01", text)
	}
	*h = Hex(digits)
	return nil
}

// Bytes returns the bytes.
func (h Hex) Bytes() []byte {
	b, _ := hex.DecodeString(string(h)) // UnmarshalText has checked it
	return b
}

// ReadFile reads a configuration from a file.
func ReadFile(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := Read(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Read reads a configuration. The errors wrap [ErrInvalid].
func Read(text []byte) (*Config, error) {
	c := new(Config)
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(c); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: it is empty", ErrInvalid)
		}
		return nil, fmt.Errorf("%w: %s", ErrInvalid, plain(err))
	}
	if decoder.Decode(new(any)) == nil {
		return nil, fmt.Errorf("%w: it has more than one document", ErrInvalid)
	}
	c.setDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return c, nil
}

var unknownKey = regexp.MustCompile(`field (\S+) not found in type config\.(\w+)`)

// plain says what the parser says without the names of Go's types.
func plain(err error) string {
	text := unknownKey.ReplaceAllStringFunc(err.Error(), func(s string) string {
		m := unknownKey.FindStringSubmatch(s)
		return fmt.Sprintf("%q is no key of a %s", m[1], strings.ToLower(m[2]))
	})
	text = strings.ReplaceAll(text, "yaml: unmarshal errors:\n  ", "")
	return strings.TrimPrefix(strings.ReplaceAll(text, "\n  ", "; "), "yaml: ")
}

func (c *Config) setDefaults() {
	setDefault(&c.Store, "file:///var/lib/dhcpalloc/leases.db")
	setDefault(&c.Offer, 30*time.Second)
	setDefault(&c.Quarantine, 24*time.Hour)
	setDefault(&c.Sticky, time.Hour)
	setDefault(&c.Quota, 64)
	setDefault(&c.Busy, 4096)
	c.Sticky = max(c.Sticky, 0)
	for i := range c.Networks {
		n := &c.Networks[i]
		setDefault(&n.Lease, 12*time.Hour)
		setDefault(&n.MinLease, n.Lease)
		setDefault(&n.MaxLease, n.Lease)
	}
}

func setDefault[T comparable](at *T, value T) {
	if *at == *new(T) {
		*at = value
	}
}
