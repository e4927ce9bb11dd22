package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// crowd is a set of clients with their results.
type crowd struct {
	fleet      *fleet
	sim        string
	validators []func(ctx context.Context, token string) error

	refreshes, checks atomic.Int64

	mu sync.Mutex
	// dead are the retired keys, whose tokens are not checked.
	dead map[string]bool
	// signed has the latest token of each key.
	signed map[string]string
	// failures are the first few failures.
	failures []error
}

func (c *crowd) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failures) < 10 {
		c.failures = append(c.failures, err)
	}
}

func (c *crowd) failed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.failures) > 0
}

func (c *crowd) isDead(kid string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead[kid]
}

// has reports whether any client ever had a token of the key.
func (c *crowd) has(kid string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.signed[kid] != ""
}

// logIn starts a session. When the service or the platform is unavailable, it tries
// again with another code, because a code is valid for one attempt.
func (c *crowd) logIn(ctx context.Context, user string) (a answer, err error) {
	for range 10 {
		var code string
		if code, err = c.code(ctx, user); err != nil {
			return answer{}, err
		}
		a, err = c.fleet.try(ctx, "/oauth2/token", url.Values{"grant_type": {codeGrant}, "client_id": {testApp}, "code": {code}})
		if err == nil && a.Status != http.StatusServiceUnavailable || ctx.Err() != nil {
			break
		}
		after, _ := strconv.Atoi(a.Header.Get("Retry-After"))
		select {
		case <-time.After(time.Duration(after) * time.Second):
		case <-ctx.Done():
		}
	}
	if err == nil {
		err = a.failure()
	}
	return a, err
}

// code gets a code from the simulated platform.
func (c *crowd) code(ctx context.Context, user string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.sim+"/sim/codes", strings.NewReader(`{"user":"`+user+`"}`))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.fleet.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var doc struct{ Code string }
	err = json.NewDecoder(resp.Body).Decode(&doc)
	return doc.Code, err
}

// live is a client that refreshes every few seconds and has its token verified in
// between.
func (c *crowd) live(ctx context.Context, held answer) {
	for ctx.Err() == nil {
		token := held.Doc.AccessToken
		kid := kidOf(token)
		c.mu.Lock()
		c.signed[kid] = token
		c.mu.Unlock()
		// A token is used at once, when a copy of the JWK set has its maximum age, and
		// then occasionally.
		for _, pause := range []time.Duration{0, time.Second + rand.N(2*time.Second), time.Second + rand.N(2*time.Second)} {
			// This is the pace of the client; it does not wait for an event.
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			verify := c.validators[rand.N(len(c.validators))]
			if err := verify(ctx, token); err != nil && ctx.Err() == nil && !c.isDead(kid) {
				c.fail(fmt.Errorf("a validator refuses a token of %s: %w", kid, err))
			}
			c.checks.Add(1)
		}
		a, err := c.fleet.post(ctx, "/oauth2/token", url.Values{
			"grant_type": {"refresh_token"}, "client_id": {testApp}, "refresh_token": {held.Doc.RefreshToken},
		})
		if err == nil {
			err = a.failure()
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.fail(fmt.Errorf("a refresh: %w", err))
			return
		}
		c.refreshes.Add(1)
		held = a
	}
}
