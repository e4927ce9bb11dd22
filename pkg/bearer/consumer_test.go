package bearer_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConsumer builds a back end outside of this repository. It checks the promised cost
// of importing this package: golang-jwt is the only dependency, Go 1.22 is enough, and no
// package of the service comes along.
func TestConsumer(t *testing.T) {
	t.Parallel()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const before = `module shop.example/orders

go 1.22

require github.com/yufu-auth/yufu/pkg/bearer v0.0.0

`
	replace := "replace github.com/yufu-auth/yufu/pkg/bearer => " + here + "\n"
	for name, content := range map[string]string{
		"go.mod": before + replace,
		"main.go": `package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/yufu-auth/yufu/pkg/bearer"
)

func main() {
	v, err := bearer.New(context.Background(), bearer.Config{Issuer: "http://127.0.0.1:1", Apps: []string{"wxdevelopment0001"}, TokenMemory: 1 << 20})
	if err != nil {
		panic(err)
	}
	defer v.Close()
	http.Handle("/orders", v.Require(http.NotFoundHandler()))
	_, err = v.Verify(context.Background(), "junk")
	fmt.Print(errors.Is(err, bearer.ErrInvalid))
}
`,
		"main_test.go": `package main

import (
	"context"
	"testing"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/bearertest"
)

func TestOrders(t *testing.T) {
	yufu := bearertest.New(t)
	if _, err := yufu.Verifier().Verify(context.Background(), yufu.Token(bearer.Claims{})); err != nil {
		t.Error(err)
	}
}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		// Use only the module cache, which this module's own tests have filled.
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOSUMDB=off", "GOTOOLCHAIN=local", "GOWORK=off", "CGO_ENABLED=0")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
		}
		return string(out)
	}
	run("mod", "tidy")
	if got := run("run", "."); got != "true" {
		t.Errorf("the program printed %q", got)
	}
	run("test", "./...")

	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got, want := read("go.mod"), before+"require github.com/golang-jwt/jwt/v5 v5.3.1 // indirect\n\n"+replace; got != want {
		t.Errorf("go.mod is\n%s\nwant\n%s", got, want)
	}
	const sums = `github.com/golang-jwt/jwt/v5 v5.3.1 h1:kYf81DTWFe7t+1VvL7eS+jKFVWaUnK9cB1qbwn63YCY=
github.com/golang-jwt/jwt/v5 v5.3.1/go.mod h1:fxCRLWMO43lRc8nhHWY6LGqRcf+1gQWArsqaEUEa5bE=
`
	if got := read("go.sum"); got != sums {
		t.Errorf("go.sum is\n%s", got)
	}
	for _, pkg := range strings.Fields(run("list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")) {
		switch pkg {
		case "shop.example/orders", "github.com/golang-jwt/jwt/v5",
			"github.com/yufu-auth/yufu/pkg/bearer", "github.com/yufu-auth/yufu/pkg/bearer/cutoff":
		default:
			t.Errorf("importing this package also imports %s", pkg)
		}
	}
	const modules = "shop.example/orders\ngithub.com/golang-jwt/jwt/v5\ngithub.com/yufu-auth/yufu/pkg/bearer\n"
	if got := run("list", "-m", "-f", "{{.Path}}", "all"); got != modules {
		t.Errorf("the modules are\n%s", got)
	}
}
