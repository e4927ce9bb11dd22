-- +goose Up

-- The access token for calling a platform on behalf of an app, sealed. All processes
-- share it. A process that renews it takes the lease first, in a transaction of its
-- own, so that nothing is locked during the call to the platform. forced_count counts
-- the forced renewals on forced_day, in the platform's days.
create table platform_tokens (
    appid        text not null primary key references apps (appid),
    sealed_token blob,
    expires_at   integer,
    lease        text,
    leased_until integer,
    forced_at    integer,
    forced_day   text,
    forced_count integer not null default 0 check (forced_count >= 0),
    check ((sealed_token is null) = (expires_at is null)),
    check ((lease is null) = (leased_until is null))
) strict;
