package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// maxMetadata bounds the metadata of the issuer, in bytes.
	maxMetadata = 64 << 10
	// issuerPause is the pause between checks of an issuer that differs.
	issuerPause = time.Minute
)

// issuerCheck compares the configured issuer with the one that the service says it is
// (RFC 8414 §3). A difference, which may be one slash, makes every token invalid.
type issuerCheck struct {
	url     string
	issuer  string
	client  *http.Client
	log     *slog.Logger
	timeout time.Duration // of one fetch
	pause   time.Duration // issuerPause

	// mismatch says how the issuers differ; nil when they do not, or before the
	// first answer.
	mismatch atomic.Pointer[error]
	// checked is closed after the first fetch, even if it failed.
	checked chan struct{}
}

// run checks until the issuers agree or ctx is done.
func (c *issuerCheck) run(ctx context.Context) {
	for failures := 0; ; failures++ {
		name, err := c.fetch(ctx)
		pause := backoff(failures, minKeyPause, maxKeyPause)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			// The keys come from the same place; their fetch says so more loudly. What
			// is before the service may also not pass this address on.
			c.log.LogAttrs(ctx, slog.LevelDebug, "metadata fetch failed", slog.Any("error", err))
		case name == c.issuer:
			c.mismatch.Store(nil)
			if failures > 0 {
				c.log.LogAttrs(ctx, slog.LevelInfo, "issuer check passed")
			}
		default:
			err := fmt.Errorf("%w: Config.Issuer is %q, but the service's issuer is %q; they must be equal, byte for byte", ErrMisconfigured, c.issuer, name)
			if c.mismatch.Swap(&err) == nil {
				c.log.LogAttrs(ctx, slog.LevelError, "issuer mismatch, refusing all tokens", slog.Any("error", err))
			}
			pause = c.pause
		}
		if failures == 0 {
			close(c.checked)
		}
		if err == nil && name == c.issuer {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// err returns how the issuers differ, or nil.
func (c *issuerCheck) err() error {
	if err := c.mismatch.Load(); err != nil {
		return *err
	}
	return nil
}

// fetch returns the issuer that the service says it is.
func (c *issuerCheck) fetch(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	body, _, err := get(ctx, c.client, c.url, "application/json", maxMetadata)
	if err != nil {
		return "", fmt.Errorf("bearer: fetch the issuer's metadata: %w", err)
	}
	var metadata struct {
		Issuer string `json:"issuer"`
	}
	if err := json.Unmarshal(body, &metadata); err != nil || metadata.Issuer == "" {
		return "", errors.New("bearer: the issuer's metadata is not JSON or has no issuer")
	}
	return metadata.Issuer, nil
}
