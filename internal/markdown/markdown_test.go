package markdown_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/markdown"
)

func TestBlocks(t *testing.T) {
	text := strings.ReplaceAll(`# Title
'''go
a()
'''
'''sh
go test work
'''
* An item:

  ''''go title="x"
  b()
    '''go
  ''''
'''
'''
`, "'", "`")
	require.Equal(t, []markdown.Block{
		{Line: 2, Language: "go", Text: "a()\n", Before: "# Title"},
		{Line: 5, Language: "sh", Text: "go test work\n", Before: "```"},
		{Line: 10, Language: "go", Text: "b()\n  ```go\n", Indent: "  "},
		{Line: 14, Before: "  ````"},
	}, markdown.Blocks(text))
}
