package etcd

// What tests look at inside.
var (
	Escape   = escape
	Unescape = unescape
)
