package kube_test

const envChild = "IPALLOC_KUBE_CHILD"

func child() int { return 0 }
