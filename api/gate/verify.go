package gate

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/token"
)

// The headers that tell a back end who makes a request. A proxy removes them from
// client requests before it sets them.
const (
	HeaderUUID    = "X-Yufu-Uuid"
	HeaderSession = "X-Yufu-Session"
	HeaderApp     = "X-Yufu-App"
	// HeaderPerson is set only when the user is bound.
	HeaderPerson = "X-Yufu-Person"
	// HeaderExternalID is the business's own id of the person: percent-encoded
	// UTF-8, except for the unreserved characters of RFC 3986 §2.3. It is set when
	// the token has it.
	HeaderExternalID = "X-Yufu-External-Id"
	// HeaderError is the code of a refusal, for proxies that cannot forward the body
	// of an answer (the auth_request of nginx).
	HeaderError = "X-Yufu-Error"
)

// AccessTokens verifies access tokens from the memory of this replica. Implemented by
// a [token.Verifier] that has a staleness bound.
type AccessTokens interface {
	// Verify returns the claims of a token that is valid now. It does no I/O.
	//
	// Errors: [auth.TokenInvalid], [auth.TokenExpired], [auth.SessionRevoked],
	// and [auth.StorageUnavailable] when the cutoffs are too old to decide.
	Verify(ctx context.Context, accessToken string) (*token.Claims, error)
}

// Apps reports whether several apps are registered. Implemented by [app.Directory].
type Apps interface {
	// HasSeveral reports whether more than one app is registered. It does no I/O.
	//
	// Errors: [auth.StorageUnavailable] when the data in memory is too old and has at
	// most one app.
	HasSeveral() (bool, error)
}

// ForwardAuth serves GET /v1/verify: a proxy asks it about a request before it
// forwards the request. It answers from memory. [AnyRequest] lets proxies use other
// methods and longer paths.
type ForwardAuth struct {
	tokens AccessTokens
	apps   Apps
	cookie string
}

// NewForwardAuth returns the handler. The token may come in a cookie of the
// given name when there is no Authorization header; without a name it may not.
func NewForwardAuth(tokens AccessTokens, apps Apps, cookie string) *ForwardAuth {
	return &ForwardAuth{tokens: tokens, apps: apps, cookie: cookie}
}

// Mount adds the route.
func (f *ForwardAuth) Mount(r chi.Router) {
	r.Get(verifyPath, web.API(func(w http.ResponseWriter, r *http.Request) error {
		err := f.verify(w, r)
		if err != nil {
			w.Header().Set(HeaderError, string(auth.CodeOf(err)))
		}
		return err
	}))
}

func (f *ForwardAuth) verify(w http.ResponseWriter, r *http.Request) error {
	// Faults that the proxy's operator must fix come first, whatever the client sends.
	wanted, err := parseRequirements(r.URL.RawQuery)
	if err != nil {
		return err
	}
	var appsErr error // why the number of apps is not known
	if !wanted.selectsTokens() {
		var several bool
		if several, appsErr = f.apps.HasSeveral(); several {
			return errAppRequired
		}
	}
	presented, page, err := f.token(r)
	if err != nil {
		return err
	}
	c, err := f.tokens.Verify(r.Context(), presented.Reveal())
	if err != nil {
		return err
	}
	user, session := c.Subject.String(), c.Session.String()
	event := web.EventOf(r.Context())
	event.Add(slog.String("app", c.ClientID), slog.String("uuid", user), slog.String("session", session))
	if appsErr != nil {
		return appsErr
	}
	if page != "" && page != c.ClientID {
		return errBrowser
	}
	if err := wanted.check(c); err != nil {
		return err
	}
	header := w.Header()
	header.Set(HeaderUUID, user)
	header.Set(HeaderSession, session)
	header.Set(HeaderApp, c.ClientID)
	if c.Bound {
		header.Set(HeaderPerson, c.Person.String())
	}
	if c.ExternalID != "" {
		header.Set(HeaderExternalID, percentEncoded(c.ExternalID))
	}
	header.Set("Cache-Control", "no-store")
	event.Routine = true
	return nil
}

// token returns the token of the request that the proxy asks about: from the
// Authorization header if there is one, else from the cookie.
//
// Browsers attach cookies by themselves, also to requests that other sites cause. So
// a cookie counts only in requests without Origin and Sec-Fetch-Site: browsers send
// them with every request that could do harm. WeChat for Windows also sends them. It
// names the mini-program in Referer, which no page of another site can set; page is
// then the appid that the token must have.
func (f *ForwardAuth) token(r *http.Request) (presented auth.Secret, page string, err error) {
	if f.cookie == "" || len(r.Header["Authorization"]) > 0 {
		presented, err = web.BearerToken(r)
		return presented, "", err
	}
	cookies := r.CookiesNamed(f.cookie)
	switch {
	case len(cookies) > 1:
		return "", "", auth.Invalid("The access token's cookie is repeated.")
	case len(cookies) == 0 || cookies[0].Value == "":
		return "", "", auth.TokenMissing
	case len(r.Header["Origin"]) > 0 || len(r.Header["Sec-Fetch-Site"]) > 0:
		if page = miniProgram(r.Header["Referer"]); page == "" {
			return "", "", errBrowser
		}
	}
	return auth.Secret(cookies[0].Value), page, nil
}

// miniProgram returns the appid of the mini-program that WeChat names in Referer:
// https://servicewechat.com/<appid>/<version>/page-frame.html. It returns "" for
// anything else.
func miniProgram(referer []string) string {
	if len(referer) != 1 {
		return ""
	}
	rest, ours := strings.CutPrefix(referer[0], "https://servicewechat.com/")
	appid, _, more := strings.Cut(rest, "/")
	if !ours || !more || !auth.ValidAppID(appid) {
		return ""
	}
	return appid
}

var (
	errAppRequired = auth.Invalid("This server has several apps: the proxy must name an app or an audience, in the parameter app or aud.")
	errBrowser     = &auth.Error{Code: auth.TokenMissing, Description: "A browser must send the token in the Authorization header. A cookie is accepted only from a page of the token's own mini-program (Referer)."}

	errAudience = &auth.Error{Code: auth.TokenInvalid, Err: errors.New("gate: token for another audience")}
	errApp      = &auth.Error{Code: auth.TokenInvalid, Err: errors.New("gate: token of another app")}
)

// requirements are what a proxy requires of a valid token. Empty fields require nothing.
type requirements struct {
	audience, app string
	bound         bool
}

// parseRequirements reads requirements from a query. An unknown parameter is an error:
// a typing mistake must not let a request in.
func parseRequirements(query string) (d requirements, err error) {
	if query == "" {
		return d, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return d, auth.Invalid("The query is not validly URL-encoded.")
	}
	for name, v := range values {
		if len(v) > 1 {
			return d, auth.Invalid(auth.Named("parameter", name) + " is repeated.")
		}
		switch name {
		case "aud":
			if d.audience = v[0]; d.audience == "" {
				return d, auth.Invalid("The parameter aud must be an audience.")
			}
		case "app":
			if d.app = v[0]; !auth.ValidAppID(d.app) {
				return d, auth.Invalid("The parameter app must be an appid.")
			}
		case "bound":
			if v[0] != "required" {
				return d, auth.Invalid("The parameter bound must be required.")
			}
			d.bound = true
		case "access_token":
			return d, auth.Invalid("Send the access token in the Authorization header; URLs end up in logs.")
		default:
			return d, auth.Unexpected("query", "parameter", name, []string{"aud", "app", "bound"})
		}
	}
	return d, nil
}

// selectsTokens reports whether an audience or an app is required.
func (d *requirements) selectsTokens() bool { return d.audience != "" || d.app != "" }

// check returns the error for the first requirement that a valid token does not meet.
func (d *requirements) check(c *token.Claims) error {
	switch {
	case d.audience != "" && !slices.Contains(c.Audience, d.audience):
		return errAudience
	case d.app != "" && c.ClientID != d.app:
		return errApp
	case d.bound && !c.Bound:
		return auth.PersonRequired
	}
	return nil
}

// percentEncoded leaves the unreserved characters of RFC 3986 §2.3 as they are.
func percentEncoded(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") // a plus itself is %2B
}
