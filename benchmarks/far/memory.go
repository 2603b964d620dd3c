package main

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// ownMemory is how many bytes this process has in memory that are not pages of files; 0 where the system does not tell.
func ownMemory() int64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "RssAnon:"); ok {
			kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64)
			if err != nil {
				return 0
			}
			return kilobytes << 10
		}
	}
	return 0
}

// peakEvery is how often [peakMemory] looks.
const peakEvery = 5 * time.Millisecond

// peakMemory is the most of [ownMemory] while the operation ran.
func peakMemory(operation func() error) (peak int64, err error) {
	done, seen := make(chan struct{}), make(chan int64)
	go func() {
		most := ownMemory()
		for ticks := time.Tick(peakEvery); ; {
			select {
			case <-ticks:
				most = max(most, ownMemory())
			case <-done:
				seen <- max(most, ownMemory())
				return
			}
		}
	}()
	err = operation()
	close(done)
	return <-seen, err
}

// liveHeap is how many bytes are live on the heap.
func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
