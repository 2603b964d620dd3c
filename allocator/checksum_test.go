package allocator_test

import (
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/allocator"
)

// The checksum is CRC-32C, whichever table makes it.
func TestChecksum(t *testing.T) {
	b := make([]byte, 600)
	for i := range b {
		b[i] = byte(i * i)
		require.Equal(t, crc32.Checksum(b[:i], crc32.MakeTable(crc32.Castagnoli)), allocator.Checksum(b[:i]))
	}
}
