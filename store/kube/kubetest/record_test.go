package kubetest_test

import "github.com/ipalloc/ipalloc/store"

func poolKey(name string) store.Key { return store.Key{Kind: store.KindPool, Pool: name} }

func allocKey(name string) store.Key {
	return store.Key{Kind: store.KindAllocation, Pool: "lab", Name: name}
}

func record(key store.Key, state string) store.Record { return store.Record{Key: key, State: state} }
