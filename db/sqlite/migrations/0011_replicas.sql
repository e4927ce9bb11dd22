-- +goose Up

-- The state of running processes: each writes its own row. Durations are in
-- milliseconds.
create table replicas (
    id              text not null primary key,
    version         text not null,
    issuer          text not null,
    jwks_max_age    integer not null,
    session_max_ttl integer not null,
    max_staleness   integer not null,
    ready           integer not null check (ready in (0, 1)),
    reason          text not null default '',
    started_at      integer not null,
    seen_at         integer not null
) strict;
