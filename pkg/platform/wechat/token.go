package wechat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/platform/accesstoken"
)

const (
	// maxToken bounds access_token: WeChat asks to allow for 512 characters.
	maxToken = 1024
	// maxTokenLife bounds expires_in, in seconds; WeChat's is at most 7200.
	maxTokenLife = 24 * 60 * 60
)

// beijing is the time zone of WeChat's daily quotas.
var beijing = time.FixedZone("UTC+8", 8*60*60)

// tokenRation is how often WeChat allows a token to be replaced early
// (getStableAccessToken, "force_refresh").
var tokenRation = accesstoken.Ration{
	Every:  30 * time.Second,
	PerDay: 20,
	Day:    func(t time.Time) string { return t.In(beijing).Format(time.DateOnly) },
}

// errNoToken marks failures to get an access token. The code that needed it was not sent.
var errNoToken = fmt.Errorf("wechat: no access token, %w", platform.ErrCodeUnspent)

// fetchToken implements [accesstoken.Fetch] with stable_token, which returns the current
// token with its remaining seconds.
func (c *Client) fetchToken(ctx context.Context, app platform.Credentials, force bool) (accesstoken.Token, error) {
	secret, now := appSecret(app).Reveal(), c.clock()
	body, err := c.post(ctx, "/cgi-bin/stable_token", nil, map[string]any{
		"grant_type":    "client_credential",
		"appid":         app.AppID,
		"secret":        secret,
		"force_refresh": force,
	})
	if err != nil {
		return accesstoken.Token{}, err
	}
	return decodeToken(body, now, secret)
}

// decodeToken reads the body of a 200 from stable_token. now is the time of the request.
// Errors are those of decodeAnswer.
func decodeToken(body []byte, now time.Time, secrets ...string) (accesstoken.Token, error) {
	answer, err := decodeAnswer(body, "access_token", secrets...)
	if err != nil {
		return accesstoken.Token{}, err
	}
	token, ok := decodeText(answer["access_token"], maxToken)
	if !ok || token == "" {
		return accesstoken.Token{}, malformed("no access_token")
	}
	life, ok := decodeInt(answer["expires_in"])
	if !ok || life <= 0 || life > maxTokenLife {
		return accesstoken.Token{}, malformed("expires_in is not a number of seconds")
	}
	return accesstoken.Token{Text: auth.Secret(token), ExpiresAt: now.Add(time.Duration(life) * time.Second)}, nil
}

// tokenFailure returns an error of [accesstoken.Holder.Token] with the code for the
// client: errors of the holder have one, those of the fetch are this package's.
func tokenFailure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("wechat: the caller cancelled: %w, %w", errNoToken, ctx.Err())
	}
	var (
		api       *APIError
		answer    *AnswerError
		transport *TransportError
	)
	code, retryAfter := auth.CodeOf(err), time.Duration(0)
	switch {
	case errors.As(err, &api) && api.Errcode == 40001:
		code = auth.PlatformMisconfigured // from stable_token, it means that the secret is wrong
	case errors.As(err, &api), errors.As(err, &answer), errors.As(err, &transport):
		var e *auth.Error
		if errors.As(failure(err), &e) {
			code, retryAfter = e.Code, e.RetryAfter
		}
	default:
		var e *auth.Error
		if errors.As(err, &e) {
			retryAfter = e.RetryAfter
		}
	}
	return &auth.Error{Code: code, RetryAfter: retryAfter, Err: fmt.Errorf("%w: %w", errNoToken, err)}
}
