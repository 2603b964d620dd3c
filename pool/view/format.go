package view

import (
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// format is what an answer is written in.
type format string

const (
	formatHTML format = "html"
	formatText format = "text"
	formatJSON format = "json"
	formatSVG  format = "svg"
)

// contentTypes are those of the answers.
var contentTypes = map[format]string{
	formatHTML: "text/html; charset=utf-8",
	formatText: "text/plain; charset=utf-8",
	formatJSON: "application/json",
	formatSVG:  "image/svg+xml",
}

// accepted are the formats by what a client accepts.
var accepted = map[string]format{
	"text/html": formatHTML, "application/xhtml+xml": formatHTML, "text/plain": formatText,
	"application/json": formatJSON, "image/svg+xml": formatSVG,
}

// formatOf returns the format of the answer: the one that the query names, or else the offered one
// that the client prefers. The default is HTML.
func formatOf(r *http.Request, offered ...format) (format, error) {
	if named := r.URL.Query().Get("format"); named != "" {
		if slices.Contains(offered, format(named)) {
			return format(named), nil
		}
		return "", badRequest(fmt.Sprintf("the format %q is none of %v", cut(named), offered))
	}
	best, quality := formatHTML, 0.0
	for _, part := range strings.Split(strings.Join(r.Header.Values("Accept"), ","), ",") {
		kind, parameters, err := mime.ParseMediaType(part)
		f, known := accepted[kind]
		if err != nil || !known || !slices.Contains(offered, f) {
			continue
		}
		q, err := strconv.ParseFloat(parameters["q"], 64)
		if err != nil {
			q = 1
		}
		if q > quality {
			best, quality = f, q
		}
	}
	return best, nil
}

// cut bounds what an answer quotes of a request.
func cut(text string) string {
	const most = 64
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
