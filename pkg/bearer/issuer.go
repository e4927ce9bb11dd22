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

// issuerCheck compares the configured issuer with the one in the service's metadata (RFC
// 8414 §3). Any difference, even one slash, makes every token invalid.
type issuerCheck struct {
	url     string
	issuer  string
	client  *http.Client
	log     *slog.Logger
	timeout time.Duration // of one fetch
	pause   time.Duration // issuerPause

	// mismatch describes how the issuers differ. It is nil when they are equal, or before
	// the first answer.
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
			// The keys come from the same host, and a failure of their fetch is logged at
			// a higher level. A proxy in front of the service may also not forward this
			// path.
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

// err returns an error that describes how the issuers differ, or nil.
func (c *issuerCheck) err() error {
	if err := c.mismatch.Load(); err != nil {
		return *err
	}
	return nil
}

// fetch returns the issuer in the service's metadata.
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
