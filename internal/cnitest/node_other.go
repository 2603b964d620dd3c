//go:build !linux

package cnitest

import (
	"os/exec"
	"testing"
)

// node is a network namespace, which only Linux has.
type node struct{ name, url, program string }

func newNode(t *testing.T, _ string, _ Cluster) *node {
	t.Helper()
	t.Skip("only Linux has network namespaces")
	return nil
}

func (n *node) start(c *exec.Cmd) error { return c.Start() }
