package network

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// Args are what a runtime says of a container in the variable CNI_ARGS. The zero Args say nothing. Args may be copied.
type Args struct {
	// IPs are the addresses of the argument IP; one without a length has that of a single address.
	IPs []netip.Prefix
	// Bare are the texts of those of IPs that have no length.
	Bare []string
	// Gateways are those of the argument GATEWAY.
	Gateways []netip.Addr
	// PodNamespace, PodName and PodUID are those of a pod of Kubernetes; empty for other containers.
	PodNamespace, PodName, PodUID string
}

// envArgs are the arguments that the plugin knows. LoadArgs finds them by the names of the fields.
type envArgs struct {
	types.CommonArgs
	IP, GATEWAY                             types.UnmarshallableString
	K8S_POD_NAMESPACE, K8S_POD_NAME         types.UnmarshallableString //nolint:revive // names of arguments
	K8S_POD_UID, K8S_POD_INFRA_CONTAINER_ID types.UnmarshallableString //nolint:revive // names of arguments
}

// ReadArgs reads CNI_ARGS.
func ReadArgs(text string) (Args, error) {
	var env envArgs
	if err := types.LoadArgs(text, &env); err != nil {
		return Args{}, wrongArgs(err.Error())
	}
	args := Args{
		PodNamespace: string(env.K8S_POD_NAMESPACE), PodName: string(env.K8S_POD_NAME), PodUID: string(env.K8S_POD_UID),
	}
	for _, item := range items(env.IP) {
		prefix, err := netip.ParsePrefix(item)
		if !strings.Contains(item, "/") {
			var addr netip.Addr
			addr, err = netip.ParseAddr(item)
			prefix = netip.PrefixFrom(addr, addr.BitLen())
			args.Bare = append(args.Bare, item)
		}
		if err != nil || prefix.Addr().Is4In6() || prefix.Addr().Zone() != "" {
			return Args{}, wrongArgs(fmt.Sprintf("CNI_ARGS IP: %q is not an address, such as 192.0.2.7 or 192.0.2.7/24", item))
		}
		args.IPs = append(args.IPs, prefix)
	}
	for _, item := range items(env.GATEWAY) {
		gateway, err := netip.ParseAddr(item)
		if err != nil {
			return Args{}, wrongArgs(fmt.Sprintf("CNI_ARGS GATEWAY: %q is not an address", item))
		}
		args.Gateways = append(args.Gateways, gateway)
	}
	return args, nil
}

// items are the parts of a list with commas.
func items(text types.UnmarshallableString) []string {
	if text == "" {
		return nil
	}
	list := strings.Split(string(text), ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

func wrongArgs(details string) *types.Error {
	return types.NewError(types.ErrInvalidEnvironmentVariables, "invalid arguments of the container", details)
}
