package main

import (
	"context"
	"os"
	"strings"
)

// A dual-stack cluster that kubeadm has made gets a worker and two Services.
func Example() {
	const objects = `
apiVersion: v1
kind: Node
metadata: {name: worker-1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {ipFamilyPolicy: PreferDualStack}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {clusterIP: 10.96.0.53}
`
	p := program{stdin: strings.NewReader(objects), stdout: os.Stdout, stderr: os.Stderr}
	p.run(context.Background(), []string{"assign", "testdata/init-dual-stack.yaml", "-"})
	// Output:
	// KIND      NAME                   STATE   ADDRESSES                          POLICY
	// Node      worker-1               new     10.244.0.0/24,2001:db8:42::/64     -
	// Node      10.100.0.2             new     10.244.1.0/24,2001:db8:42:2::/64   -
	// Service   default/kubernetes     new     10.96.0.1                          SingleStack IPv4
	// Service   kube-system/kube-dns   new     10.96.0.10                         SingleStack IPv4
	// Service   default/web            new     10.96.1.1,2001:db8:42:1::101       PreferDualStack IPv4,IPv6
	// Service   default/db             new     10.96.0.53                         SingleStack IPv4
	//
	// POOL       FAMILY   SUBNETS               EACH   USED   FREE    STATIC BAND
	// pods       IPv4     10.244.0.0/16         /24    2      254     -
	// pods       IPv6     2001:db8:42::/56      /64    2      253     -
	// services   IPv4     10.96.0.0/16          /32    4      65530   10.96.0.1-10.96.1.0
	// services   IPv6     2001:db8:42:1::/112   /128   1      65534   2001:db8:42:1::1-2001:db8:42:1::100
}

// The network of a cloud is cut into public and private subnets in two zones.
func Example_vpc() {
	p := program{stdout: os.Stdout, stderr: os.Stderr}
	p.run(context.Background(), []string{"vpc", "-zones", "a,b", "10.0.0.0/16", "public/24", "private/18"})
	// Output:
	// SUBNET      CIDR            ADDRESSES   RESERVED   FOR NODES   FIRST        LAST
	// public-a    10.0.0.0/24     256         5          251         10.0.0.4     10.0.0.254
	// public-b    10.0.1.0/24     256         5          251         10.0.1.4     10.0.1.254
	// private-a   10.0.64.0/18    16384       5          16379       10.0.64.4    10.0.127.254
	// private-b   10.0.128.0/18   16384       5          16379       10.0.128.4   10.0.191.254
	//
	// free: 10.0.2.0/23,10.0.4.0/22,10.0.8.0/21,10.0.16.0/20,10.0.32.0/19,10.0.192.0/18
}
