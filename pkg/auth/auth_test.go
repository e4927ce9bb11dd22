package auth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestSecret(t *testing.T) {
	t.Parallel()
	const plain = "hunter2hunter2"
	secret := auth.Secret(plain)
	type holder struct{ Secret auth.Secret }
	t.Run("no verb of fmt shows a secret, also one that does not fit", func(t *testing.T) {
		t.Parallel()
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%b", "%e", "%c", "%U", "%20s", "%.3s"} {
			for _, v := range []any{secret, &secret, holder{secret}, &holder{secret}, []auth.Secret{secret}, map[string]auth.Secret{"k": secret}} {
				got := fmt.Sprintf(verb, v)
				if strings.Contains(got, "hunter2") || strings.Contains(got, fmt.Sprintf("%x", plain)) || strings.Contains(strings.ToLower(got), fmt.Sprintf("%x", plain)) {
					t.Errorf("Sprintf(%q, %T) = %q, want a placeholder", verb, v, got)
				}
			}
		}
		if got := fmt.Sprint(secret); got != "[redacted]" {
			t.Errorf("Sprint() = %q, want a placeholder", got)
		}
		if got := secret.String(); got != "[redacted]" {
			t.Errorf("String() = %q, want a placeholder", got)
		}
	})
	t.Run("neither JSON nor a log line shows a secret", func(t *testing.T) {
		t.Parallel()
		var out strings.Builder
		for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
			slog.New(h).Info("m", "secret", secret, "struct", holder{secret}, "error", fmt.Errorf("with %v", secret))
		}
		b, err := json.Marshal(map[string]any{"a": secret, "b": []any{secret, holder{secret}}})
		if err != nil {
			t.Fatal(err)
		}
		if all := out.String() + string(b); strings.Contains(all, "hunter2") || strings.Count(all, "[redacted]") < 9 {
			t.Errorf("the output shows the secret: %s", all)
		}
	})
	t.Run("Reveal returns the secret", func(t *testing.T) {
		t.Parallel()
		if secret.Reveal() != plain {
			t.Errorf("Reveal() = %q, want the secret", secret.Reveal())
		}
	})
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		want auth.Code
	}{
		"no error has no code":                     {nil, ""},
		"a bare code is itself":                    {auth.AppUnknown, auth.AppUnknown},
		"a wrapped code is found":                  {fmt.Errorf("load: %w", auth.AppUnknown), auth.AppUnknown},
		"an Error has its own":                     {&auth.Error{Code: auth.CodeUsed, Err: io.EOF}, auth.CodeUsed},
		"a wrapped Error has its own":              {fmt.Errorf("x: %w", &auth.Error{Code: auth.CodeUsed}), auth.CodeUsed},
		"an Error hides the code of its cause":     {&auth.Error{Code: auth.CodeUsed, Err: auth.AppUnknown}, auth.CodeUsed},
		"anything else is internal":                {io.EOF, auth.Internal},
		"a malformed request is what Invalid says": {auth.Invalid("No."), auth.InvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := auth.CodeOf(tc.err); got != tc.want {
				t.Errorf("CodeOf(%v) = %q, want %q", tc.err, got, tc.want)
			}
		})
	}
}

func TestError(t *testing.T) {
	t.Parallel()
	t.Run("an error matches its code and its cause", func(t *testing.T) {
		t.Parallel()
		err := fmt.Errorf("outer: %w", &auth.Error{Code: auth.PlatformQuota, Err: io.ErrUnexpectedEOF})
		if !errors.Is(err, auth.PlatformQuota) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("errors.Is() does not find the code and the cause in %v", err)
		}
		if errors.Is(err, auth.PlatformUnavailable) {
			t.Error("errors.Is() finds another code")
		}
		if err := error(&auth.Error{Code: auth.PlatformQuota}); !errors.Is(err, auth.PlatformQuota) {
			t.Error("errors.Is() does not find the code of an error without a cause")
		}
	})
	t.Run("the text has the code, then the cause or the description", func(t *testing.T) {
		t.Parallel()
		for want, err := range map[string]*auth.Error{
			"code_used":      {Code: auth.CodeUsed},
			"code_used: Go.": {Code: auth.CodeUsed, Description: "Go."},
			"code_used: EOF": {Code: auth.CodeUsed, Description: "Go.", Err: io.EOF},
		} {
			if err.Error() != want {
				t.Errorf("Error() = %q, want %q", err.Error(), want)
			}
		}
	})
}

func TestCodesAreUniqueWords(t *testing.T) {
	t.Parallel()
	seen := map[auth.Code]bool{}
	for _, c := range auth.Codes() {
		if seen[c] {
			t.Errorf("%s is listed twice", c)
		}
		seen[c] = true
		if c == "" || strings.Trim(string(c), "abcdefghijklmnopqrstuvwxyz_") != "" {
			t.Errorf("code %q must be in lower case", c)
		}
	}
}

func TestValidAppID(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "wx0123456789abcDEF", strings.Repeat("z", 64)} {
		if !auth.ValidAppID(good) {
			t.Errorf("ValidAppID(%q) = false, want true", good)
		}
	}
	for _, bad := range []string{"", strings.Repeat("z", 65), "wx-1", "wx_1", "wx 1", "wx1\n", "wx\x00", "微信", "wx1%", "wx\xff", "@", "[", "`", "{", "/", ":"} {
		if auth.ValidAppID(bad) {
			t.Errorf("ValidAppID(%q) = true, want false", bad)
		}
	}
}

func TestCheckAudiences(t *testing.T) {
	t.Parallel()
	many := make([]string, auth.MaxAudiences+1)
	for i := range many {
		many[i] = fmt.Sprintf("https://api%d.example.com", i)
	}
	for name, good := range map[string][]string{
		"none":           nil,
		"as many as may": many[:auth.MaxAudiences],
		"the longest":    {strings.Repeat("a", auth.MaxAudienceLen)},
	} {
		if err := auth.CheckAudiences(good); err != nil {
			t.Errorf("%s: CheckAudiences() error = %v", name, err)
		}
	}
	for name, bad := range map[string][]string{
		"too many":     many,
		"too long":     {strings.Repeat("a", auth.MaxAudienceLen+1)},
		"an empty one": {"a", ""},
		"twice":        {"a", "b", "a"},
		"a space":      {"a b"},
		"a control":    {"a\x00"},
		"DEL":          {"a\x7f"},
		"not ASCII":    {"接口"},
		"not UTF-8":    {"a\xff"},
	} {
		if err := auth.CheckAudiences(bad); !errors.Is(err, auth.InvalidRequest) {
			t.Errorf("%s: CheckAudiences() error = %v, want invalid_request", name, err)
		}
	}
}

func TestCleanDevice(t *testing.T) {
	t.Parallel()
	wide := strings.Repeat("😀", auth.MaxDeviceLen)
	for name, tc := range map[string]struct{ in, want string }{
		"nothing":                                {"", ""},
		"white space around it goes":             {"  Pixel 9 \u3000", "Pixel 9"},
		"64 characters of four bytes are enough": {wide, wide},
		"Chinese":                                {"华为 Mate 60", "华为 Mate 60"},
		"quotes and markup are text":             {`<b>"x"</b>`, `<b>"x"</b>`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := auth.CleanDevice(tc.in)
			if err != nil || got != tc.want {
				t.Errorf("CleanDevice(%q) = %q, %v, want %q", tc.in, got, err, tc.want)
			}
		})
	}
	for name, in := range map[string]string{
		"65 characters":           strings.Repeat("x", auth.MaxDeviceLen+1),
		"ten kilobytes":           strings.Repeat("x", 10<<10),
		"ten kilobytes of spaces": strings.Repeat(" ", 10<<10),
		"NUL":                     "a\x00b",
		"a line break":            "a\nb",
		"DEL":                     "a\x7fb",
		"a C1 control":            "a\u0085b",
		"not UTF-8":               "a\xffb",
		"a surrogate half":        "a\xed\xa0\x80b",
		"reordered text":          "a\u202eb",
		"isolated text":           "a\u2066b",
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			t.Parallel()
			got, err := auth.CleanDevice(in)
			if got != "" || !errors.Is(err, auth.InvalidRequest) {
				t.Errorf("CleanDevice() = %q, %v, want invalid_request", got, err)
			}
			if err != nil && strings.Contains(err.Error(), in) {
				t.Errorf("the error quotes the input: %v", err)
			}
		})
	}
}

func TestCutoffs(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	id := uuid.Must(uuid.NewV7())
	t.Run("cutoffs outlive every access token from before them", func(t *testing.T) {
		t.Parallel()
		for _, c := range []auth.Cutoff{auth.SessionEnded("", id, now), auth.AppRevoked("wx1", 3, now)} {
			if !c.ExpiresAt.After(now.Add(auth.MaxAccessTokenTTL)) {
				t.Errorf("the cutoff %+v expires too early", c)
			}
		}
	})
	t.Run("an ended session revokes all its tokens", func(t *testing.T) {
		t.Parallel()
		if c := auth.SessionEnded("", id, now); c.Kind != auth.CutoffSession || c.Session != id || c.Ver != 0 {
			t.Errorf("SessionEnded() = %+v, want a session cutoff with ver 0", c)
		}
	})
	t.Run("a revoked app revokes tokens below its epoch", func(t *testing.T) {
		t.Parallel()
		if c := auth.AppRevoked("wx1", 3, now); c.Kind != auth.CutoffApp || c.AppID != "wx1" || c.Epoch != 3 {
			t.Errorf("AppRevoked() = %+v, want an app cutoff of wx1 with epoch 3", c)
		}
	})
}
