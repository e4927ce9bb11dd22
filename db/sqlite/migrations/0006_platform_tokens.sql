-- +goose Up

-- The access token with which a platform is called on behalf of an app, sealed;
-- all processes share it. Whoever renews it takes the lease first, in a
-- transaction of its own, so that nothing is locked while the platform is asked.
-- forced_count counts on forced_day, as the platform counts days.
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
