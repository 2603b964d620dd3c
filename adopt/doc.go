// Package adopt takes over addresses that other systems have in use, so that a program can move to pools without a
// moment in which an address is given twice.
//
// A reader makes an [Entry] of whatever is in use: an owner and its addresses, the end of its lease, and labels. [Into]
// makes allocations of entries, in the pools that have the addresses:
//
//	file, err := os.Open("/var/lib/kea/kea-leases4.csv")
//	for result, err := range adopt.Into(ctx, pools, kea.Read(file), nil) {
//		if result.Outcome == adopt.Clash { … } // which keeps nothing else back
//	}
//
// The command ipalloc adopt does that for people.
//
// # Readers
//
//	package      reads                                        owner
//	calico       IPAMBlock objects                            the handle
//	clusterapi   IPAddress objects                            the claim: its UID
//	csv          a table; also what ipalloc owners prints     the column owner
//	dnsmasq      dnsmasq.leases                               id:HEX, hw:MAC, duid:HEX/KIND/IAID
//	goipam       go-ipam's dump, file and rows                the address or child prefix
//	hostlocal    host-local's folder of a network             CONTAINER/INTERFACE
//	isc          dhcpd.leases and dhcpd6.leases               as dnsmasq
//	kea          memfile CSV, lease-dump, lease4-get-all      as dnsmasq
//	kubernetes   Services and Nodes                           NAMESPACE/NAME, or the Node's name
//	whereabouts  IPPool objects                               CONTAINER/INTERFACE
//
// The package comment of each says which records it takes, which it leaves out, and where the format is described. In
// all of them, a record that breaks a rule of the format is an error that quotes it, and addresses that are
// IPv4-mapped, or have a zone or leading zeros, are errors.
//
// Kubernetes objects are read as kubectl prints them, in JSON or YAML, so no reader has a client: what the API has is
// read from kubectl get … -o json. Lists in JSON are read item by item.
//
// # Memory
//
// Files are read as they go, and in no more memory than the readers say: O(1) for csv, dnsmasq and for JSON; about 100
// bytes for each address for isc and the CSV of kea, where the last record of an address counts; and all entries for
// calico, hostlocal and whereabouts, where one owner has addresses in several places.
//
// # Going back
//
// Readers only read, so the other system keeps what it knew at the move, and can go on from there as long as it is told
// what has changed since. [github.com/ipalloc/ipalloc/adopt/hostlocal.Write] and
// [github.com/ipalloc/ipalloc/adopt/whereabouts.Objects.Write] write what is held in the form of these systems; for
// others, compare what the pool holds with its file. Give entries a label with [Options.Labels], so that
// [pool.Pool.Find] returns what was taken over.
package adopt
