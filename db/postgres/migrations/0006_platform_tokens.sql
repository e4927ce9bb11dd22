-- +goose Up

-- The access token for calling a platform on behalf of an app, sealed. All replicas
-- share it. A replica that renews it takes the lease first, in a transaction of its
-- own, so that no row is locked during the call to the platform. forced_count counts
-- the forced renewals on forced_day, in the platform's days.
create table platform_tokens (
    appid        text collate "C" primary key references apps (appid),
    sealed_token bytea,
    expires_at   timestamptz,
    lease        uuid,
    leased_until timestamptz,
    forced_at    timestamptz,
    forced_day   text collate "C",
    forced_count integer not null default 0 check (forced_count >= 0),
    check ((sealed_token is null) = (expires_at is null)),
    check ((lease is null) = (leased_until is null))
);
