package cni_test

import "flag"

// kills is how many ADDs the tests kill.
var kills = flag.Int("kills", 60, "how many ADDs to kill; 1000 is thorough")
