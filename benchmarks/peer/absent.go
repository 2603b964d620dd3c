package peer

// These cannot be imported here. They stand in the table with the reason, and with no figure.

func metalLB() Peer {
	return Peer{
		Name: "MetalLB", Module: "go.universe.tf/metallb",
		Absent: "its allocator is an internal package, which Go lets no other module import",
	}
}

func whereabouts() Peer {
	return Peer{
		Name: "Whereabouts", Module: "github.com/k8snetworkplumbingwg/whereabouts",
		Absent: "most versions are not served by the module proxy used here, " +
			"and the checksum database knows none of those that are",
	}
}

func inCluster() Peer {
	return Peer{
		Name: "CAPI in-cluster", Module: "sigs.k8s.io/cluster-api-ipam-provider-in-cluster",
		Absent: "not served by the module proxy used here; the column *netipx by hand* is how it finds an address",
	}
}
