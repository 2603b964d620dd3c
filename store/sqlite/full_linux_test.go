package sqlite_test

import (
	"testing"
)

// TestFullDisk fills a disk with allocations. The first that finds no room fails at once and says so, nothing is lost,
// and the store goes on when there is room.
func TestFullDisk(t *testing.T) { driver.FullDisk(t, "1m") }

// TestCreateOnFullDisk leaves nothing behind.
func TestCreateOnFullDisk(t *testing.T) { driver.CreateOnFullDisk(t, "16k") }
