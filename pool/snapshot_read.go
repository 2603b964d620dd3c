package pool

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// A large export is nearly all allocations. Package json takes several times as long for these as what follows, which
// reads them only if each is written as [Snapshot.MarshalJSON] and [Pool.Export] write it, with any white space. All
// else is left to package json, and so is every error.

// readExport returns what [readSnapshot] does, if the text ends with the list of allocations and these are as said.
func readExport(b []byte) (s Snapshot, ok bool) {
	const member = `"allocations":`
	at := bytes.Index(b, []byte(member))
	if at < 0 {
		return s, false
	}
	s, err := readSnapshot(slices.Concat(b[:at], []byte(member+"[]}")))
	if err != nil {
		return s, false
	}
	in := exportText{rest: b[at+len(member):]}
	in.allocations(&s)
	in.want("}")
	in.space()
	return s, !in.failed && len(in.rest) == 0
}

// exportText reads JSON from its beginning on. After it has failed, nothing that it returns counts.
type exportText struct {
	rest   []byte
	failed bool
	first  bool // the next member of an object is its first one
}

func (in *exportText) space() {
	for len(in.rest) > 0 && (in.rest[0] == ' ' || in.rest[0] == '\n' || in.rest[0] == '\r' || in.rest[0] == '\t') {
		in.rest = in.rest[1:]
	}
}

// has passes the token, and white space before it, if that comes next. It reports whether it does.
func (in *exportText) has(token string) bool {
	in.space()
	if len(in.rest) < len(token) || string(in.rest[:len(token)]) != token {
		return false
	}
	in.rest = in.rest[len(token):]
	return true
}

// want passes the token, which must come next.
func (in *exportText) want(token string) { in.failed = !in.has(token) || in.failed }

// member passes a name and what is around it, if the next member has that name. It reports whether it does.
func (in *exportText) member(name string) bool {
	before := in.rest
	if (in.first || in.has(",")) && in.has(name) && in.has(":") {
		in.first = false
		return true
	}
	in.rest = before
	return false
}

// each calls do for each member of a list between two tokens.
func (in *exportText) each(begin, end string, do func(i int)) {
	in.want(begin)
	for i := 0; !in.failed && !in.has(end); i++ {
		if i > 0 {
			in.want(",")
		}
		do(i)
	}
}

// quoted passes a string, and returns what is between the quotes.
func (in *exportText) quoted() []byte {
	in.want(`"`)
	for i := 0; i < len(in.rest); i++ {
		switch c := in.rest[i]; {
		case c == '"':
			text := in.rest[:i]
			in.rest = in.rest[i+1:]
			return text
		case c == '\\':
			i++
		case c < ' ':
			in.failed = true
			return nil
		}
	}
	in.failed = true
	return nil
}

// text passes a string, and returns what it says.
func (in *exportText) text() []byte {
	raw := in.quoted()
	if bytes.IndexByte(raw, '\\') < 0 {
		in.failed = in.failed || !utf8.Valid(raw)
		return raw
	}
	s := strict{text: slices.Concat([]byte(`"`), raw, []byte(`"`))}
	if !json.Valid(s.text) {
		in.failed = true
		return nil
	}
	text, err := s.str()
	in.failed = in.failed || err != nil
	return []byte(text)
}

// state is text, which is mostly the same.
func (in *exportText) state() string {
	if text := in.text(); string(text) != stateAllocated {
		return string(text)
	}
	return stateAllocated
}

func (in *exportText) number() int64 {
	in.space()
	end := 0
	for end < len(in.rest) && (in.rest[end] == '-' || in.rest[end] >= '0' && in.rest[end] <= '9') {
		end++
	}
	n, err := strconv.ParseInt(string(in.rest[:end]), 10, 64)
	var again [20]byte
	in.failed = in.failed || err != nil || !bytes.Equal(strconv.AppendInt(again[:0], n, 10), in.rest[:end])
	in.rest = in.rest[end:]
	return n
}

func (in *exportText) time() (t time.Time) {
	in.failed = t.UnmarshalText(in.quoted()) != nil || in.failed // package json takes no escapes here either
	return t
}

func (in *exportText) flag() bool {
	set := in.has("true")
	in.failed = in.failed || !set && !in.has("false")
	return set
}

func (in *exportText) prefixes() []netip.Prefix {
	prefixes := make([]netip.Prefix, 0, 1)
	in.each("[", "]", func(int) {
		var p netip.Prefix
		in.failed = p.UnmarshalText(in.text()) != nil || in.failed
		prefixes = append(prefixes, p)
	})
	return prefixes
}

func (in *exportText) labels() map[string]string {
	labels := map[string]string{}
	in.each("{", "}", func(i int) {
		name := string(in.text())
		in.want(":")
		labels[name] = string(in.text())
		in.failed = in.failed || len(labels) <= i // it is there twice
	})
	return labels
}

// allocations adds the allocations of a list to s.
func (in *exportText) allocations(s *Snapshot) {
	const sample = 64 // by which their number is estimated
	whole := len(in.rest)
	in.each("[", "]", func(i int) {
		a := in.allocation()
		h, err := a.holding()
		in.failed = in.failed || err != nil
		s.add(&h)
		if i == sample {
			s.Allocations = slices.Grow(s.Allocations, len(in.rest)/((whole-len(in.rest))/sample))
		}
	})
	s.Holders = len(s.Allocations)
}

func (in *exportText) allocation() (a allocationText) {
	in.want("{")
	in.first = true
	if in.member(`"owner"`) {
		a.Owner = string(in.text())
	}
	if in.member(`"state"`) {
		a.State = in.state()
	}
	if in.member(`"prefixes"`) {
		a.Prefixes = in.prefixes()
	}
	if in.member(`"generation"`) {
		a.Generation = in.number()
	}
	if in.member(`"created"`) {
		a.Created = in.time()
	}
	if in.member(`"expires"`) {
		a.Expires = in.time()
	}
	if in.member(`"scope"`) {
		a.Scope = string(in.text())
	}
	if in.member(`"share"`) {
		a.Share = string(in.text())
	}
	if in.member(`"labels"`) {
		a.Labels = in.labels()
	}
	if in.member(`"child"`) {
		a.Child = string(in.text())
	}
	if in.member(`"reserved"`) {
		a.Reserved = in.flag()
	}
	in.want("}")
	return a
}
