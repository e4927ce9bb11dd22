-- +goose Up

-- Times are microseconds since 1970 in UTC. uuids and lists are text (lists as
-- JSON), so that any tool can read the file.

-- sealed_credentials has a value in base64 for each name, sealed for the row and the
-- name. signing_alg is the algorithm that signs the app's access tokens.
create table apps (
    appid                 text not null primary key check (length(appid) between 1 and 64 and appid not glob '*[^A-Za-z0-9]*'),
    platform              text not null,
    sealed_credentials    text not null check (json_type(sealed_credentials) = 'object'),
    sealed_webhook_secret blob,
    audiences             text not null default '[]' check (json_type(audiences) = 'array'),
    signing_alg           text not null default 'ES256' check (signing_alg in ('ES256', 'EdDSA', 'RS256')),
    policy                text not null default '{}' check (json_type(policy) = 'object'),
    epoch                 integer not null default 0 check (epoch >= 0),
    disabled_at           integer,
    created_at            integer not null,
    updated_at            integer not null
) strict;

-- When and why an app's epoch was raised. The sessions that it revoked are not
-- updated, so an admin finds here what ended them.
create table app_epochs (
    appid  text not null references apps (appid),
    epoch  integer not null,
    at     integer not null,
    reason text not null,
    primary key (appid, epoch)
) strict, without rowid;

-- attributes holds JSON as the domain wrote it. updated_at is null until the first
-- change. source is "admin" or the binding method that made the person. The program
-- knows the methods. A list of them here would need a migration for each new method.
create table persons (
    id          text not null primary key,
    external_id text not null unique,
    name        text not null default '',
    phone       text check (phone glob '+[1-9][0-9][0-9][0-9][0-9][0-9][0-9]*' and length(phone) <= 16 and substr(phone, 2) not glob '*[^0-9]*'),
    attributes  text not null default '{}' check (json_type(attributes) = 'object'),
    source      text not null default 'admin' check (source <> ''),
    disabled_at integer,
    created_at  integer not null,
    updated_at  integer
) strict;

create unique index persons_phone on persons (phone) where phone is not null;

-- For searching persons by the beginning of the name.
create index persons_name on persons (name, id);

-- Values that a person gives to prove who they are, as HMACs of the name and the
-- normalised value. The HMAC does not depend on the person, because it is used to
-- find the person by a value.
create table person_facts (
    person_id text not null references persons (id),
    name      text not null check (name glob '[a-z]*' and length(name) <= 32 and name not glob '*[^a-z0-9_]*'),
    mac       blob not null check (length(mac) = 32),
    primary key (person_id, name)
) strict, without rowid;

create index person_facts_name_mac on person_facts (name, mac, person_id);

-- The key of these HMACs, sealed. There is one row, and it never changes: the
-- values that it was used on are not stored.
create table fact_keys (
    id         integer not null primary key check (id = 1),
    sealed     blob not null,
    created_at integer not null
) strict;

-- The key that an identity's shard is computed with, sealed, and its check value. The
-- row is inserted in the transaction of this file and never changes: with another key
-- every known account would get a second identity in another shard.
create table shard_key (
    one         integer not null primary key default 1 check (one = 1),
    sealed      blob not null,
    check_value blob not null
) strict;

-- shard follows from appid, subject_kind and subject. The last ten bits of the uuid, and
-- of the ids of its sessions, repeat it. It does nothing in one file: it is here so that
-- the rows can move to PostgreSQL. An erased identity keeps it.
--
-- person_disabled_at mirrors persons.disabled_at. It is written together with it,
-- so that one row holds all that an exchange needs.
--
-- An erased identity keeps its uuid, its app and its times: subject is then 'erased:'
-- and the uuid, which no platform issues, and sealed_session_key is empty.
create table identities (
    uuid               text not null,
    shard              integer not null check (shard between 0 and 1023),
    appid              text not null references apps (appid),
    subject_kind       text not null check (subject_kind <> ''),
    subject            text not null check (subject <> ''),
    unionid            text check (unionid <> ''),
    sealed_session_key blob not null,
    person_id          text references persons (id),
    bound_at           integer,
    bound_by           text,
    disabled_at        integer,
    person_disabled_at integer check (person_disabled_at is null or person_id is not null),
    created_at         integer not null,
    last_login_at      integer not null,
    erased_at          integer,
    primary key (uuid, shard),
    unique (appid, subject_kind, subject, shard)
) strict;

create index identities_unionid on identities (unionid) where unionid is not null;

-- For revoking a person: finds the identities that are bound to the person.
create index identities_person_id on identities (person_id) where person_id is not null;

-- One row per log-in, however often it is refreshed. A refresh writes generation,
-- rotated_at and idle_expires_at, which are not indexed. person_id, ver and epoch
-- are the values in the session's tokens. They change here, in the UPDATE that
-- raises ver, and are never read by a join.
create table sessions (
    id              text not null,
    shard           integer not null,
    identity_uuid   text not null,
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
    primary key (id, shard),
    foreign key (identity_uuid, shard) references identities (uuid, shard),
    check ((ended_at is null) = (end_reason is null))
) strict;

-- A log-in counts the identity's live sessions, and a path that ends sessions finds
-- them. Neither should read the ended ones, of which there may be many until they
-- expire. A refresh does not write ended_at.
create index sessions_identity_uuid_ended_at on sessions (identity_uuid, ended_at);
create index sessions_expires_at on sessions (expires_at);

-- One-time tickets. A ticket binds the user who presents it to a person. Only the
-- hash is stored. A ticket without an app is valid in every app.
create table bind_tickets (
    hash       blob not null primary key check (length(hash) = 32),
    person_id  text not null references persons (id),
    appid      text references apps (appid),
    created_at integer not null,
    expires_at integer not null,
    used_by    text,
    used_at    integer,
    check ((used_by is null) = (used_at is null))
) strict;

create index bind_tickets_expires_at on bind_tickets (expires_at);

-- Attempts to bind that failed or whose result is unknown. at is the time of the
-- last one. A row has no effect after expires_at.
create table bind_attempts (
    kind          text not null check (kind in ('identity', 'value', 'address')),
    key           text not null,
    failures      integer not null check (failures >= 0),
    at            integer not null,
    blocked_until integer,
    expires_at    integer not null,
    primary key (kind, key)
) strict;

create index bind_attempts_expires_at on bind_attempts (expires_at);

-- Revocations as validators see them. There is one writer at a time, so ids appear
-- in commit order. AUTOINCREMENT never reuses an id after pruning. ver 0 means
-- every token of the session. session_appid is the app of the session that a session
-- cutoff ends, so that a service key restricted to apps receives only the cutoffs of
-- their sessions. It is null if the app is not known; every key
-- receives such a cutoff.
create table cutoffs (
    id            integer primary key autoincrement,
    kind          text not null,
    session_id    text,
    session_appid text,
    ver           integer,
    appid         text,
    epoch         integer,
    kid           text,
    created_at    integer not null,
    expires_at    integer,
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

-- The audit log: rows are only added. No foreign keys: it outlives the rows that it names.
-- Personal values stand in audit_values, so that they can be deleted; commitments has the
-- salted hash of each.
create table audit (
    id            integer primary key autoincrement,
    at            integer not null,
    action        text not null,
    actor         text not null,
    appid         text,
    identity_uuid text,
    session_id    text,
    person_id     text,
    reason        text not null default '',
    request_id    text not null default '',
    detail        text check (detail is null or json_valid(detail)),
    commitments   text check (commitments is null or json_valid(commitments))
) strict;

create table audit_values (
    audit_id integer not null,
    name     text not null,
    value    text not null,
    salt     blob not null,
    primary key (audit_id, name)
) strict, without rowid;

-- One for each filter of the admin API, newest first.
create index audit_at on audit (at, id);
create index audit_action on audit (action, at, id);
create index audit_actor on audit (actor, at, id);
create index audit_appid on audit (appid, at, id) where appid is not null;
create index audit_identity_uuid on audit (identity_uuid, at, id) where identity_uuid is not null;
create index audit_session_id on audit (session_id, at, id) where session_id is not null;
create index audit_person_id on audit (person_id, at, id) where person_id is not null;
create index audit_request_id on audit (request_id, at, id);

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

-- API keys of back ends and admins. Only the hash of the secret is stored. pinned_app is
-- the app that the key is pinned to, and pinned_at the time of that decision: null until
-- the key follows the revocation feed for the first time or an admin decides. creator is
-- named as in the audit trail. expires_at is null for a key that never expires.
create table service_keys (
    id           text not null primary key check (length(id) = 16 and id not glob '*[^0-9a-z]*'),
    name         text not null,
    scopes       text not null check (json_array_length(scopes) > 0),
    apps         text not null default '[]' check (json_type(apps) = 'array'),
    hash         blob not null check (length(hash) = 32),
    pinned_app   text,
    pinned_at    integer,
    creator      text not null,
    created_at   integer not null,
    expires_at   integer,
    last_used_at integer,
    revoked_at   integer,
    check (pinned_app is null or pinned_at is not null)
) strict;

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

-- The state of running processes: each writes its own row. Durations are in
-- milliseconds.
create table replicas (
    id              text not null primary key,
    version         text not null,
    issuer          text not null,
    jwks_max_age    integer not null,
    session_max_ttl integer not null,
    max_staleness   integer not null,
    master_key      text not null,
    ready           integer not null check (ready in (0, 1)),
    reason          text not null default '',
    started_at      integer not null,
    seen_at         integer not null
) strict;

-- The deployment that the file belongs to. history is the text that the serving
-- process last recorded; it is also in the file beside this one. Another value or
-- fewer cutoffs mean that this file is an older copy. It is null until a process has
-- served from the file.
create table deployment (
    one     integer not null primary key default 1 check (one = 1),
    id      text not null,
    history text
) strict;
insert into deployment (id)
select substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-4' || substr(h, 14, 3) || '-8' || substr(h, 18, 3) || '-' || substr(h, 21)
from (select lower(hex(randomblob(16))) as h);
