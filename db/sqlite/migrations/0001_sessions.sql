-- +goose Up

-- Times are microseconds since 1970 in UTC. uuids and lists are text (lists as
-- JSON), so that any tool can read the file.

-- sealed_credentials has a value in base64 for each name, sealed for the row and the
-- name.
create table apps (
    appid              text not null primary key check (length(appid) between 1 and 64 and appid not glob '*[^A-Za-z0-9]*'),
    platform           text not null,
    sealed_credentials text not null check (json_type(sealed_credentials) = 'object'),
    audiences          text not null default '[]' check (json_type(audiences) = 'array'),
    epoch              integer not null default 0 check (epoch >= 0),
    disabled_at        integer,
    created_at         integer not null,
    updated_at         integer not null
) strict;

create table persons (
    id          text not null primary key,
    external_id text not null unique,
    name        text not null default '',
    disabled_at integer,
    created_at  integer not null
) strict;

-- person_disabled_at mirrors persons.disabled_at. It is written together with it,
-- so that one row holds all that an exchange needs.
create table identities (
    uuid               text not null primary key,
    appid              text not null references apps (appid),
    subject_kind       text not null check (subject_kind <> ''),
    subject            text not null check (subject <> ''),
    unionid            text check (unionid <> ''),
    sealed_session_key blob not null,
    person_id          text references persons (id),
    disabled_at        integer,
    person_disabled_at integer check (person_disabled_at is null or person_id is not null),
    created_at         integer not null,
    last_login_at      integer not null,
    unique (appid, subject_kind, subject)
) strict;

-- One row per log-in, however often it is refreshed. A refresh writes generation,
-- rotated_at and idle_expires_at, which are not indexed. person_id, ver and epoch
-- are the values in the session's tokens. They change here, in the UPDATE that
-- raises ver, and are never read by a join.
create table sessions (
    id              text not null primary key,
    identity_uuid   text not null references identities (uuid),
    appid           text not null,
    device          text not null default '',
    person_id       text references persons (id),
    ver             integer not null check (ver > 0),
    epoch           integer not null,
    generation      integer not null check (generation between 1 and 4294967295),
    rotated_at      integer not null,
    started_at      integer not null,
    idle_expires_at integer not null check (idle_expires_at <= expires_at),
    expires_at      integer not null,
    ended_at        integer,
    end_reason      text,
    check ((ended_at is null) = (end_reason is null))
) strict;

create index sessions_identity_uuid on sessions (identity_uuid);
create index sessions_expires_at on sessions (expires_at);

-- Revocations as validators see them. There is one writer at a time, so ids appear
-- in commit order. AUTOINCREMENT never reuses an id after pruning. ver 0 means
-- every token of the session.
create table cutoffs (
    id         integer primary key autoincrement,
    kind       text not null,
    session_id text,
    ver        integer,
    appid      text,
    epoch      integer,
    kid        text,
    created_at integer not null,
    expires_at integer,
    constraint cutoffs_fields check (case kind
        when 'session' then session_id is not null and ver is not null and ver >= 0
            and appid is null and epoch is null and kid is null and expires_at is not null
        when 'app' then appid is not null and epoch is not null and epoch > 0
            and session_id is null and ver is null and kid is null and expires_at is not null
        when 'key' then kid is not null
            and session_id is null and ver is null and appid is null and epoch is null and expires_at is null
        else false end)
) strict;

create index cutoffs_expires_at on cutoffs (expires_at) where expires_at is not null;

-- No foreign keys: the audit trail outlives the rows that it names.
create table audit (
    id            integer primary key autoincrement,
    at            integer not null,
    action        text not null,
    actor         text not null,
    appid         text,
    identity_uuid text,
    session_id    text,
    reason        text not null default '',
    request_id    text not null default '',
    detail        text check (detail is null or json_valid(detail))
) strict;

create table signing_keys (
    kid        text not null primary key,
    use        text not null check (use in ('access', 'refresh')),
    alg        text not null,
    sealed     blob not null,
    public_jwk blob,
    created_at integer not null,
    active_at  integer,
    retired_at integer
) strict;
