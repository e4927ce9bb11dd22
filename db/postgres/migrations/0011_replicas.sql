-- +goose Up

-- The state of running replicas: each writes its own row. Durations are in
-- milliseconds.
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
