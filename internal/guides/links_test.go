package guides_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	marks   = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// TestLinks follows each link within the repository, in all Markdown files: to a file or folder, and to a heading.
func TestLinks(t *testing.T) {
	root := checkout(t)
	links := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "testdata" || entry.Name() != "." && strings.HasPrefix(entry.Name(), ".")) {
			return fs.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			links += checkLinks(t, path)
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, links, 100)
}

// checkLinks returns how many links a file has into the repository.
func checkLinks(t *testing.T, page string) (links int) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	// A link may be broken over two lines; its address has no spaces.
	for _, match := range link.FindAllStringSubmatch(strings.ReplaceAll(string(text), "]\n(", "]("), -1) {
		file, name, _ := strings.Cut(match[1], "#")
		if strings.Contains(file, ":") {
			continue
		}
		links++
		target := page
		if file != "" {
			target = filepath.Join(filepath.Dir(page), filepath.FromSlash(file))
		}
		_, err := os.Stat(target)
		if assert.NoError(t, err, "%s: the link to %s", page, match[1]) && name != "" {
			assert.Contains(t, headings(t, target), name, "%s: the link to %s", page, match[1])
		}
	}
	return links
}

// headings returns the names by which the headings of a page are linked to.
func headings(t *testing.T, page string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, match := range heading.FindAllStringSubmatch(string(text), -1) {
		name := marks.ReplaceAllString(strings.ToLower(match[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
