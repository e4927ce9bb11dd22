package oauth

import (
	"encoding/json"
	"net/http"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// metadataDocument is RFC 8414. There is no authorization endpoint, so there is
// no response type to list, and an array without elements must be omitted
// (§3.2), although response_types_supported is required (§2): the stock clients
// that we test with (openid-client, oauth4webapi, go-oidc) accept a document without
// it, and a response type that does not work would mislead developers.
//
// There are no ID tokens. Software that checks access tokens as if they were ID
// tokens (go-oidc, and oauth2-proxy on top of it) takes the algorithms from
// id_token_signing_alg_values_supported (OpenID Connect Discovery 1.0 §3), and
// accepts only RS256 without it.
type metadataDocument struct {
	Issuer                string   `json:"issuer"`
	TokenEndpoint         string   `json:"token_endpoint"`
	JWKSURI               string   `json:"jwks_uri"`
	GrantTypes            []string `json:"grant_types_supported"`
	TokenAuthMethods      []string `json:"token_endpoint_auth_methods_supported"`
	RevocationEndpoint    string   `json:"revocation_endpoint"`
	RevocationAuthMethods []string `json:"revocation_endpoint_auth_methods_supported"`

	IntrospectionEndpoint    string   `json:"introspection_endpoint"`
	IntrospectionAuthMethods []string `json:"introspection_endpoint_auth_methods_supported"`

	SigningAlgs []string `json:"id_token_signing_alg_values_supported"`
}

func metadata(issuer string, grants []grantType) []byte {
	names := make([]string, 0, len(grants))
	for _, g := range grants {
		names = append(names, g.name)
	}
	b, err := json.Marshal(metadataDocument{
		Issuer:                issuer,
		TokenEndpoint:         issuer + "/oauth2/token",
		JWKSURI:               issuer + "/.well-known/jwks.json",
		GrantTypes:            names,
		TokenAuthMethods:      []string{"none"},
		RevocationEndpoint:    issuer + "/oauth2/revoke",
		RevocationAuthMethods: []string{"none"},

		IntrospectionEndpoint: issuer + "/oauth2/introspect",
		// A service key, in either form (RFC 8414 §2: methods of the token
		// endpoint's registry, or types of access tokens).
		IntrospectionAuthMethods: []string{"client_secret_basic", "Bearer"},
		SigningAlgs:              auth.SigningAlgs(),
	})
	if err != nil {
		panic(err) // strings always encode
	}
	return b
}

func (h *Handler) serveMetadata(w http.ResponseWriter, r *http.Request) {
	h.writePublic(w, r, h.metadata)
}

func (h *Handler) serveJWKS(w http.ResponseWriter, r *http.Request) error {
	set := h.keys.JWKS()
	if set == nil {
		return auth.StorageUnavailable
	}
	h.writePublic(w, r, set)
	return nil
}

var jsonType = []string{"application/json"}

// writePublic writes a document that any client may cache.
func (h *Handler) writePublic(w http.ResponseWriter, r *http.Request, body []byte) {
	web.EventOf(r.Context()).Routine = true
	header := w.Header()
	header["Content-Type"], header["Cache-Control"] = jsonType, h.cacheControl
	_, _ = w.Write(body) // the client may be gone
}
