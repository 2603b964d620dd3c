package metrics_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ipalloc/ipalloc/internal/unmet"
)

// promtool runs Prometheus' tool. Where there is none the test is skipped, but in CI it fails.
func promtool(t *testing.T, input string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	unmet.Skip(t, err) // Debian's package prometheus has it
	command := exec.CommandContext(t.Context(), path, args...)
	command.Stdin = strings.NewReader(input)
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s", output)
}

// ruleFile is what a file of rules holds.
type ruleFile struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []rule `yaml:"rules"`
	} `yaml:"groups"`
}

type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func rules(t *testing.T) []rule {
	t.Helper()
	text, err := os.ReadFile("alerts.yaml")
	require.NoError(t, err)
	var file ruleFile
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&file))
	require.Len(t, file.Groups, 1)
	return file.Groups[0].Rules
}

func TestAlertRulesAreValid(t *testing.T) {
	promtool(t, "", "check", "rules", "alerts.yaml")
	names := map[string]bool{}
	for _, r := range rules(t) {
		require.Regexp(t, "^IPAlloc[A-Z][A-Za-z]+$", r.Alert)
		require.False(t, names[r.Alert], r.Alert)
		names[r.Alert] = true
		require.Contains(t, []string{"critical", "warning", "info"}, r.Labels["severity"])
		require.NotEmpty(t, r.Annotations["summary"])
		require.NotEmpty(t, r.Annotations["description"])
	}
	for _, s := range scenarios() {
		for _, c := range s.checks {
			for _, f := range c.firing {
				delete(names, f.alert)
			}
		}
	}
	require.Empty(t, names, "alerts that fire in no scenario")
}

// What promtool reads to test rules.
type (
	ruleTests struct {
		RuleFiles []string    `json:"rule_files"`
		Interval  string      `json:"evaluation_interval"`
		Tests     []ruleGroup `json:"tests"`
	}
	ruleGroup struct {
		Name     string       `json:"name"`
		Interval string       `json:"interval"`
		Series   []ruleSeries `json:"input_series"`
		Alerts   []alertTest  `json:"alert_rule_test"`
	}
	ruleSeries struct {
		Series string `json:"series"`
		Values string `json:"values"`
	}
	alertTest struct {
		At     string          `json:"eval_time"`
		Alert  string          `json:"alertname"`
		Expect []expectedAlert `json:"exp_alerts"`
	}
	expectedAlert struct {
		Labels      map[string]string `json:"exp_labels"`
		Annotations map[string]string `json:"exp_annotations"`
	}
)

// TestAlertsFire has promtool evaluate the rules on what two processes export that see the same store. In each scenario
// the alerts that belong to it fire, once and with the right text, and no others, and end after it.
func TestAlertsFire(t *testing.T) {
	path, err := filepath.Abs("alerts.yaml")
	require.NoError(t, err)
	tests, read := ruleTests{RuleFiles: []string{path}, Interval: "1m"}, map[string]bool{}
	for _, r := range rules(t) {
		for _, s := range selector.FindAllStringSubmatch(r.Expr, -1) {
			read[s[1]] = true
		}
	}
	for _, s := range scenarios() {
		group := ruleGroup{Name: s.name, Interval: "1m"}
		seen := s.run(t)
		for _, series := range slices.Sorted(maps.Keys(seen.values)) {
			if !read[selector.FindStringSubmatch(series)[1]] {
				continue
			}
			for _, instance := range []string{"a", "b"} {
				group.Series = append(group.Series,
					ruleSeries{of(series, instance), strings.Join(seen.values[series], " ")})
			}
		}
		for _, c := range s.checks {
			require.Less(t, c.minute, s.minutes)
			for _, r := range rules(t) {
				group.Alerts = append(group.Alerts, c.expect(r))
			}
		}
		tests.Tests = append(tests.Tests, group)
	}
	text, err := json.Marshal(tests)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "test.json")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	promtool(t, "", "test", "rules", file)
}

// expect is what is expected of an alert at the minute of the check.
func (c *check) expect(r rule) alertTest {
	test := alertTest{At: fmt.Sprint(c.minute, "m"), Alert: r.Alert, Expect: []expectedAlert{}}
	for _, f := range c.firing {
		if f.alert != r.Alert {
			continue
		}
		labels := map[string]string{"severity": r.Labels["severity"], "job": "agent"}
		maps.Copy(labels, f.labels)
		annotations := maps.Clone(r.Annotations)
		annotations["summary"] = f.summary
		test.Expect = append(test.Expect, expectedAlert{labels, annotations})
	}
	return test
}

// selector is what an expression reads: a metric and what its labels must be.
var (
	selector = regexp.MustCompile(`(ipalloc_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(?:by|without|ignoring|on) \(([^)]*)\)`)
)

// exported is what the real collector exports in all scenarios: the values of each label, by metric.
type exported map[string]map[string]map[string]bool

func exportedInScenarios(t *testing.T) exported {
	t.Helper()
	all := exported{}
	for _, s := range scenarios() {
		s.minutes = min(s.minutes, 60)
		for series := range s.run(t).values {
			parts := selector.FindStringSubmatch(of(series, "a"))
			if all[parts[1]] == nil {
				all[parts[1]] = map[string]map[string]bool{}
			}
			for _, label := range matcher.FindAllStringSubmatch(parts[2], -1) {
				if all[parts[1]][label[1]] == nil {
					all[parts[1]][label[1]] = map[string]bool{}
				}
				all[parts[1]][label[1]][label[3]] = true
			}
		}
	}
	return all
}

// requireExported checks that an expression reads only metrics, labels and values that the collector exports.
func (e exported) requireExported(t *testing.T, expr string) {
	t.Helper()
	selectors := selector.FindAllStringSubmatch(expr, -1)
	require.NotEmpty(t, selectors, expr)
	labels := map[string]bool{}
	for _, s := range selectors {
		require.Contains(t, e, s[1], expr)
		for label := range e[s[1]] {
			labels[label] = true
		}
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			require.Contains(t, e[s[1]], m[1], expr)
			if strings.HasPrefix(m[3], "$") {
				continue // a variable of the dashboard
			}
			for value := range strings.SplitSeq(m[3], "|") {
				require.Contains(t, e[s[1]][m[1]], value, expr)
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(g[1], ", ") {
			require.Contains(t, labels, label, expr)
		}
	}
}

func TestAlertsReadWhatIsExported(t *testing.T) {
	all := exportedInScenarios(t)
	for _, r := range rules(t) {
		all.requireExported(t, r.Expr)
		for _, text := range r.Annotations {
			for _, label := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
				metric := selector.FindStringSubmatch(r.Expr)[1]
				require.Contains(t, all[metric], label[1], r.Alert)
			}
		}
	}
}
