package setting

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/pkg/binding/webhook"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/telemetry"
)

// MasterKeyName is the variable of the master key file, for messages.
const MasterKeyName = "YUFU_MASTER_KEY_FILE"

// Check refuses an address that validators cannot use.
func (s PublicAddress) Check() error { return CheckIssuer("YUFU_ISSUER", s.Issuer) }

// Networks returns the trusted networks of both listeners.
func (s Proxies) Networks() (public, admin []netip.Prefix, err error) {
	public, err = ParsePrefixes("YUFU_TRUSTED_PROXIES", s.TrustedProxies)
	admin, adminErr := ParsePrefixes("YUFU_ADMIN_TRUSTED_PROXIES", s.AdminTrustedProxies)
	return public, admin, errors.Join(err, adminErr)
}

// Check refuses a name that is not valid for a cookie.
func (s ForwardAuth) Check() error {
	if s.VerifyCookie == "" || (&http.Cookie{Name: s.VerifyCookie, Value: "x"}).Valid() == nil {
		return nil
	}
	return Errorf("YUFU_VERIFY_COOKIE", "must be the name of a cookie (letters, digits, - and _), got %q", s.VerifyCookie)
}

// Check refuses lifetimes that contradict each other.
func (s Lifetimes) Check() error {
	var errs []error
	if s.SessionIdleTTL <= s.AccessTokenTTL {
		errs = append(errs, Errorf("YUFU_SESSION_IDLE_TTL", "must be longer than YUFU_ACCESS_TOKEN_TTL (%s), got %s: a client refreshes when its access token has expired",
			Duration(s.AccessTokenTTL), Duration(s.SessionIdleTTL)))
	}
	if s.SessionMaxTTL < s.SessionIdleTTL {
		errs = append(errs, Errorf("YUFU_SESSION_MAX_TTL", "must not be shorter than YUFU_SESSION_IDLE_TTL (%s), got %s",
			Duration(s.SessionIdleTTL), Duration(s.SessionMaxTTL)))
	}
	if s.RefreshGrace >= s.SessionIdleTTL {
		errs = append(errs, Errorf("YUFU_REFRESH_GRACE", "must be shorter than YUFU_SESSION_IDLE_TTL (%s), got %s",
			Duration(s.SessionIdleTTL), Duration(s.RefreshGrace)))
	}
	return errors.Join(errs...)
}

// Session returns the lifetimes of sessions.
func (s Lifetimes) Session() session.Lifetimes {
	return session.Lifetimes{Grace: s.RefreshGrace, Idle: s.SessionIdleTTL, Max: s.SessionMaxTTL}
}

// Check refuses a rotation that is faster than a key can be published.
func (s Rotation) Check() error {
	if wait := s.JWKSMaxAge + keyring.PropagationTime; s.KeyRotation != 0 && s.KeyRotation < wait {
		return Errorf("YUFU_KEY_ROTATION", "must be at least %s longer than YUFU_JWKS_MAX_AGE (%s), got %s: a key is published that long before it signs",
			Duration(keyring.PropagationTime), Duration(s.JWKSMaxAge), Duration(s.KeyRotation))
	}
	return nil
}

// Keys returns the rotation policy of a service whose sessions live at most for sessionMax.
func (s Rotation) Keys(sessionMax time.Duration) keyring.Policy {
	return keyring.Policy{Rotation: s.KeyRotation, JWKSMaxAge: s.JWKSMaxAge, SessionMaxTTL: sessionMax}
}

// Parse returns the database. It reads the URL from a file as [ReadSecretFile] does.
func (s Storage) Parse(stdin io.Reader, warn func(string)) (Database, error) {
	name, url := "YUFU_DATABASE_URL", s.DatabaseURL
	if s.DatabaseURLFile != "" {
		if url != "" {
			return Database{}, errors.New("YUFU_DATABASE_URL and YUFU_DATABASE_URL_FILE are both set; unset one")
		}
		b, err := ReadSecretFile("YUFU_DATABASE_URL_FILE", s.DatabaseURLFile, stdin, warn)
		if err != nil {
			return Database{}, err
		}
		name, url = "YUFU_DATABASE_URL_FILE", string(b)
	}
	return ParseDatabaseURL(name, url)
}

// Ring reads the master keys as [ReadSecretFile] does.
func (s MasterKey) Ring(stdin io.Reader, warn func(string)) (*seal.Ring, error) {
	if s.MasterKeyFile == "" {
		return nil, Errorf(MasterKeyName, "is missing: set it to the file with the master key of this database. For a new database, make a key first: openssl rand -base64 32 > FILE && chmod 600 FILE")
	}
	b, err := ReadSecretFile(MasterKeyName, s.MasterKeyFile, stdin, warn)
	if err != nil {
		return nil, err
	}
	ring, err := seal.ParseRing(b)
	if err != nil {
		return nil, Errorf(MasterKeyName, "names a file without master keys, %s: %w; make a key with: openssl rand -base64 32", s.MasterKeyFile, err)
	}
	return ring, nil
}

// Logger returns a logger that writes to w. Format applies if the setting is empty.
func (s Log) Logger(w io.Writer, format string, level slog.Leveler) (*slog.Logger, error) {
	if s.LogFormat != "" {
		format = strings.ToLower(s.LogFormat)
	}
	log, err := telemetry.NewLogger(w, format, level)
	if err != nil {
		return nil, Errorf("YUFU_LOG_FORMAT", "must be json or text, got %q", s.LogFormat)
	}
	return log, nil
}

// Level returns the log level.
func (s Log) Level() (slog.Level, error) { return parseLevel("YUFU_LOG_LEVEL", s.LogLevel) }

// Read returns the level in the file or, without a file, the level of the other setting.
func (s LevelFile) Read(other Log) (slog.Level, error) {
	const name = "YUFU_LOG_LEVEL_FILE"
	if s.LogLevelFile == "" {
		return other.Level()
	}
	b, err := os.ReadFile(s.LogLevelFile)
	if err != nil {
		return 0, Errorf(name, "cannot be read: %w", err)
	}
	return parseLevel(name, strings.TrimSpace(string(b)))
}

func parseLevel(name, text string) (slog.Level, error) {
	level, err := telemetry.ParseLevel(text)
	if err != nil {
		return 0, Errorf(name, "must be debug, info, warn or error, got %q", text)
	}
	return level, nil
}

// Client returns the client of webhooks. With unsafeLoopback it also calls loopback, for
// development.
func (s Webhooks) Client(unsafeLoopback bool) (*webhook.Client, error) {
	networks, err := ParsePrefixes("YUFU_WEBHOOK_NETWORKS", s.WebhookNetworks)
	if err != nil {
		return nil, err
	}
	c, err := webhook.New(webhook.Config{AllowNetworks: networks, AllowHosts: s.WebhookHosts, UnsafeLoopback: unsafeLoopback})
	if err != nil {
		return nil, Errorf("YUFU_WEBHOOK_HOSTS", "is wrong: %w", err)
	}
	return c, nil
}
