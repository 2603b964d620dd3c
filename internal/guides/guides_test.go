// Package guides_test runs the commands of the README and of the guides, as a reader would.
package guides_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/markdown"
	"github.com/ipalloc/ipalloc/internal/servertest"
)

var update = flag.Bool("update", false, "write what the commands print into the pages")

// pageTime is how long the commands of a page may take.
const pageTime = 10 * time.Minute

// TestGuides runs the blocks of each page that are marked as sh, in their order, in one bash and in a folder of the
// page's own. A command that fails ends the page. If a block marked as text comes next, before any other block and any
// heading, it is what they print: their standard output and standard error. In it, … is any part of a line, a line of …
// alone any lines, any time may be another one, and a column may be wider.
//
// A program in Go is in main.go for the commands after it. GOWORK is set, so go run main.go has this checkout's
// modules. The commands find in PATH the operator's command, and dhcpalloc and ipallocctl of the examples; in CNI_PATH
// the CNI plugin; and in CLONE this checkout. The variables of servers are set where they are used.
//
// A block is left out if its first line, or the line above it, has the words "not run by CI:" and the reason.
func TestGuides(t *testing.T) {
	bin := buildPrograms(t)
	pages, err := filepath.Glob("../../docs/guides/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	for _, page := range append(pages, "../../README.md", "../../docs/command.md") {
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) {
			t.Parallel()
			runPage(t, page, bin)
		})
	}
}

// runPage runs the commands of a page.
func runPage(t *testing.T, page, bin string) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	script, shown := parse(t, string(text))
	if len(shown) == 0 {
		return
	}
	printed, err := run(t, script, bin)
	for i := range shown {
		if i >= len(printed) {
			break
		}
		shown[i].printed = printed[i]
	}
	if err != nil {
		last := shown[max(len(printed), 1)-1]
		require.NoError(t, err, "%s:%d: these commands:\n%s\nprint\n%s", page, last.Line, last.Text, last.printed)
	}
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(written(string(text), shown)), 0o644))
		return
	}
	for _, b := range shown {
		if b.want != nil && !matches(b.want.Text, b.printed) {
			require.Equal(t, b.want.Text, b.printed, "%s:%d: these commands print something else:\n%s",
				page, b.Line, b.Text)
		}
	}
}

// commands is a block of commands that is run.
type commands struct {
	markdown.Block
	want    *markdown.Block // what it prints according to the page; nil if the page does not say
	printed string
}

var leftOut = regexp.MustCompile(`(?i)not run by CI: \S+`)

// mark is what the script prints before each block.
const mark = "\n@@ the next block @@\n"

// parse returns the script of a page and its blocks of commands.
func parse(t *testing.T, text string) (script string, shown []commands) {
	t.Helper()
	var s strings.Builder
	s.WriteString("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n") // what a page leaves behind
	lines := strings.Split(text, "\n")

	var before markdown.Block // the block before this one
	end := 0                  // the number of lines before its closing fence
	program := 0              // the line of a program that was not run yet
	for _, b := range markdown.Blocks(text) {
		first, _, _ := strings.Cut(b.Text, "\n")
		switch {
		case b.Language == "go" && strings.HasPrefix(b.Text, "package main\n"):
			program = b.Line
			fmt.Fprintf(&s, "cat >main.go <<'END OF PROGRAM'\n%sEND OF PROGRAM\n", b.Text)
		case b.Language == "sh" && (leftOut.MatchString(b.Before) || leftOut.MatchString(first)):
			b.Language = "left out"
		case b.Language == "sh":
			if strings.Contains(b.Text, "go run main.go") {
				program = 0
			}
			fmt.Fprintf(&s, "printf %%s %s\n%s", quote(mark), b.Text)
			shown = append(shown, commands{Block: b})
		case b.Language == "text" && before.Language == "sh" && !slices.ContainsFunc(lines[end:b.Line], isHeading):
			shown[len(shown)-1].want = &b
		default:
			require.NotContains(t, []string{"bash", "shell", "console"}, b.Language, "line %d: mark it as sh", b.Line)
		}
		before, end = b, b.Line+strings.Count(b.Text, "\n")
	}
	require.Zero(t, program, "no command runs the program in this line: go run main.go")
	return s.String(), shown
}

func isHeading(line string) bool { return strings.HasPrefix(line, "#") }

func quote(text string) string { return "$'" + strings.ReplaceAll(text, "\n", `\n`) + "'" }

// run runs a script in a folder of its own, and returns what each of its blocks prints.
func run(t *testing.T, script, bin string) ([]string, error) {
	dir, checkout := t.TempDir(), checkout(t)
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	require.NoError(t, err)
	defer output.Close()
	ctx, cancel := context.WithTimeout(t.Context(), pageTime)
	defer cancel()
	postgres, _ := servertest.PostgresFolder() // a page that needs it is skipped without it, by its server
	c := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	c.Dir, c.Stdout, c.Stderr = dir, output, output
	c.WaitDelay = time.Minute
	c.Env = append(os.Environ(), "HOME="+dir, "GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"),
		"GOWORK="+filepath.Join(checkout, "go.work"), "CLONE="+checkout, "CNI_PATH="+filepath.Join(bin, "cni"),
		"PATH="+strings.Join([]string{bin, postgres, os.Getenv("PATH")}, string(os.PathListSeparator)),
		"IPALLOC_STORE=", "KUBECONFIG=", "LC_ALL=C.UTF-8", "TZ=UTC")
	for _, name := range []string{"kubectl", "sqlite3", "psql"} {
		if regexp.MustCompile(`(?m)(^|[|(] *)` + name + ` `).MatchString(script) {
			needProgram(t, name, c.Env)
		}
	}
	for _, server := range servers {
		if strings.Contains(script, server.words) {
			c.Env = append(c.Env, server.variable+"="+server.start(t))
		}
	}
	failure := c.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		failure = fmt.Errorf("not done after %s", pageTime)
	}
	text, err := os.ReadFile(output.Name())
	require.NoError(t, err)
	// Programs name the folder that they are in, which differs from run to run.
	printed := strings.ReplaceAll(string(text), dir, "/home/you")
	return strings.Split(printed, mark)[1:], failure
}

// needProgram skips the test if a program is not installed, unless this is CI.
func needProgram(t *testing.T, name string, env []string) {
	t.Helper()
	c := exec.Command("bash", "-c", "command -v "+name)
	c.Env = env
	if err := c.Run(); err != nil {
		servertest.Require(t, fmt.Errorf("%s: %w", name, servertest.ErrNotInstalled))
	}
}

func checkout(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	require.NoError(t, err)
	return dir
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	value, err := exec.Command("go", "env", name).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(value))
}

// buildPrograms builds what the commands call, and returns the folder.
func buildPrograms(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	for name, folder := range map[string]string{
		"ipalloc": "cmd/ipalloc", "cni/ipalloc": "examples/cni/cmd/ipalloc",
		"ipallocctl": "examples/cni/cmd/ipallocctl", "dhcpalloc": "examples/dhcp",
	} {
		build := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(bin, name), ".")
		build.Dir = filepath.Join(checkout(t), folder)
		output, err := build.CombinedOutput()
		require.NoError(t, err, "%s: %s", folder, output)
	}
	return bin
}

var (
	spaces    = regexp.MustCompile(` +`)
	times     = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	durations = regexp.MustCompile(`\b\d+(\.\d+)?(ns|µs|ms|s ago)`)
)

// someTime stands for each time in what commands print.
const someTime = "2026-05-06T07:08:09Z"

// matches reports whether what was printed is what a page shows.
func matches(want, printed string) bool {
	var pattern strings.Builder
	for line := range strings.Lines(tidy(want)) {
		if line == "…\n" {
			pattern.WriteString(`(.*\n)*?`)
			continue
		}
		parts := strings.Split(spaces.ReplaceAllString(line, " "), "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		pattern.WriteString(strings.Join(parts, `.*?`))
	}
	return regexp.MustCompile("^" + pattern.String() + "$").
		MatchString(spaces.ReplaceAllString(tidy(printed), " "))
}

// tidy returns text with all times the same, without spaces at the ends of lines, and with one newline at its end.
func tidy(text string) string {
	text = times.ReplaceAllString(text, someTime)
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// written returns a page with what its commands have printed, where that is not what it says.
func written(text string, shown []commands) string {
	lines := strings.SplitAfter(text, "\n")
	for _, b := range slices.Backward(shown) {
		if b.want == nil || matches(b.want.Text, b.printed) {
			continue
		}
		printed := durations.ReplaceAllString(tidy(b.printed), "…")
		var block []string
		for line := range strings.Lines(printed) {
			block = append(block, b.want.Indent+line)
		}
		lines = slices.Replace(lines, b.want.Line, b.want.Line+strings.Count(b.want.Text, "\n"), block...)
	}
	return strings.Join(lines, "")
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		want, printed string
		ok            bool
	}{
		{"a\n", "a\n", true},
		{"a\n", "a  \n\n", true},
		{"a b\n", "a    b\n", true},
		{"a\n", "ab\n", false},
		{"a\n", "a\nb\n", false},
		{"at …, b\n", "at 12:00, b\n", true},
		{"at …, b\n", "at 12:00\n, b\n", false},
		{"a\n…\nb\n", "a\n1\n2\nb\n", true},
		{"a\n…\nb\n", "a\nb\n", true},
		{"a\n…\nb\n", "a\n1\n", false},
		{"a.\n", "ab\n", false},
		{"at 2026-05-06T07:08:09Z\n", "at 2030-01-02T03:04:05.678Z\n", true},
	} {
		require.Equal(t, c.ok, matches(c.want, c.printed), "%q, %q", c.want, c.printed)
	}
}

func TestParse(t *testing.T) {
	page := strings.ReplaceAll(`
'''sh
one
'''

prints

'''text
1
'''
'''yaml
x: 1
'''
'''text
of the file
'''
'''sh
# Not run by CI: it needs a cluster.
two
'''
'''text
of what is left out
'''
<!-- not run by CI: no release -->
'''sh
three
'''
'''sh
four
'''
## Another one
'''text
of another one
'''
`, "'", "`")
	script, shown := parse(t, page)
	require.Len(t, shown, 2)
	require.Equal(t, "one\n", shown[0].Text)
	require.Equal(t, "1\n", shown[0].want.Text)
	require.Equal(t, "four\n", shown[1].Text)
	require.Nil(t, shown[1].want)
	require.NotContains(t, script, "two")
	require.NotContains(t, script, "three")
}
