package main

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/token"
)

// beside returns a bound of a setting, and the next value outside it.
func beside(t *testing.T, bound string, above bool) (at, next string) {
	t.Helper()
	step, pause := -1, -time.Second
	if above {
		step, pause = 1, time.Second
	}
	if d, err := time.ParseDuration(bound); err == nil && !isNumber(bound) {
		return bound, (d + pause).String()
	}
	if n, err := strconv.Atoi(bound); err == nil {
		return bound, strconv.Itoa(n + step)
	}
	var size setting.Size
	if err := size.UnmarshalText([]byte(bound)); err != nil {
		t.Fatal(err)
	}
	return bound, (size + setting.Size(step)).String()
}

func isNumber(s string) bool { _, err := strconv.Atoi(s); return err == nil }

func TestBounds(t *testing.T) {
	// The checks of the packages that also refuse these values.
	duration := func(s string) time.Duration {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	day := 24 * time.Hour
	packages := map[string]func(value string) error{
		"YUFU_ACCESS_TOKEN_TTL": func(s string) error {
			_, err := token.NewMinter(nil, "", duration(s))
			return err
		},
		"YUFU_REFRESH_GRACE": func(s string) error {
			return session.Lifetimes{Grace: duration(s), Idle: day, Max: day}.Check()
		},
		"YUFU_SESSION_IDLE_TTL": func(s string) error {
			return session.Lifetimes{Idle: duration(s), Max: max(duration(s), day)}.Check()
		},
		"YUFU_SESSION_MAX_TTL": func(s string) error {
			return session.Lifetimes{Idle: time.Second, Max: duration(s)}.Check()
		},
		"YUFU_JWKS_MAX_AGE": func(s string) error { return keyring.Policy{JWKSMaxAge: duration(s)}.Check() },
		"YUFU_KEY_ROTATION": func(s string) error {
			return keyring.Policy{JWKSMaxAge: time.Second, Rotation: duration(s)}.Check()
		},
		"YUFU_SESSION_LIMIT": func(s string) error {
			n, err := strconv.Atoi(s)
			if err != nil {
				return err
			}
			_, err = session.NewService(session.Config{Lifetimes: session.DefaultLifetimes, MaxSessions: n})
			return err
		},
	}
	tried := map[string]bool{}
	for _, f := range flags(t, "serve") {
		for tag, above := range map[string]bool{"min": false, "max": true} {
			bound := f.Tag.Get(tag)
			if bound == "" {
				continue
			}
			name := f.Envs[0]
			tried[name] = true
			at, next := beside(t, bound, above)
			t.Run(name+" is refused beyond its "+tag, func(t *testing.T) {
				got := try(t, map[string]string{name: next}, "", "serve")
				if got.code != 2 || !strings.HasPrefix(got.errOut, "yufu: "+name+" must be ") {
					t.Errorf("with %s=%s: %v; want exit code 2 and the bounds", name, next, got)
				}
				got = try(t, map[string]string{name: at}, "", "serve")
				if strings.Contains(got.errOut, name+" must be between") {
					t.Errorf("with %s=%s: %v; want no error about the bounds", name, at, got)
				}
			})
			if check := packages[name]; check != nil {
				t.Run(name+" has the "+tag+" that its package has", func(t *testing.T) {
					if err := check(at); err != nil {
						t.Errorf("%s=%s: error = %v, want none", name, at, err)
					}
					if err := check(next); err == nil {
						t.Errorf("%s=%s: error = nil, want one", name, next)
					}
				})
			}
		}
	}
	for name := range packages {
		if !tried[name] {
			t.Errorf("%s has no bounds", name)
		}
	}
}
