package main_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/commandtest"
)

const (
	helpFile = "../../docs/command.md"
	// below is where the text ends that is not made from the program.
	below = "<!-- What is below is the program's own help; go test ./cmd/ipalloc -run Help -update writes it. -->\n"
)

// TestHelp checks that the documentation has the help of the program, and of each of its commands.
func TestHelp(t *testing.T) {
	text, err := os.ReadFile(helpFile)
	require.NoError(t, err)
	prose, _, found := strings.Cut(string(text), below)
	require.True(t, found, helpFile)
	want := prose + below + helpOf(t)
	if commandtest.Updating() {
		require.NoError(t, os.WriteFile(helpFile, []byte(want), 0o644))
		return
	}
	require.Equal(t, want, string(text), "run the test with -update")
}

// helpOf returns the help of the program and of the commands that it lists.
func helpOf(t *testing.T) string {
	t.Helper()
	main := help(t)
	all := section("ipalloc", main)
	_, list, _ := strings.Cut(main, "\nLook:\n")
	list, _, _ = strings.Cut(list, "\nAdditional Commands:\n")
	for line := range strings.Lines(list) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(line, "  ") {
			all += section("ipalloc "+name, help(t, name))
		}
	}
	return all
}

func section(title, text string) string { return "\n## " + title + "\n\n```text\n" + text + "```\n" }

func help(t *testing.T, args ...string) string {
	t.Helper()
	r := program.Run(t, t.TempDir(), "bolt:not-shown.db", append(args, "--help")...)
	require.Zero(t, r.Code)
	require.Empty(t, r.Stderr)
	require.NotContains(t, r.Stdout, "not-shown")
	return r.Stdout
}
