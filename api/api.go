// Package api is the contract of Yufu's HTTP interface: openapi.yaml, and an
// example of every answer in examples/.
//
// It owns the wire format and does not serve it: the handlers are in the packages
// below this one, and tests check them against the contract. The examples are golden
// files, shared with client libraries. Both are embedded, so they cannot be missing at
// run time. It imports no package of Yufu.
package api

import (
	"embed"
	"fmt"
)

//go:embed openapi.yaml
var openAPI []byte

//go:embed examples/*.json
var examples embed.FS

// OpenAPI returns the contract: an OpenAPI 3.1 document in YAML. The caller
// owns the copy.
func OpenAPI() []byte { return append([]byte(nil), openAPI...) }

// Example returns the example of the given name, without folder and suffix:
// Example("token") is examples/token.json. It fails for an unknown name.
func Example(name string) ([]byte, error) {
	b, err := examples.ReadFile("examples/" + name + ".json")
	if err != nil {
		return nil, fmt.Errorf("api: no example %q: %w", name, err)
	}
	return b, nil
}
