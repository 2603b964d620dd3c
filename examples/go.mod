module github.com/ipalloc/ipalloc/examples

go 1.25.0

replace (
	github.com/ipalloc/ipalloc => ..
	github.com/ipalloc/ipalloc/config => ../config
	github.com/ipalloc/ipalloc/store/bolt => ../store/bolt
)

require (
	github.com/ipalloc/ipalloc v0.1.0
	github.com/ipalloc/ipalloc/config v0.1.0
	github.com/ipalloc/ipalloc/store/bolt v0.1.0
	github.com/stretchr/testify v1.12.1
	go.etcd.io/bbolt v1.5.0
	go4.org/netipx v0.0.0-20260823151212-3075585bcbeb
)

require (
	go.yaml.in/yaml/v3 v3.0.6 // indirect
	golang.org/x/sys v0.45.0 // indirect
)
