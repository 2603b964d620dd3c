module github.com/ipalloc/ipalloc/store/mysql

go 1.25.0

replace github.com/ipalloc/ipalloc => ../..

require (
	github.com/go-sql-driver/mysql v1.10.1
	github.com/ipalloc/ipalloc v0.1.0
	github.com/stretchr/testify v1.12.1
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	go4.org/netipx v0.0.0-20260823151212-3075585bcbeb // indirect
)
