package metrics_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// dashboard is what the tests look at in the file for Grafana.
type dashboard struct {
	Title      string  `json:"title"`
	UID        string  `json:"uid"`
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name       string `json:"name"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
}

type panel struct {
	ID          int        `json:"id"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Datasource  datasource `json:"datasource"`
	Grid        grid       `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []struct {
		RefID      string     `json:"refId"`
		Expr       string     `json:"expr"`
		Legend     string     `json:"legendFormat"`
		Datasource datasource `json:"datasource"`
	} `json:"targets"`
}

type datasource struct {
	UID string `json:"uid"`
}

type grid struct{ X, Y, W, H int }

func (g grid) overlaps(other grid) bool {
	return g.X < other.X+other.W && other.X < g.X+g.W && g.Y < other.Y+other.H && other.Y < g.Y+g.H
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile("dashboard.json")
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(text, &d))
	return d
}

func TestDashboardIsWhole(t *testing.T) {
	d := readDashboard(t)
	require.NotEmpty(t, d.Title)
	require.NotEmpty(t, d.UID)
	variables := map[string]bool{"__rate_interval": true}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
	}
	for i, p := range d.Panels {
		require.Equal(t, i+1, p.ID)
		require.NotEmpty(t, p.Title)
		require.NotEmpty(t, p.Description)
		require.NotEmpty(t, p.FieldConfig.Defaults.Unit)
		require.Equal(t, "${datasource}", p.Datasource.UID)
		require.LessOrEqual(t, p.Grid.X+p.Grid.W, 24)
		for _, other := range d.Panels[:i] {
			require.False(t, p.Grid.overlaps(other.Grid), "%s and %s", p.Title, other.Title)
		}
		require.NotEmpty(t, p.Targets)
		for j, target := range p.Targets {
			require.Equal(t, string(rune('A'+j)), target.RefID)
			require.Equal(t, "${datasource}", target.Datasource.UID)
			for _, variable := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
				require.Contains(t, variables, variable[1])
			}
		}
	}
}

// TestDashboardReadsWhatIsExported also expects that each metric is on the dashboard.
func TestDashboardReadsWhatIsExported(t *testing.T) {
	all, shown := exportedInScenarios(t), map[string]bool{}
	d := readDashboard(t)
	for _, v := range d.Templating.List {
		if v.Definition != "" {
			asked := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(v.Definition)
			require.NotNil(t, asked, v.Definition)
			require.Contains(t, all[asked[1]], asked[2])
		}
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all.requireExported(t, target.Expr)
			for _, s := range selector.FindAllStringSubmatch(target.Expr, -1) {
				shown[strings.TrimSuffix(s[1], "_bucket")] = true
			}
			for _, label := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(target.Legend, -1) {
				require.Contains(t, all[selector.FindStringSubmatch(target.Expr)[1]], label[1], p.Title)
			}
		}
	}
	for metric := range all {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(metric, "")
		require.Contains(t, shown, base)
	}
}

// TestDashboardExpressionsAreValid has promtool parse them, as rules.
func TestDashboardExpressionsAreValid(t *testing.T) {
	var rules []map[string]string
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$pool", ".*").Replace(target.Expr)
			rules = append(rules, map[string]string{"record": fmt.Sprint("panel:", p.ID, target.RefID), "expr": expr})
		}
	}
	text, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "panels", "rules": rules}}})
	require.NoError(t, err)
	file := t.TempDir() + "/rules.json"
	require.NoError(t, os.WriteFile(file, text, 0o600))
	promtool(t, "", "check", "rules", file)
}

// TestMetricsAreGoodForPromtool has promtool look at what is exported.
func TestMetricsAreGoodForPromtool(t *testing.T) {
	for _, s := range scenarios() {
		if s.name == "calls fail" {
			s.minutes = 5
			promtool(t, s.run(t).text, "check", "metrics")
		}
	}
}
