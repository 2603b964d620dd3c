package allocator

import "hash/crc32"

// shortText is up to how many bytes the plain table is used. That of the standard library is quicker for longer ones,
// but takes 0.15 ms to make, which a process that lives for a few milliseconds notices.
const shortText = 256

// plain is the table of CRC-32C for single bytes.
var plain = func() (t crc32.Table) {
	for i := range t {
		sum := uint32(i)
		for range 8 {
			sum = sum>>1 ^ crc32.Castagnoli&-(sum&1)
		}
		t[i] = sum
	}
	return t
}()

// checksum is the CRC-32C of b.
func checksum(b []byte) uint32 {
	if len(b) <= shortText {
		return crc32.Checksum(b, &plain)
	}
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}
