package auth

import (
	"slices"
	"strings"
	"time"
)

// PlatformWeChat names WeChat's mini-programs.
const PlatformWeChat = "wechat"

// CredentialAppSecret names the AppSecret among the credentials of an app.
const CredentialAppSecret = "app_secret"

// App is one registered mini-program: the OAuth client.
type App struct {
	// ID is the platform's appid and our client_id: [A-Za-z0-9]{1,64}, unique
	// across platforms.
	ID string
	// Platform names where the mini-program runs, for example [PlatformWeChat].
	Platform string
	// SealedCredentials has the platform's secrets by name, for example
	// [CredentialAppSecret]. Each is sealed for this row and its name.
	SealedCredentials map[string][]byte
	// Audiences are put into the aud claim after the issuer.
	Audiences []string
	// SigningAlg is the JWS algorithm of the app's access tokens, one of
	// [SigningAlgs]. Stores take "" for [DefaultSigningAlg].
	SigningAlg string
	// Policy says how its identities are bound to persons.
	Policy Policy
	// SealedWebhookSecret is the sealed secret that signs requests to the policy's
	// webhook, or empty.
	SealedWebhookSecret []byte
	// Epoch counts the revocations of the whole app. Sessions and tokens with a lower
	// epoch are invalid.
	Epoch int64
	// Disabled apps neither exchange nor refresh.
	Disabled bool
	// CreatedAt and UpdatedAt are in UTC.
	CreatedAt, UpdatedAt time.Time
}

// ValidAppID reports whether s has the form of an appid: one to 64 ASCII
// letters and digits.
func ValidAppID(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9') {
			return false
		}
	}
	return true
}

// MaxAudiences is the maximum number of audiences of an app, and MaxAudienceLen the
// maximum length of each, in bytes.
const (
	MaxAudiences   = 16
	MaxAudienceLen = 255
)

// CheckAudiences refuses audiences that cannot be in a token: too many, too long, empty,
// repeated, or with white space, control characters or characters beyond ASCII.
func CheckAudiences(audiences []string) error {
	if len(audiences) > MaxAudiences {
		return Invalid("an app must have at most 16 audiences")
	}
	seen := make(map[string]bool, len(audiences))
	for _, a := range audiences {
		switch {
		case a == "" || len(a) > MaxAudienceLen:
			return Invalid("an audience must have 1 to 255 characters")
		case strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r > '~' }):
			return Invalid("an audience must be printable ASCII without spaces")
		case seen[a]:
			return Invalid("an audience is repeated")
		}
		seen[a] = true
	}
	return nil
}

// DefaultSigningAlg is the JWS algorithm of apps that choose none.
const DefaultSigningAlg = "ES256"

// SigningAlgs returns the JWS algorithms (RFC 7518 §3.1, RFC 8037 §3.1) that an
// app may choose for its access tokens, the default first.
func SigningAlgs() []string { return []string{DefaultSigningAlg, "EdDSA", "RS256"} }

// CheckSigningAlg refuses an algorithm that is not in [SigningAlgs].
func CheckSigningAlg(alg string) error {
	if !slices.Contains(SigningAlgs(), alg) {
		return Invalid("the signing algorithm must be ES256, EdDSA or RS256")
	}
	return nil
}
