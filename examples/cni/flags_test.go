package cni_test

import "flag"

var (
	// kills is how many ADDs the tests kill.
	kills = flag.Int("kills", 60, "how many ADDs to kill; 1000 is thorough")
	// namespaces is how many containers are added at once.
	namespaces = flag.Int("namespaces", 24, "how many containers to add at once; 100 is thorough")
)
