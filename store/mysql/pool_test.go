package mysql_test

import (
	"testing"

	"github.com/ipalloc/ipalloc/internal/pooltest"
)

func TestPoolFair(t *testing.T) { pooltest.Fair(t, tests.OpensNew(t)) }

func TestPoolOperators(t *testing.T) { pooltest.Operators(t, tests.OpensNew(t)) }

func TestCommitTimeoutWhileAHeadIsLocked(t *testing.T) { tests.CommitTimeout(t, true) }

func TestPoolProcesses(t *testing.T) { tests.PoolProcesses(t) }

func TestWorld(t *testing.T) { tests.World(t) }
