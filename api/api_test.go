package api_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/yufu-auth/yufu/api"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// load parses the contract.
func load(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI())
	if err != nil {
		t.Fatalf("openapi.yaml does not load: %v", err)
	}
	return doc
}

func TestContract(t *testing.T) {
	t.Parallel()
	doc := load(t)

	t.Run("the document is valid OpenAPI", func(t *testing.T) {
		t.Parallel()
		if err := doc.Validate(t.Context(), openapi3.IsOpenAPI31OrLater()); err != nil {
			t.Error(err)
		}
	})

	t.Run("the document lists every error code and no other", func(t *testing.T) {
		t.Parallel()
		var listed, want []string
		for _, v := range doc.Components.Schemas["Code"].Value.Enum {
			listed = append(listed, v.(string))
		}
		for _, code := range auth.Codes() {
			want = append(want, string(code))
		}
		if !slices.Equal(listed, want) {
			t.Errorf("the enum of the schema Code is\n%q, want the codes of pkg/auth in their order\n%q", listed, want)
		}
	})

	t.Run("no secret is in a URL", func(t *testing.T) {
		t.Parallel()
		secrets := []string{"ticket", "code", "token", "access_token", "refresh_token", "secret", "key", "password", "session_key"}
		seen := 0
		for path, item := range doc.Paths.Map() {
			for method, op := range item.Operations() {
				for _, p := range append(slices.Clone(item.Parameters), op.Parameters...) {
					seen++
					if p.Value.In != "header" && slices.Contains(secrets, p.Value.Name) {
						t.Errorf("%s %s takes %s in its %s, which proxies log", method, path, p.Value.Name, p.Value.In)
					}
				}
			}
		}
		if seen == 0 {
			t.Error("the contract has no parameters to check")
		}
	})

	t.Run("every component is used", func(t *testing.T) {
		t.Parallel()
		text := string(api.OpenAPI())
		for kind, names := range map[string][]string{
			"schemas":   keys(doc.Components.Schemas),
			"responses": keys(doc.Components.Responses),
			"headers":   keys(doc.Components.Headers),
		} {
			for _, name := range names {
				if !strings.Contains(text, "'#/components/"+kind+"/"+name+"'") {
					t.Errorf("nothing refers to components/%s/%s", kind, name)
				}
			}
		}
	})
}

// schemas says which schema an example follows, by the first word of its name.
var schemas = map[string]string{
	"token":    "TokenResponse",
	"refresh":  "TokenResponse",
	"me":       "Me",
	"sessions": "Sessions",
	"binding":  "Binding",

	"ticketpreview": "TicketPreview",
	"bound":         "BindingGrant",
	"unbound":       "BindingGrant",

	"introspection": "Introspection",
	"revocation":    "Revocation",
	"newservicekey": "NewServiceKey",
	"servicekeys":   "ServiceKeyList",
	"signingkeys":   "SigningKeyList",
	"rotation":      "Rotation",
	"retirement":    "Retirement",
	"person":        "PersonRecord",
	"persons":       "PersonList",
	"importresult":  "ImportResult",
	"bindticket":    "BindTicket",
	"identity":      "IdentityRecord",
	"identities":    "IdentityList",
	"adminsession":  "SessionRecord",
	"adminsessions": "SessionList",
	"app":           "AppRecord",
	"apps":          "AppList",
	"appoutcome":    "AppOutcome",
	"bindingdelays": "BindingDelayList",

	"metadata": "Metadata",
	"jwks":     "JWKS",
	"health":   "Health",
	"error":    "OAuthError",
	"problem":  "Problem",
}

func TestExamples(t *testing.T) {
	t.Parallel()
	doc := load(t)
	files, err := os.ReadDir("examples")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(file.Name(), ".json")
		kind, _, _ := strings.Cut(name, "-")
		seen[kind] = true
		t.Run(name+" follows its schema", func(t *testing.T) {
			t.Parallel()
			schema := schemas[kind]
			if schema == "" {
				t.Fatalf("schemas has no entry for examples named %s", kind)
			}
			example := decode(t, name)
			if err := visit(doc, schema, example); err != nil {
				t.Errorf("%s is not a %s: %v", file.Name(), schema, err)
			}
			// The check must be able to fail.
			for _, member := range doc.Components.Schemas[schema].Value.Required {
				broken := decode(t, name)
				delete(broken, member)
				if err := visit(doc, schema, broken); err == nil {
					t.Errorf("%s without %q is still a %s", file.Name(), member, schema)
				}
			}
		})
	}
	for kind := range schemas {
		if !seen[kind] {
			t.Errorf("there is no example of %s", kind)
		}
	}
}

func TestExample(t *testing.T) {
	t.Parallel()

	t.Run("an unknown name is an error", func(t *testing.T) {
		t.Parallel()
		if b, err := api.Example("nonsense"); err == nil {
			t.Errorf("got %d bytes and no error", len(b))
		}
	})
}

func decode(t *testing.T, name string) map[string]any {
	t.Helper()
	b, err := api.Example(name)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: decoding error = %v", name, err)
	}
	return v
}

func visit(doc *openapi3.T, schema string, v any) error {
	return doc.Components.Schemas[schema].Value.VisitJSON(v, openapi3.EnableJSONSchema2020(), openapi3.EnableFormatValidation())
}

func keys[V any](m map[string]V) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	return names
}
