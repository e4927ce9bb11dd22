package admin

import (
	"context"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
)

// Bounds of a page.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// limitOf returns how long a page may be.
func limitOf(limit *int) (int, error) {
	if limit == nil {
		return defaultLimit, nil
	}
	if *limit < 1 || *limit > maxLimit {
		return 0, auth.Invalid("limit is 1 to 1000")
	}
	return *limit, nil
}

// pageOf reads a page's limit, and a cursor that is the id of the last one of the
// page before.
func pageOf(limit *int, cursor *string) (int, uuid.UUID, error) {
	n, err := limitOf(limit)
	if err != nil || cursor == nil {
		return n, uuid.Nil, err
	}
	after, err := uuid.Parse(*cursor)
	if err != nil || after.String() != *cursor {
		return 0, uuid.Nil, errCursor
	}
	return n, after, nil
}

var errCursor = auth.Invalid("cursor is the next of another page")

// cut returns a page of what was asked for with one more than belongs there, and
// the cursor of the next page, if there is one.
func cut[T any](all []T, limit int, id func(T) string) ([]T, *string) {
	if len(all) <= limit {
		return all, nil
	}
	next := id(all[limit-1])
	return all[:limit], &next
}

// personIn returns the person that a list is restricted to, uuid.Nil without the
// parameter. It may not be that itself, which is nobody's and restricts nothing.
func personIn(id *uuid.UUID) (uuid.UUID, error) {
	if id != nil && *id == uuid.Nil {
		return uuid.Nil, auth.Invalid("person is the id of a person")
	}
	return value(id), nil
}

// caller is who makes the request, and why.
func caller(ctx context.Context, reason *string) binding.Caller {
	key := keyOf(ctx)
	return binding.Caller{
		Apps: key.Apps, Actor: auth.ActorServiceKey(key.ID), Reason: value(reason), RequestID: web.EventOf(ctx).RequestID,
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
