package network

import (
	"bufio"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/ipalloc/ipalloc/config"
)

// ReadDNS returns what goes into the result about name resolution. It reads the file ResolvConf, if there is one.
func (n *Network) ReadDNS() (config.DNS, error) {
	if n.ResolvConf == "" {
		return n.DNS, nil
	}
	file, err := os.Open(n.ResolvConf)
	if err != nil {
		return config.DNS{}, unreadable(err)
	}
	defer file.Close()
	var dns config.DNS
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || strings.HasPrefix(words[0], "#") || strings.HasPrefix(words[0], ";") {
			continue
		}
		switch words[0] {
		case "nameserver":
			dns.Nameservers = append(dns.Nameservers, words[1])
		case "domain":
			dns.Domain = words[1]
		case "search":
			dns.Search = append(dns.Search, words[1:]...)
		case "options":
			dns.Options = append(dns.Options, words[1:]...)
		}
	}
	if err := lines.Err(); err != nil {
		return config.DNS{}, unreadable(err)
	}
	return dns, nil
}

func unreadable(err error) error {
	return types.NewError(types.ErrIOFailure, "a file that the configuration names cannot be read",
		"ipam.resolvConf: "+err.Error())
}
