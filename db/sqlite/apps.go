package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
)

const appColumns = `appid, platform, sealed_credentials, audiences, signing_alg, epoch, disabled_at is not null, created_at, updated_at,
  policy, sealed_webhook_secret`

func scanApp(row interface{ Scan(...any) error }) (auth.App, error) {
	var a auth.App
	var policy, credentials []byte
	err := row.Scan(&a.ID, &a.Platform, &credentials, (*jsonList)(&a.Audiences), &a.SigningAlg, &a.Epoch, &a.Disabled,
		into(&a.CreatedAt), into(&a.UpdatedAt), &policy, &a.SealedWebhookSecret)
	if err != nil {
		return auth.App{}, err
	}
	err = cmp.Or(json.Unmarshal(policy, &a.Policy), json.Unmarshal(credentials, &a.SealedCredentials))
	return a, err
}

var (
	appSQL  = statement(`select ` + appColumns + ` from apps where appid = ?`)
	appsSQL = statement(`select ` + appColumns + ` from apps order by appid`)
)

// appsVersion names the state of the apps. Every change of an app changes its epoch or the
// time of its last update, except that its secrets may be sealed again.
const appsVersion = `
select coalesce(group_concat(appid || ' ' || epoch || ' ' || updated_at || ' ' || sealed_credentials || coalesce(hex(sealed_webhook_secret), '')), '')
from (select appid, epoch, updated_at, sealed_credentials, sealed_webhook_secret from apps order by appid)`

// readApp reads one app, or returns [auth.AppUnknown].
func readApp(ctx context.Context, q querier, appID string) (auth.App, error) {
	a, err := scanApp(q.QueryRowContext(ctx, appSQL, appID))
	if errors.Is(err, sql.ErrNoRows) {
		return auth.App{}, auth.AppUnknown
	}
	return a, err
}

// App implements [session.Store] and [app.Store].
func (s *Store) App(ctx context.Context, appID string) (auth.App, error) {
	a, err := readApp(ctx, s.r, appID)
	if err != nil {
		return auth.App{}, translate(ctx, "App", err)
	}
	return a, nil
}

// Apps implements [app.Store].
func (s *Store) Apps(ctx context.Context) ([]auth.App, error) {
	rows, err := s.r.QueryContext(ctx, appsSQL)
	if err != nil {
		return nil, translate(ctx, "Apps", err)
	}
	apps, err := collect(rows, func(rows *sql.Rows) (auth.App, error) { return scanApp(rows) })
	return apps, translate(ctx, "Apps", err)
}

var appsStateSQL = statement(appsVersion)

// AppsState implements [app.Store].
func (s *Store) AppsState(ctx context.Context) (version string, apps []auth.App, err error) {
	if err := s.r.QueryRowContext(ctx, appsStateSQL).Scan(&version); err != nil {
		return "", nil, translate(ctx, "AppsState", err)
	}
	apps, err = s.Apps(ctx)
	return version, apps, err
}

// collect scans and closes all rows.
func collect[T any](rows *sql.Rows, scan func(*sql.Rows) (T, error)) ([]T, error) {
	defer rows.Close()
	all := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

var insertAppSQL = statement(`
insert into apps (appid, platform, sealed_credentials, audiences, epoch, disabled_at, created_at, updated_at, signing_alg,
  policy, sealed_webhook_secret)
values (?1, ?2, coalesce(?3, '{}'), ?4, ?5, ?6, ?7, ?7, ?8, ?9, ?10)
on conflict (appid) do nothing`)

// AddApp implements [app.Store].
func (s *Store) AddApp(ctx context.Context, a auth.App, event auth.AuditEvent) error {
	return s.inTx(ctx, "AddApp", func(tx *writeTx) error {
		var disabledAt time.Time
		if a.Disabled {
			disabledAt = event.At
		}
		policy, err := json.Marshal(a.Policy)
		if err != nil {
			return err
		}
		credentials, err := app.MarshalCredentials(a.SealedCredentials)
		if err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, insertAppSQL, a.ID, a.Platform, credentials, jsonList(a.Audiences), a.Epoch,
			micros(disabledAt), micros(event.At), cmp.Or(a.SigningAlg, auth.DefaultSigningAlg),
			string(policy), blobOrNull(a.SealedWebhookSecret))
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		if n == 0 {
			return auth.AppExists
		}
		event.AppID = a.ID
		return writeAudit(ctx, tx, event)
	})
}

var updateAppSQL = statement(`
update apps
set sealed_credentials = json_patch(sealed_credentials, coalesce(?2, '{}')), audiences = coalesce(?3, audiences), updated_at = ?4,
    signing_alg = coalesce(?5, signing_alg), policy = coalesce(?6, policy),
    sealed_webhook_secret = coalesce(?7, sealed_webhook_secret)
where appid = ?1
returning ` + appColumns)

// UpdateApp implements [app.Store].
func (s *Store) UpdateApp(ctx context.Context, appID string, change app.Change, event auth.AuditEvent) (auth.App, error) {
	// nil, which becomes NULL, leaves a column unchanged.
	var audiences, policy any
	if change.Audiences != nil {
		audiences = jsonList(*change.Audiences)
	}
	if change.Policy != nil {
		j, err := json.Marshal(change.Policy)
		if err != nil {
			return auth.App{}, err
		}
		policy = string(j)
	}
	var a auth.App
	err := s.inTx(ctx, "UpdateApp", func(tx *writeTx) error {
		before, err := readApp(ctx, tx, appID)
		if err != nil {
			return err
		}
		if change.Check != nil {
			if err := change.Check(before); err != nil {
				return err
			}
		}
		credentials, err := app.MarshalCredentials(change.SealedCredentials)
		if err != nil {
			return err
		}
		a, err = scanApp(tx.QueryRowContext(ctx, updateAppSQL, appID, credentials, audiences,
			micros(event.At), textOrNull(change.SigningAlg), policy, blobOrNull(change.SealedWebhookSecret)))
		if err != nil {
			return err
		}
		event.AppID = appID
		return writeAudit(ctx, tx, event.With(map[string]any{"changed": change.Changed()}))
	})
	if err != nil {
		return auth.App{}, err
	}
	return a, nil
}

// DisableApp implements [app.Store].
func (s *Store) DisableApp(ctx context.Context, appID string, event auth.AuditEvent) (auth.App, error) {
	return s.switchApp(ctx, "DisableApp", appID, true, event)
}

// EnableApp implements [app.Store].
func (s *Store) EnableApp(ctx context.Context, appID string, event auth.AuditEvent) (auth.App, error) {
	return s.switchApp(ctx, "EnableApp", appID, false, event)
}

var switchAppSQL = statement(`
update apps set disabled_at = ?2, epoch = epoch + 1, updated_at = ?3
where appid = ?1
returning ` + appColumns)

// switchApp disables or enables an app. Both revoke what the app has issued.
func (s *Store) switchApp(ctx context.Context, op, appID string, disable bool, event auth.AuditEvent) (auth.App, error) {
	var a auth.App
	err := s.inTx(ctx, op, func(tx *writeTx) error {
		var err error
		a, err = readApp(ctx, tx, appID)
		if err != nil || a.Disabled == disable {
			return err
		}
		var disabledAt time.Time
		if disable {
			disabledAt = event.At
		}
		a, err = scanApp(tx.QueryRowContext(ctx, switchAppSQL, appID, micros(disabledAt), micros(event.At)))
		if err != nil {
			return err
		}
		event.AppID = appID
		if err := writeAudit(ctx, tx, event); err != nil {
			return err
		}
		c := auth.AppRevoked(appID, a.Epoch, event.At)
		c.Reason = auth.EndAppDisabled
		_, err = writeCutoff(ctx, tx, c, event.At)
		return err
	})
	if err != nil {
		return auth.App{}, err
	}
	return a, nil
}
