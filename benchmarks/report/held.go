package main

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strconv"

	"github.com/ipalloc/ipalloc/benchmarks/peer"
)

// seed makes every run do the same work.
const seed = 20

// nth is the n-th prefix of the shape's length. IPv6 shapes are counted within the first 64 bits or the last.
func nth(s peer.Shape, n int) netip.Prefix {
	if s.Prefix.Addr().Is4() {
		b := s.Prefix.Addr().As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n)<<(32-s.Bits))
		return netip.PrefixFrom(netip.AddrFrom4(b), s.Bits)
	}
	b := s.Prefix.Addr().As16()
	part, shift := b[8:], 128-s.Bits
	if s.Bits <= 64 {
		part, shift = b[:8], 64-s.Bits
	}
	binary.BigEndian.PutUint64(part, binary.BigEndian.Uint64(part)+uint64(n)<<shift)
	return netip.PrefixFrom(netip.AddrFrom16(b), s.Bits)
}

// capacity is how many the shape has.
func capacity(s peer.Shape) int { return 1 << (s.Bits - s.Prefix.Bits()) }

// packed are the n lowest that every peer hands out. In a space of addresses the first is left out: it is the network
// address, which some peers keep, as they keep the last.
func packed(s peer.Shape, n int) []netip.Prefix {
	first := 0
	if s.Single() {
		first, n = 1, min(n, capacity(s)-3)
	}
	held := make([]netip.Prefix, n)
	for i := range held {
		held[i] = nth(s, first+i)
	}
	return held
}

// holes are n at random, in random order, without the first two and the last two, which some peers keep.
func holes(s peer.Shape, n int) []netip.Prefix {
	random := rand.New(rand.NewPCG(seed, 1))
	all := capacity(s) - 4
	order := choose(random, all, min(n, all-1))
	held := make([]netip.Prefix, len(order))
	for i := range held {
		held[i] = nth(s, order[i]+2)
	}
	return held
}

// choose are n different numbers below all, in random order.
func choose(random *rand.Rand, all, n int) []int {
	const few = 8 // then most of those drawn are new
	if n > all/few {
		return random.Perm(all)[:n]
	}
	seen, chosen := make(map[int]bool, n), make([]int, 0, n)
	for len(chosen) < n {
		if one := random.IntN(all); !seen[one] {
			seen[one] = true
			chosen = append(chosen, one)
		}
	}
	return chosen
}

// alternate is every other one: the most fragmented space that there is.
func alternate(s peer.Shape) []netip.Prefix {
	var held []netip.Prefix
	for n := 2; n < capacity(s)-2; n += 2 {
		held = append(held, nth(s, n))
	}
	return held
}

// mixedLength is 32 half of the time, 31 a quarter, and so on to 20.
func mixedLength(random *rand.Rand) int {
	length := 32
	for length > 20 && random.Uint32()&1 == 0 {
		length--
	}
	return length
}

// mixed are n prefixes of mixed lengths, each the lowest that is free.
func mixed(s peer.Shape, n int) ([]netip.Prefix, error) {
	ours := peer.All()[0]
	space, err := ours.NewSpace(s)
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(seed, 2))
	held := make([]netip.Prefix, n)
	for i := range held {
		if held[i], err = space.Take(mixedLength(random)); err != nil {
			return nil, err
		}
	}
	return held, nil
}

// owners are as long as a UID.
func owners(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = ownerName(i)
	}
	return names
}

func ownerName(i int) string {
	const digits = 12
	text := strconv.Itoa(i)
	return "6f1d2c3b-0000-4000-8000-" + "000000000000"[:digits-len(text)] + text
}
