package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/shard"
	"github.com/yufu-auth/yufu/pkg/token"
)

// Lifetimes are the lifetimes of sessions and tokens. See [DefaultLifetimes].
type Lifetimes struct {
	// Grace is the time after a rotation in which the rotated refresh token still
	// yields its successor.
	Grace time.Duration
	// Idle is the lifetime of a session that is not refreshed.
	Idle time.Duration
	// Max is the absolute lifetime of a session.
	Max time.Duration
}

// DefaultLifetimes are 60 seconds of grace, 30 days idle and 180 days in total.
var DefaultLifetimes = Lifetimes{Grace: time.Minute, Idle: 30 * 24 * time.Hour, Max: 180 * 24 * time.Hour}

// Bounds of the lifetimes. A long grace window is a long time for a thief to
// stay unnoticed.
const (
	maxGrace = 10 * time.Minute
	maxMax   = 5 * 365 * 24 * time.Hour
)

// Check refuses lifetimes that are out of bounds or contradict each other.
func (l Lifetimes) Check() error {
	switch {
	case l.Grace < 0 || l.Grace > maxGrace:
		return fmt.Errorf("session: the refresh grace must be between 0s and %s, got %s", maxGrace, l.Grace)
	case l.Idle < time.Second:
		return fmt.Errorf("session: the idle lifetime must be at least 1s, got %s", l.Idle)
	case l.Max < l.Idle || l.Max > maxMax:
		return fmt.Errorf("session: the absolute lifetime must be between the idle lifetime (%s) and %s, got %s", l.Idle, maxMax, l.Max)
	case l.Grace >= l.Idle:
		return fmt.Errorf("session: the refresh grace must be shorter than the idle lifetime (%s), got %s", l.Idle, l.Grace)
	}
	return nil
}

// DefaultMaxSessions is the default limit of live sessions of an identity. It is far more
// than a user has devices, and bounds the sessions of a client that logs in again
// instead of refreshing.
const DefaultMaxSessions = 50

// maxMaxSessions bounds the sessions that one log-in has to count.
const maxMaxSessions = 1000

// Config configures a [Service]. All fields are required except Apps, MaxSessions,
// CheckMayIssue, TimelineChanged and Restorer.
type Config struct {
	// Store applies the cutoffs that it writes: this replica knows them when a
	// method returns.
	Store Store
	// Apps are the apps in memory, so that an exchange need not read its app. The app may
	// be a second old: the code of a log-in to an app that was just disabled may still be
	// sent to the platform, before the store refuses it. Nil means that every exchange
	// reads its app.
	Apps Apps
	// Platforms holds a provider for each platform name.
	Platforms map[string]platform.Provider
	Sealer    *seal.Ring
	// Shards is the deployment's key of shards.
	Shards    *shard.Key
	Minter    *token.Minter
	Verifier  *token.Verifier
	Codec     *token.RefreshCodec
	Lifetimes Lifetimes
	// MaxSessions is the limit of live sessions of an identity, 0 to 1000; the next
	// log-in ends the oldest session. 0 means no limit. See [DefaultMaxSessions].
	MaxSessions int
	// Clock returns the current time by the database's clock.
	Clock func() time.Time
	// CheckMayIssue returns why this replica must not grant tokens now, or nil. If
	// CheckMayIssue is nil, the replica may always grant tokens.
	CheckMayIssue func() error
	// TimelineChanged reports whether the database's timeline (cutoffs.Batch) changed or
	// its clock was set within the given time. A restart, a fail-over and a restore
	// change the timeline. Nil means that it never changes.
	TimelineChanged func(within time.Duration) bool
	// Restorer restores revocations that the database lost before a token is minted.
	// Nil means that this replica remembers no revocations.
	Restorer *Restorer
}

// Apps are the apps in memory. Implemented by [app.Directory].
type Apps interface {
	// App returns an app as it was a moment ago, or an error.
	App(appID string) (auth.App, error)
	// Answering reports whether the database answers.
	Answering() bool
}

// Service implements the use cases of session holders. It is safe for concurrent use.
// Its only state is the rate of refreshes of each session.
type Service struct {
	c    Config
	pace *pace
}

// NewService returns a service, or an error that says which setting is wrong.
func NewService(c Config) (*Service, error) {
	if err := c.Lifetimes.Check(); err != nil {
		return nil, err
	}
	if c.MaxSessions < 0 || c.MaxSessions > maxMaxSessions {
		return nil, fmt.Errorf("session: the limit of live sessions must be between 0 and %d, got %d", maxMaxSessions, c.MaxSessions)
	}
	if c.CheckMayIssue == nil {
		c.CheckMayIssue = func() error { return nil }
	}
	if c.TimelineChanged == nil {
		c.TimelineChanged = func(time.Duration) bool { return false }
	}
	return &Service{c: c, pace: newPace(maxPaced)}, nil
}

// Grant is the answer to a token request.
type Grant struct {
	AccessToken auth.Secret
	// ExpiresIn is the access token's lifetime, in seconds.
	ExpiresIn    int
	RefreshToken auth.Secret
	// RefreshTokenTimeout and AuthorizationExpiresIn are the seconds until the idle
	// and the absolute expiry of the session. The first never exceeds the second.
	RefreshTokenTimeout    int
	AuthorizationExpiresIn int
	// Session is the row that the tokens were minted from.
	Session auth.Session
	// Verdict is that of a refresh; it is [Rotate] for an exchange.
	Verdict Verdict
}

// ExchangeRequest is a platform code to exchange.
type ExchangeRequest struct {
	ClientID string
	Code     auth.Secret
	// Device is a label that the client chose; it may be empty.
	Device string
	// RequestID goes into the audit trail if older sessions are ended.
	RequestID string
}

// Exchange redeems a platform code and starts a session.
//
// Errors: those of [platform.Provider.ExchangeCode] and [Store.Exchange],
// [auth.AppUnknown], [auth.AppDisabled], [auth.InvalidRequest] for a bad device
// label, and that of [Config.CheckMayIssue]. The code is sent to the platform only after
// all other checks of the request, and at most once with the same secrets of the app.
func (s *Service) Exchange(ctx context.Context, r ExchangeRequest) (Grant, error) {
	if err := s.c.CheckMayIssue(); err != nil {
		return Grant{}, err
	}
	device, err := auth.CleanDevice(r.Device)
	if err != nil {
		return Grant{}, err
	}
	if !auth.ValidAppID(r.ClientID) {
		return Grant{}, auth.AppUnknown
	}
	client, remembered, err := s.client(ctx, r.ClientID)
	if err != nil {
		return Grant{}, err
	}
	if client.Disabled {
		return Grant{}, auth.About(auth.AppDisabled, auth.Subject{AppID: client.ID})
	}
	provider, ok := s.c.Platforms[client.Platform]
	if !ok {
		return Grant{}, &auth.Error{Code: auth.PlatformMisconfigured, Err: fmt.Errorf("app %s: platform %q is not supported", client.ID, client.Platform)}
	}
	account, err := s.exchangeCode(ctx, provider, &client, r.Code)
	if remembered && errors.Is(err, auth.PlatformMisconfigured) {
		account, err = s.exchangeCodeAgain(ctx, provider, &client, r.Code, err)
	}
	if reuse := (*platform.CodeReuse)(nil); errors.As(err, &reuse) {
		err = s.recordReuse(ctx, &client, r.RequestID, reuse, err)
	}
	if err != nil {
		return Grant{}, err
	}
	sealed, err := s.c.Sealer.Seal([]byte(account.SessionKey.Reveal()), SessionKeyAAD(client.ID, account.PlatformAccount))
	if err != nil {
		return Grant{}, err
	}
	home := s.c.Shards.Of(client.ID, account.PlatformAccount)
	identity, err := shard.NewID(home)
	if err != nil {
		return Grant{}, fmt.Errorf("session: %w", err)
	}
	now := s.now()
	x := ExchangeParams{
		AppID:            client.ID,
		Account:          account.PlatformAccount,
		SealedSessionKey: sealed,
		Device:           device,
		NewIdentity:      identity,
		Now:              now,
		IdleTTL:          s.c.Lifetimes.Idle,
		MaxTTL:           s.c.Lifetimes.Max,
		MaxSessions:      s.c.MaxSessions,
		RequestID:        r.RequestID,
	}
	granted, err := s.grantCurrent(ctx, func() (Granted, error) {
		var err error
		if x.NewSession, err = shard.NewID(home); err != nil {
			return Granted{}, fmt.Errorf("session: %w", err)
		}
		return s.c.Store.Exchange(ctx, x)
	})
	if err != nil {
		return Grant{}, err
	}
	return s.grant(ctx, granted, now)
}

// client returns the app of an exchange, and whether it is the one in memory, which may be
// a second old. That is good enough for its secret, which the platform checks; the store
// checks in [Store.Exchange] whether the app is enabled. If the app in memory is disabled
// or unknown, or the database does not answer, client reads the database, so that no code
// is sent to the platform in vain.
func (s *Service) client(ctx context.Context, appID string) (a auth.App, remembered bool, err error) {
	if apps := s.c.Apps; apps != nil && apps.Answering() {
		if a, err := apps.App(appID); err == nil && !a.Disabled {
			return a, true, nil
		}
	}
	a, err = s.c.Store.App(ctx, appID)
	return a, false, err
}

func (s *Service) exchangeCode(ctx context.Context, provider platform.Provider, client *auth.App, code auth.Secret) (platform.Account, error) {
	credentials, err := app.Credentials(s.c.Sealer, client)
	if err != nil {
		return platform.Account{}, err
	}
	return provider.ExchangeCode(ctx, credentials, code.Reveal())
}

// exchangeCodeAgain repeats a call that the platform refused with the error, if the app in
// the database has other credentials than the one in memory.
func (s *Service) exchangeCodeAgain(ctx context.Context, provider platform.Provider, client *auth.App, code auth.Secret, failed error) (platform.Account, error) {
	current, err := s.c.Store.App(ctx, client.ID)
	if err != nil || maps.EqualFunc(current.SealedCredentials, client.SealedCredentials, bytes.Equal) {
		return platform.Account{}, failed
	}
	return s.exchangeCode(ctx, provider, &current, code)
}

// recordTimeout bounds the write of an audit event after the client hung up.
const recordTimeout = 10 * time.Second

// recordReuse audits that a code came twice, and returns refused, the error of the
// exchange. Somebody may have a copy of the code, or a program sends each code twice.
// The session of the first log-in does not end, because such programs are common and
// honest.
func (s *Service) recordReuse(ctx context.Context, app *auth.App, requestID string, reuse *platform.CodeReuse, refused error) error {
	detail := map[string]any{"network": platform.CallerOf(ctx)}
	if reuse.First != "" {
		detail["first_network"] = reuse.First
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	err := s.c.Store.RecordRefusal(ctx, auth.AuditEvent{
		At: s.now(), Action: auth.AuditCodeReused, Actor: auth.ActorService, AppID: app.ID, RequestID: requestID, Detail: detail,
	})
	if err != nil {
		return err // a refusal that is not audited is not answered
	}
	return refused
}

// RefreshRequest is a refresh token to renew.
type RefreshRequest struct {
	ClientID     string
	RefreshToken auth.Secret
	// RequestID goes into the audit trail if the session is ended.
	RequestID string
}

// Refresh renews a session's tokens.
//
// Errors, before the store is called: [auth.RefreshInvalid] for a text that is not our
// token; [auth.AppUnknown] for a client_id that is not an appid; that of
// [Config.CheckMayIssue]; [auth.RateLimited] for a session that refreshed 20 times at once
// and must wait up to a second for the next refresh (a token that was replaced twice or
// more does not wait). Then those of [Store.Refresh]. All but the first are about the
// token's session.
func (s *Service) Refresh(ctx context.Context, r RefreshRequest) (Grant, error) {
	presented, err := s.c.Codec.Decode(r.RefreshToken.Reveal())
	if err != nil {
		return Grant{}, err
	}
	// The MAC is valid, so the session is proven.
	subject := auth.Subject{Session: presented.Session}
	if !auth.ValidAppID(r.ClientID) {
		return Grant{}, auth.About(auth.AppUnknown, subject)
	}
	if err := s.c.CheckMayIssue(); err != nil {
		return Grant{}, auth.About(err, subject)
	}
	now := s.now()
	if wait := s.pace.wait(presented.Session, presented.Generation, now); wait > 0 {
		return Grant{}, auth.About(&auth.Error{Code: auth.RateLimited, RetryAfter: wait, Err: errTooFast}, subject)
	}
	granted, err := s.c.Store.Refresh(ctx, RefreshParams{
		Session:   presented.Session,
		Presented: presented.Generation,
		AppID:     r.ClientID,
		Now:       now,
		Grace:     s.grace(),
		IdleTTL:   s.c.Lifetimes.Idle,
		RequestID: r.RequestID,
	})
	if err == nil {
		// Keep the generation: the client may have refreshed again meanwhile.
		generation := granted.Session.Generation
		granted.Session, err = s.Grantable(ctx, granted.Session)
		granted.Session.Generation, err = generation, auth.About(err, granted.Session.Subject())
	}
	if err != nil {
		return Grant{}, auth.About(err, subject)
	}
	if granted.Verdict == Rotate || granted.Verdict == RolledBack {
		s.pace.rotated(presented.Session, granted.Session.Generation, now)
	}
	return s.grant(ctx, granted, now)
}

// grace returns how long a rotated token yields its successor. For one window after
// the database's timeline changed, there is no limit: clients could not ask in time
// while the database was away, and ages by another clock are wrong.
func (s *Service) grace() time.Duration {
	if s.c.TimelineChanged(s.c.Lifetimes.Grace) {
		return math.MaxInt64
	}
	return s.c.Lifetimes.Grace
}

// errTooFast is the cause under [auth.RateLimited], for the log.
var errTooFast = errors.New("session: too many refreshes of this session")

// RevokeRequest is a token whose session is to end (RFC 7009).
type RevokeRequest struct {
	ClientID string
	// Token is an access or a refresh token. Its format shows which, so no hint is
	// needed.
	Token     auth.Secret
	RequestID string
}

// Revoke ends the session of an access or a refresh token. It returns the subject as far
// as the token proves it. A token that is not ours, has expired, or whose session has
// ended is no error.
//
// Errors: [auth.TokenClientMismatch] when the token belongs to another client,
// [auth.AppUnknown] for a client_id that is not an appid.
func (s *Service) Revoke(ctx context.Context, r RevokeRequest) (auth.Subject, error) {
	var subject auth.Subject
	if !auth.ValidAppID(r.ClientID) {
		return subject, auth.AppUnknown // RFC 7009 §2.1: the client comes first
	}
	if t := r.Token.Reveal(); strings.HasPrefix(t, token.RefreshPrefix) {
		presented, err := s.c.Codec.Decode(t)
		if err != nil {
			return subject, nil //nolint:nilerr // RFC 7009 §2.2: an unknown token is as good as revoked
		}
		subject.Session = presented.Session
	} else {
		claims, err := s.c.Verifier.Verify(ctx, t)
		switch auth.CodeOf(err) {
		case "":
		case auth.TokenInvalid, auth.TokenExpired:
			return auth.SubjectOf(err), nil // RFC 7009 §2.2: an unknown token is as good as revoked
		case auth.SessionRevoked:
			// The cutoff may be that of a log-out whose commit was interrupted.
			subject = auth.SubjectOf(err)
			return subject, auth.About(s.c.Store.Confirm(ctx), subject)
		default:
			return subject, err
		}
		subject = claims.Owner()
		if claims.ClientID != r.ClientID {
			return subject, auth.About(auth.TokenClientMismatch, subject)
		}
	}
	return subject, auth.About(s.logOut(ctx, subject.Session, r.ClientID, r.RequestID, nil), subject)
}

// logOut ends a session on behalf of its bearer.
func (s *Service) logOut(ctx context.Context, id uuid.UUID, appID, requestID string, detail map[string]any) error {
	now := s.now()
	return s.c.Store.End(ctx, EndParams{
		Session: id,
		AppID:   appID,
		Reason:  auth.EndLogout,
		Event:   auth.AuditEvent{At: now, Action: auth.AuditSessionLogout, Actor: auth.ActorBearer, RequestID: requestID, Detail: detail},
		Now:     now,
	})
}

// Bearer is a live session with data of the presented access token.
type Bearer struct {
	auth.Session
	// TokenExpiresAt is the exp claim of the access token. No access token that
	// replaces it expires later.
	TokenExpiresAt time.Time
}

// Authenticate verifies an access token and returns its live session, as it is in the
// store now. It refuses a token whose session was revoked a moment ago, and a token that
// a cutoff in memory hits even if the store's row is live.
//
// Errors: those of [token.Verifier.Verify] and of [Store.Session], about the subject
// of the token.
func (s *Service) Authenticate(ctx context.Context, accessToken auth.Secret) (Bearer, error) {
	claims, err := s.c.Verifier.Verify(ctx, accessToken.Reveal())
	if err != nil {
		return Bearer{}, err
	}
	st, err := s.c.Store.Session(ctx, claims.Session)
	if err == nil {
		err = st.admits(claims, s.now())
	}
	if err != nil {
		return Bearer{}, auth.About(err, claims.Owner())
	}
	return Bearer{Session: st.Session, TokenExpiresAt: claims.ExpiresAt.Time}, nil
}

// admits returns why the session does not accept an access token that was minted from
// it, or nil.
func (st *State) admits(c *token.Claims, now time.Time) error {
	row := &st.Session
	switch {
	case row.AppID != c.ClientID, row.Identity != c.Subject:
		return &auth.Error{Code: auth.TokenInvalid, Err: errors.New("session: the token does not match its session")}
	case !row.EndedAt.IsZero(), !now.Before(row.ExpiresAt), c.Ver < row.Ver, c.Epoch < st.AppEpoch, st.AppDisabled:
		return auth.SessionRevoked
	}
	return nil
}

// grant mints the tokens of a session row.
func (s *Service) grant(ctx context.Context, g Granted, now time.Time) (Grant, error) {
	row := g.Session
	if g.OmitExternalID {
		row = row.WithoutExternalID()
	}
	access, expiresIn, err := s.Mint(ctx, func() (auth.Secret, int, error) {
		return s.c.Minter.Mint(&row, g.Audiences, g.SigningAlg, now)
	})
	if err != nil {
		return Grant{}, err
	}
	refresh, err := s.c.Codec.Encode(token.Refresh{Session: g.Session.ID, Generation: g.Session.Generation}, now)
	if err != nil {
		return Grant{}, err
	}
	return Grant{
		AccessToken:  access,
		ExpiresIn:    expiresIn,
		RefreshToken: refresh,
		// Computed from now, not from the row: the row would show a client that replays
		// a token when the token was rotated.
		RefreshTokenTimeout:    seconds(IdleExpiry(now, s.c.Lifetimes.Idle, g.Session.ExpiresAt).Sub(now)),
		AuthorizationExpiresIn: seconds(g.Session.ExpiresAt.Sub(now)),
		Session:                g.Session,
		Verdict:                g.Verdict,
	}, nil
}

// now returns the time as stores keep it.
func (s *Service) now() time.Time { return s.c.Clock().UTC().Truncate(time.Microsecond) }

// seconds rounds down, so that clients refresh a little early, not late.
func seconds(d time.Duration) int { return int(d / time.Second) }
