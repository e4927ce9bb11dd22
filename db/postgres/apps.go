package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
)

const appColumns = `appid, platform, sealed_credentials, audiences, signing_alg, epoch, disabled_at is not null, created_at, updated_at,
  policy, sealed_webhook_secret`

func scanApp(row pgx.Row) (auth.App, error) {
	var (
		a                   auth.App
		policy, credentials []byte
	)
	err := row.Scan(&a.ID, &a.Platform, &credentials, &a.Audiences, &a.SigningAlg, &a.Epoch, &a.Disabled, &a.CreatedAt, &a.UpdatedAt,
		&policy, &a.SealedWebhookSecret)
	if err != nil {
		return auth.App{}, err
	}
	a.Audiences = nilIfEmpty(a.Audiences)
	a.CreatedAt, a.UpdatedAt = a.CreatedAt.UTC(), a.UpdatedAt.UTC()
	err = cmp.Or(json.Unmarshal(policy, &a.Policy), json.Unmarshal(credentials, &a.SealedCredentials))
	return a, err
}

var (
	appSQL       = statement(`select ` + appColumns + ` from apps where appid = $1`)
	appLockedSQL = statement(`select ` + appColumns + ` from apps where appid = $1 for no key update`)
	appsSQL      = statement(`select ` + appColumns + ` from apps order by appid`)
)

// appsVersion names the state of the apps. Every update of a row changes its xmin.
const appsVersion = `
select encode(sha256(convert_to(coalesce(string_agg(concat_ws(' ', appid, xmin, extract(epoch from updated_at), epoch), ',' order by appid), ''), 'UTF8')), 'hex')
from apps`

// readApp reads one app, or returns [auth.AppUnknown].
func readApp(ctx context.Context, q querier, sql, appID string) (auth.App, error) {
	a, err := scanApp(q.QueryRow(ctx, sql, appID))
	if errors.Is(err, pgx.ErrNoRows) {
		return auth.App{}, auth.AppUnknown
	}
	return a, err
}

// App implements [session.Store] and [app.Store].
func (s *Store) App(ctx context.Context, appID string) (auth.App, error) {
	a, err := readApp(ctx, s.pool, appSQL, appID)
	if err != nil {
		return auth.App{}, s.fail(ctx, "App", err)
	}
	return a, nil
}

// Apps implements [app.Store].
func (s *Store) Apps(ctx context.Context) ([]auth.App, error) {
	rows, err := s.pool.Query(ctx, appsSQL)
	if err != nil {
		return nil, s.fail(ctx, "Apps", err)
	}
	apps, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (auth.App, error) { return scanApp(row) })
	return apps, s.fail(ctx, "Apps", err)
}

var appsStateSQL = statement(appsVersion)

// AppsState implements [app.Store].
func (s *Store) AppsState(ctx context.Context) (version string, apps []auth.App, err error) {
	var b pgx.Batch // on one connection, so of one server
	b.Queue(appsStateSQL).QueryRow(func(row pgx.Row) error { return row.Scan(&version) })
	b.Queue(appsSQL).Query(func(rows pgx.Rows) (err error) {
		apps, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (auth.App, error) { return scanApp(row) })
		return err
	})
	c, err := s.pool.Acquire(ctx)
	if err == nil {
		defer c.Release()
		err = c.SendBatch(ctx, &b).Close()
	}
	if err != nil {
		return "", nil, s.fail(ctx, "AppsState", err)
	}
	return version, apps, nil
}

var insertAppSQL = statement(`
insert into apps (appid, platform, sealed_credentials, audiences, epoch, disabled_at, created_at, updated_at, signing_alg,
  policy, sealed_webhook_secret)
values ($1, $2, coalesce($3::jsonb, '{}'), $4, $5, $6, $7, $7, $8, $9, $10)
on conflict (appid) do nothing`)

// AddApp implements [app.Store].
func (s *Store) AddApp(ctx context.Context, a auth.App, event auth.AuditEvent) error {
	return s.inTx(ctx, "AddApp", func(tx *transaction) error {
		var disabledAt time.Time
		if a.Disabled {
			disabledAt = event.At
		}
		audiences := a.Audiences
		if audiences == nil {
			audiences = []string{}
		}
		policy, err := json.Marshal(a.Policy)
		if err != nil {
			return err
		}
		credentials, err := app.MarshalCredentials(a.SealedCredentials)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, insertAppSQL, a.ID, a.Platform, credentials, audiences, a.Epoch,
			timeOrNull(disabledAt), auth.StoredTime(event.At), cmp.Or(a.SigningAlg, auth.DefaultSigningAlg),
			string(policy), a.SealedWebhookSecret)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return auth.AppExists
		}
		return appChanged(ctx, tx, a.ID, event, nil)
	})
}

var updateAppSQL = statement(`
update apps
set sealed_credentials = sealed_credentials || coalesce($2::jsonb, '{}'), audiences = coalesce($3, audiences), updated_at = $4,
    signing_alg = coalesce($5, signing_alg), policy = coalesce($6, policy),
    sealed_webhook_secret = coalesce($7, sealed_webhook_secret)
where appid = $1
returning ` + appColumns)

// UpdateApp implements [app.Store].
func (s *Store) UpdateApp(ctx context.Context, appID string, change app.Change, event auth.AuditEvent) (auth.App, error) {
	// nil, which becomes NULL, leaves a column unchanged.
	var audiences []string
	if change.Audiences != nil {
		audiences = append([]string{}, *change.Audiences...)
	}
	var policy *string
	if change.Policy != nil {
		j, err := json.Marshal(change.Policy)
		if err != nil {
			return auth.App{}, s.fail(ctx, "UpdateApp", err)
		}
		text := string(j)
		policy = &text
	}
	var a auth.App
	err := s.inTx(ctx, "UpdateApp", func(tx *transaction) error {
		before, err := readApp(ctx, tx, appLockedSQL, appID)
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
		a, err = scanApp(tx.QueryRow(ctx, updateAppSQL, appID, credentials, audiences, auth.StoredTime(event.At),
			textOrNull(change.SigningAlg), policy, change.SealedWebhookSecret))
		if err != nil {
			return err
		}
		return appChanged(ctx, tx, appID, event.With(map[string]any{"changed": change.Changed()}), nil)
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
update apps set disabled_at = $2, epoch = epoch + 1, updated_at = $3
where appid = $1
returning ` + appColumns)

// switchApp disables or enables an app. Both revoke what the app has issued.
func (s *Store) switchApp(ctx context.Context, op, appID string, disable bool, event auth.AuditEvent) (auth.App, error) {
	var a auth.App
	err := s.inTx(ctx, op, func(tx *transaction) error {
		var err error
		a, err = readApp(ctx, tx, appLockedSQL, appID)
		if err != nil || a.Disabled == disable {
			return err
		}
		var disabledAt time.Time
		if disable {
			disabledAt = event.At
		}
		a, err = scanApp(tx.QueryRow(ctx, switchAppSQL, appID, timeOrNull(disabledAt), auth.StoredTime(event.At)))
		if err != nil {
			return err
		}
		cutoff := auth.AppRevoked(appID, a.Epoch, event.At)
		cutoff.Reason = auth.EndAppDisabled
		return appChanged(ctx, tx, appID, event, &cutoff)
	})
	if err != nil {
		return auth.App{}, err
	}
	return a, nil
}

// appChanged writes the audit event of a change to an app and its cutoff if there is one,
// and commits.
func appChanged(ctx context.Context, tx *transaction, appID string, event auth.AuditEvent, cutoff *auth.Cutoff) error {
	event.AppID = appID
	var b pgx.Batch
	if err := queueAudit(&b, event); err != nil {
		return err
	}
	if cutoff != nil {
		queueCutoffs(&b, event.At, *cutoff)
	}
	return tx.commit(ctx, &b)
}
