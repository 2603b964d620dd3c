// Command bareplugin is a CNI plugin without an allocator: ADD puts a value of 200 bytes into a bbolt file in the
// folder DIR, and DEL deletes it, each in one transaction that is flushed. So much takes any plugin that keeps what it
// has promised. VERSION is the start of a program alone.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

func main() {
	command := os.Getenv("CNI_COMMAND")
	if command == "VERSION" {
		return
	}
	if err := change(command, []byte(os.Getenv("CNI_CONTAINERID"))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func change(command string, key []byte) error {
	db, err := bbolt.Open(filepath.Join(os.Getenv("DIR"), "bare.db"), 0o600, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Update(func(tx *bbolt.Tx) error {
		records, err := tx.CreateBucketIfNotExists([]byte("records"))
		if err != nil {
			return err
		}
		if command == "DEL" {
			return records.Delete(key)
		}
		return records.Put(key, make([]byte, 200))
	})
}
