-- +goose Up

-- What running services tell of themselves: each writes its row while it runs.
-- Durations are milliseconds.
create table replicas (
    id              uuid primary key,
    version         text not null,
    issuer          text not null,
    jwks_max_age    bigint not null,
    session_max_ttl bigint not null,
    max_staleness   bigint not null,
    ready           boolean not null,
    reason          text not null default '',
    started_at      timestamptz not null,
    seen_at         timestamptz not null
);
