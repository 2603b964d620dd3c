module github.com/ipalloc/ipalloc/store/bolt

go 1.25.0

replace github.com/ipalloc/ipalloc => ../..

require (
	go.etcd.io/bbolt v1.5.0 // indirect
	golang.org/x/sys v0.45.0 // indirect
)
