package admin

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// Bounds of a page.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// limitOf returns the page size that a request asks for.
func limitOf(r *http.Request) (int, error) {
	limit, err := queryValue(r, "limit", strconv.Atoi)
	switch {
	case err != nil:
		return 0, err
	case limit == nil:
		return defaultLimit, nil
	case *limit < 1 || *limit > maxLimit:
		return 0, auth.Invalid("limit must be 1 to 1000")
	}
	return *limit, nil
}

// pageOf returns the limit of a page, and the cursor: the id of the last item of
// the page before.
func pageOf(r *http.Request) (limit int, after uuid.UUID, err error) {
	if limit, err = limitOf(r); err != nil {
		return 0, uuid.Nil, err
	}
	cursor := queryText(r, "cursor")
	if cursor == "" {
		return limit, uuid.Nil, nil
	}
	if after, err = uuid.Parse(cursor); err != nil || after.String() != cursor {
		return 0, uuid.Nil, errCursor
	}
	return limit, after, nil
}

var errCursor = auth.Invalid("cursor must be the next of a previous page")

// cutPage returns one page of a list and the cursor of the next page. The caller reads one
// item more than the limit. The cursor is nil if that item does not exist.
func cutPage[T any](all []T, limit int, id func(T) string) ([]T, *string) {
	if len(all) <= limit {
		return all, nil
	}
	next := id(all[limit-1])
	return all[:limit], &next
}

// queryID returns an id that a list is restricted to, uuid.Nil without the parameter. The
// parameter may not be uuid.Nil, which would restrict nothing.
func queryID(r *http.Request, name string) (uuid.UUID, error) {
	id, err := queryValue(r, name, uuid.Parse)
	if err == nil && id != nil && *id == uuid.Nil {
		err = errForm(name)
	}
	return value(id), err
}

// caller returns the caller of a request, with the reason.
func caller(r *http.Request, reason string) auth.Caller {
	key := keyOf(r.Context())
	return auth.Caller{
		Apps: key.Apps, Actor: auth.ActorServiceKey(key.ID), Reason: reason, RequestID: web.EventOf(r.Context()).RequestID,
	}
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func uuidOrNull(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// value returns the value of an optional member or parameter, or the zero value.
func value[T any](p *T) T { return *cmp.Or(p, new(T)) }
