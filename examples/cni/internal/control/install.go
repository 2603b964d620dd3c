package control

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// install puts the plugin, and what it needs to reach the Kubernetes API, on a node. A runtime may start the plugin at
// any time, so each file is there whole or not at all.
func (c *Control) install(_ context.Context, args []string) error {
	flags := c.newFlags("install")
	plugin := flags.String("plugin", "", "the `file` of the plugin")
	to := flags.String("to", "", "the `file` to install it as, such as /opt/cni/bin/ipalloc")
	kubeconfig := flags.String("kubeconfig", "", "the `file` to write for the plugin, if it is to use the Kubernetes API")
	server := flags.String("server", "", "the `URL` of the API server")
	token := flags.String("token", "", "the `file` with the plugin's token")
	ca := flags.String("ca", "", "the `file` with the certificate of the API server's authority")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *plugin == "" || *to == "" {
		return fmt.Errorf("%w: -plugin or -to is missing", ErrUsage)
	}
	if *kubeconfig != "" {
		text, err := kubeconfigOf(*server, *token, *ca)
		if err != nil {
			return err
		}
		if err := replace(*kubeconfig, 0o600, strings.NewReader(text)); err != nil {
			return err
		}
	}
	program, err := os.Open(*plugin)
	if err != nil {
		return err
	}
	defer program.Close()
	return replace(*to, 0o755, program)
}

// kubeconfigOf is a file that says how to reach an API server with a token.
func kubeconfigOf(server, tokenFile, caFile string) (string, error) {
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return "", err
	}
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return "", err
	}
	type m = map[string]any
	text, err := json.MarshalIndent(m{
		"apiVersion": "v1", "kind": "Config", "current-context": "ipalloc",
		"clusters": []m{{"name": "cluster", "cluster": m{
			"server": server, "certificate-authority-data": base64.StdEncoding.EncodeToString(ca)}}},
		"users":    []m{{"name": "ipalloc", "user": m{"token": strings.TrimSpace(string(token))}}},
		"contexts": []m{{"name": "ipalloc", "context": m{"cluster": "cluster", "user": "ipalloc"}}},
	}, "", "  ")
	return string(text), err
}

// replace writes a file under another name in the same folder, and then renames it.
func replace(path string, mode os.FileMode, from io.Reader) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".ipalloc-")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, err = io.Copy(temporary, from)
	if err = errors.Join(err, temporary.Chmod(mode), temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
