module github.com/ipalloc/ipalloc/config

go 1.25.0

replace github.com/ipalloc/ipalloc => ..

require (
	github.com/ipalloc/ipalloc v0.1.0
	github.com/stretchr/testify v1.12.1
	go.yaml.in/yaml/v3 v3.0.6
	go4.org/netipx v0.0.0-20260823151212-3075585bcbeb
)
