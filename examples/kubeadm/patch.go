package main

import (
	"fmt"
	"io"

	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/addressing"
)

// printPatches prints a stream of YAML with an object for each row that has something new to say. It has only what is
// to be set, so that it works as a strategic merge patch of kustomize, and with kubectl apply --server-side.
func printPatches(w io.Writer, rows []addressing.Row) {
	for _, row := range rows {
		switch {
		case !row.Patch || row.Err != nil || row.State == addressing.Released:
		case row.Unnamed:
			fmt.Fprintf(w, "# the node with %s gets %s; its name is not known\n", row.Name, join(row.Prefixes))
		case row.Kind == "Node" && len(row.Prefixes) > 0:
			printHeader(w, row)
			fmt.Fprintf(w, "  podCIDR: %q\n", row.Prefixes[0].String())
			printList(w, "podCIDRs", row.Prefixes)
		case row.Kind == "Service" && len(row.Families) > 0:
			printHeader(w, row)
			printServicePatch(w, row)
		}
	}
}

func printHeader(w io.Writer, row addressing.Row) {
	fmt.Fprintf(w, "---\napiVersion: v1\nkind: %s\nmetadata:\n  name: %q\n", row.Kind, row.Name)
	if row.Namespace != "" {
		fmt.Fprintf(w, "  namespace: %q\n", row.Namespace)
	}
	fmt.Fprintln(w, "spec:")
}

func printServicePatch(w io.Writer, row addressing.Row) {
	var addresses []string
	for _, p := range row.Prefixes {
		addresses = append(addresses, p.Addr().String())
	}
	if row.Headless {
		addresses = []string{"None"}
	}
	if len(addresses) > 0 {
		fmt.Fprintf(w, "  clusterIP: %q\n", addresses[0])
		printList(w, "clusterIPs", addresses)
	}
	printList(w, "ipFamilies", row.Families)
	fmt.Fprintf(w, "  ipFamilyPolicy: %s\n", row.Policy)
}

func printList[T any](w io.Writer, name string, items []T) {
	fmt.Fprintf(w, "  %s:\n", name)
	for _, item := range items {
		fmt.Fprintf(w, "  - %q\n", fmt.Sprint(item))
	}
}
