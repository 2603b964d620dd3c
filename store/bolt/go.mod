module github.com/ipalloc/ipalloc/store/bolt

go 1.25.0

replace github.com/ipalloc/ipalloc => ../..

require (
	github.com/ipalloc/ipalloc v0.1.0
	github.com/stretchr/testify v1.12.1
	go.etcd.io/bbolt v1.5.0
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	go4.org/netipx v0.0.0-20260823151212-3075585bcbeb // indirect
	golang.org/x/sys v0.45.0 // indirect
)
