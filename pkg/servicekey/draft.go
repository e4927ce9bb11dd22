package servicekey

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Bounds of the settings of a key.
const (
	// MaxNameLen is the maximum length of a name, in characters.
	MaxNameLen = 64
	// MaxApps is the maximum number of apps of a restricted key.
	MaxApps = 64
	// MinTTL and MaxTTL bound the lifetime of a key that expires.
	MinTTL = time.Minute
	MaxTTL = 10 * 365 * 24 * time.Hour
)

// Draft holds the settings of a new key. [NewDraft] makes one.
type Draft struct {
	Name   string
	Scopes []Scope
	Apps   []string
	// ExpiresAt is when the key stops working; zero means never.
	ExpiresAt time.Time
}

// NewDraft checks the settings of a new key and normalises them: scopes in order, apps
// sorted, each once. It does not check that the apps are registered.
//
// Errors: [auth.InvalidRequest] for a name that is empty, too long or not clean text,
// for no scope or an unknown one, and for a text that is not an appid.
func NewDraft(name string, scopes, apps []string) (Draft, error) {
	name = strings.TrimSpace(name)
	switch {
	case name == "" || utf8.RuneCountInString(name) > MaxNameLen:
		return Draft{}, auth.Invalid("name must have 1 to 64 characters")
	case !auth.CleanText(name):
		return Draft{}, auth.Invalid("name must be UTF-8 text without control characters")
	case len(scopes) == 0:
		return Draft{}, errScope
	case len(apps) > MaxApps:
		return Draft{}, auth.Invalid("apps must have at most 64 appids")
	}
	d := Draft{Name: name}
	for _, s := range scopes {
		if !slices.Contains(Scopes(), Scope(s)) {
			return Draft{}, errScope
		}
	}
	for _, s := range Scopes() {
		if slices.Contains(scopes, string(s)) {
			d.Scopes = append(d.Scopes, s)
		}
	}
	for _, app := range apps {
		if !auth.ValidAppID(app) {
			return Draft{}, auth.Invalid("each of apps must be an appid: 1 to 64 letters and digits")
		}
		d.Apps = append(d.Apps, app)
	}
	slices.Sort(d.Apps)
	d.Apps = slices.Compact(d.Apps)
	return d, nil
}

var errScope = auth.Invalid("scope must be one or more of: " + joinScopes(Scopes(), ", "))

// ExpireIn returns the draft of a key that expires.
//
// Errors: [auth.InvalidRequest] for a time that is too short or too long.
func (d Draft) ExpireIn(ttl time.Duration, now time.Time) (Draft, error) {
	if ttl < MinTTL || ttl > MaxTTL {
		return Draft{}, auth.Invalid("the lifetime of a service key must be 60 seconds to 10 years")
	}
	d.ExpiresAt = now.Add(ttl).UTC().Truncate(time.Microsecond)
	return d, nil
}

// Mint returns the draft of a key that this key makes. A key makes only keys with a
// subset of its own scopes and apps, which expire no later than it does. A draft
// that does not expire gets the expiry of this key.
//
// Errors: [auth.InsufficientScope], [auth.InvalidRequest] for a later expiry.
func (k *Key) Mint(d Draft) (Draft, error) {
	for _, s := range d.Scopes {
		if !k.Has(s) {
			return Draft{}, &auth.Error{Code: auth.InsufficientScope, Description: "A service key can only create keys with its own scopes; this one lacks " + string(s) + "."}
		}
	}
	outside := func(app string) bool { return !slices.Contains(k.Apps, app) }
	if k.Restricted() && (len(d.Apps) == 0 || slices.ContainsFunc(d.Apps, outside)) {
		return Draft{}, &auth.Error{Code: auth.InsufficientScope, Description: "A service key that is restricted to apps can only create keys for some of these apps: name them in apps."}
	}
	switch {
	case k.ExpiresAt.IsZero():
	case d.ExpiresAt.IsZero():
		d.ExpiresAt = k.ExpiresAt
	case d.ExpiresAt.After(k.ExpiresAt):
		return Draft{}, auth.Invalid("expires_in must not be later than the expiry of the service key that creates the key")
	}
	return d, nil
}

// Manages reports whether the key may list and revoke the other key. A key that is
// restricted to apps manages the keys that are restricted to some of these apps.
func (k *Key) Manages(other *Key) bool {
	return !k.Restricted() || other.Restricted() &&
		!slices.ContainsFunc(other.Apps, func(app string) bool { return !slices.Contains(k.Apps, app) })
}

// Descendants returns the keys that the key with the id made, that those made, and so
// on, in the order of all.
func Descendants(all []Key, id string) []Key {
	family := map[string]bool{auth.ActorServiceKey(id): true}
	for grown := true; grown; {
		grown = false
		for i := range all {
			if actor := auth.ActorServiceKey(all[i].ID); family[all[i].Creator] && !family[actor] {
				family[actor], grown = true, true
			}
		}
	}
	var found []Key
	for _, k := range all {
		if k.ID != id && family[auth.ActorServiceKey(k.ID)] {
			found = append(found, k)
		}
	}
	return found
}

// Restricted reports whether the key is restricted to some apps.
func (k *Key) Restricted() bool { return len(k.Apps) > 0 }

// CreatorID returns the id of the creator's service key, or false if the creator is not
// a service key.
func CreatorID(creator string) (id string, ok bool) {
	return strings.CutPrefix(creator, auth.ActorServiceKey(""))
}
