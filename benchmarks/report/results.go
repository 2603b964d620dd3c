package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/measure"
)

// Results are what one run has measured: all that the table, the plots and a later comparison are made of.
type Results struct {
	Machine Machine   `json:"machine"`
	Taken   time.Time `json:"taken"`
	Took    string    `json:"took"`
	// Quick marks a run that only proves that every row still runs: its sizes are cut, and its figures mean nothing.
	Quick bool `json:"quick"`
	// Missing is how many rows a run that did not come to its end has not measured.
	Missing  int       `json:"missing,omitempty"`
	Subjects []Subject `json:"subjects"`
	Rows     []Row     `json:"rows"`
}

// Machine is what the figures depend on.
type Machine struct {
	CPU   string `json:"cpu"`
	Cores int    `json:"cores"`
	OS    string `json:"os"`
	Arch  string `json:"arch"`
	Go    string `json:"go"`
}

// Subject is what has a column: an allocator in memory, or a kind of durable pool.
type Subject struct {
	Name    string `json:"name"`
	Module  string `json:"module"`
	Version string `json:"version"`
	Package string `json:"package,omitempty"`
	Order   string `json:"order,omitempty"`
	Note    string `json:"note,omitempty"`
	Absent  string `json:"absent,omitempty"`
}

// Row is a case.
type Row struct {
	Name  string `json:"name"`
	Group string `json:"group"`
	Unit  Unit   `json:"unit"`
	// Plot and X are the plot that the row is a point of, and where; no plot if empty.
	Plot  string          `json:"plot,omitempty"`
	X     float64         `json:"x,omitempty"`
	Cells map[string]Cell `json:"cells"`
}

// Cell is what a subject needed for a case, or why there is no figure.
type Cell struct {
	measure.Spread
	// Allocs is the number of heap allocations an operation; -1 if that is not counted.
	Allocs float64 `json:"allocs"`
	// Note says more about the figure.
	Note string `json:"note,omitempty"`
	// Missing is why there is no figure.
	Missing string `json:"missing,omitempty"`
}

// Unit is what is measured.
type Unit string

// The units. All but the rate are better when smaller.
const (
	Nanoseconds Unit = "ns"
	Bytes       Unit = "B"
	PairsSecond Unit = "pairs/s"
	Number      Unit = ""
)

func thisMachine() Machine {
	return Machine{
		CPU: cpuName(), Cores: runtime.GOMAXPROCS(0), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(),
	}
}

// cpuName is the name that Linux tells.
func cpuName() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func (r Results) write(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// readResults reads an earlier run, which must have been a full one.
func readResults(path string) (Results, error) {
	var r Results
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	if r.Quick {
		return r, fmt.Errorf("%s: %w", path, errQuick)
	}
	return r, nil
}

var errQuick = errors.New("figures of a -quick run mean nothing, and cannot be compared")
