package main

import (
	"context"
	"time"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/telemetry"
)

// measuredProvider is a provider whose calls are counted and timed.
type measuredProvider struct {
	platform.Provider
	name string
	// class returns the class of an outcome, one of a small set of names.
	class   func(error) string
	metrics *telemetry.Metrics
}

// ExchangeCode implements [platform.Provider].
func (o measuredProvider) ExchangeCode(ctx context.Context, app platform.Credentials, code string) (platform.Account, error) {
	began := time.Now()
	account, err := o.Provider.ExchangeCode(ctx, app, code)
	o.metrics.ObservePlatformCall(o.name, o.class(err), time.Since(began))
	return account, err
}

// ExchangePhoneCode implements [platform.Provider]. It counts as one call, even if the
// provider also fetched an access token.
func (o measuredProvider) ExchangePhoneCode(ctx context.Context, app platform.Credentials, user auth.PlatformAccount, code string) (string, error) {
	began := time.Now()
	number, err := o.Provider.ExchangePhoneCode(ctx, app, user, code)
	o.metrics.ObservePlatformCall(o.name, o.class(err), time.Since(began))
	return number, err
}

// measureKeys publishes the ages of the current signing keys. Now is the database's clock.
func measureKeys(m *telemetry.Metrics, keys *keyring.Ring, now func() time.Time) {
	gauge := func(use keyring.Use, alg string) {
		m.Gauge("yufu_current_key_age_seconds", "Time since the current signing key was first used, by use (access, refresh) and algorithm; 0 without such a key.",
			map[string]string{"use": string(use), "alg": alg},
			func() float64 { return keys.CurrentAge(use, alg, now()).Seconds() })
	}
	for _, alg := range auth.SigningAlgs() {
		gauge(keyring.UseAccess, alg)
	}
	gauge(keyring.UseRefresh, keyring.AlgMAC)
}

// measureClock publishes the offset of this machine's clock from the database's.
func measureClock(m *telemetry.Metrics, follower *cutoffs.Follower) {
	m.Gauge("yufu_clock_offset_seconds", "Seconds by which this machine's clock is ahead of the database's; negative when it is behind. Beyond 2 either way, this replica issues no tokens.", nil,
		func() float64 { return follower.ClockAhead().Seconds() })
}

// measureKeeper publishes whether this replica can use the keys in the database.
func measureKeeper(m *telemetry.Metrics, keeper *keyring.Keeper) {
	m.Gauge("yufu_keys_unusable", "1 while this replica cannot use the keys in the database, for example because it lacks their master key; 0 otherwise.", nil,
		func() float64 {
			if keeper.Unusable() != nil {
				return 1
			}
			return 0
		})
}

// measureBindings publishes the number of attempts to bind by facts that were refused.
func measureBindings(m *telemetry.Metrics, bindings *binding.Service) {
	m.Counter("yufu_binding_facts_slowed_total", "Attempts to bind by facts that this replica refused because too many attempts of their app failed.", nil,
		func() float64 { return float64(bindings.RefusedFactAttempts()) })
}

// measurePool publishes the state of the connection pool. SQLite has no pool.
func measurePool(m *telemetry.Metrics, s db.Store) {
	pg, ok := s.(*postgres.Store)
	if !ok {
		return
	}
	const name, help = "yufu_db_connections", "Connections to the database by state (idle, acquired, constructing)."
	m.Gauge(name, help, map[string]string{"state": "idle"}, func() float64 { return float64(pg.Stat().IdleConns()) })
	m.Gauge(name, help, map[string]string{"state": "acquired"}, func() float64 { return float64(pg.Stat().AcquiredConns()) })
	m.Gauge(name, help, map[string]string{"state": "constructing"}, func() float64 { return float64(pg.Stat().ConstructingConns()) })
	m.Gauge("yufu_db_connections_max", "Maximum number of connections to the database.", nil,
		func() float64 { return float64(pg.Stat().MaxConns()) })
	m.Counter("yufu_db_acquires_total", "Connections taken from the pool.", nil,
		func() float64 { return float64(pg.Stat().AcquireCount()) })
	m.Counter("yufu_db_acquires_canceled_total", "Calls that gave up waiting for a connection, among them comparisons of cutoffs while the pool is busy.", nil,
		func() float64 { return float64(pg.Stat().CanceledAcquireCount()) })
	m.Counter("yufu_db_acquire_duration_seconds_total", "Time spent waiting for a connection.", nil,
		func() float64 { return pg.Stat().AcquireDuration().Seconds() })
}
