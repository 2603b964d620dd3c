module github.com/ipalloc/ipalloc/examples

go 1.25.0

replace github.com/ipalloc/ipalloc => ..
