package cidr
