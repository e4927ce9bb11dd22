-- +goose Up

-- Text keys sort by bytes, as in Go, whatever the database's locale.

-- sealed_credentials has a value in base64 for each name, sealed for the row and the
-- name. signing_alg is the algorithm that signs the app's access tokens.
create table apps (
    appid                 text collate "C" primary key check (appid ~ '^[A-Za-z0-9]{1,64}$'),
    platform              text not null,
    sealed_credentials    jsonb not null check (jsonb_typeof(sealed_credentials) = 'object'),
    sealed_webhook_secret bytea,
    audiences             text[] not null default '{}',
    signing_alg           text not null default 'ES256' check (signing_alg in ('ES256', 'EdDSA', 'RS256')),
    policy                jsonb not null default '{}' check (jsonb_typeof(policy) = 'object'),
    epoch                 bigint not null default 0 check (epoch >= 0),
    disabled_at           timestamptz,
    created_at            timestamptz not null,
    updated_at            timestamptz not null
);

-- When and why an app's epoch was raised. The sessions that it revoked are not
-- updated, so an admin finds here what ended them.
create table app_epochs (
    appid  text collate "C" not null references apps (appid),
    epoch  bigint not null,
    at     timestamptz not null,
    reason text collate "C" not null,
    primary key (appid, epoch)
);

-- attributes is text that holds JSON as the domain wrote it: jsonb would return
-- it in another order. updated_at is null until the first change. source is "admin" or
-- the binding method that made the person. The program knows the methods. A list of
-- them here would need a migration for each new method.
create table persons (
    id          uuid primary key,
    external_id text collate "C" not null,
    name        text not null default '',
    phone       text collate "C" check (phone ~ '^\+[1-9][0-9]{6,14}$'),
    attributes  text not null default '{}' check (json_typeof(attributes::json) = 'object'),
    source      text not null default 'admin' check (source <> ''),
    disabled_at timestamptz,
    created_at  timestamptz not null,
    updated_at  timestamptz
);

-- These indexes are partial. A column in a full unique index could be the target of a
-- foreign key, so changing it would lock the row FOR UPDATE. A transaction that holds
-- an identity and takes KEY SHARE on its person would wait for that lock.
create unique index persons_external_id on persons (external_id) where external_id is not null;
create unique index persons_phone on persons (phone) where phone is not null;

-- For searching persons by the beginning of the name.
create index persons_name on persons (name collate "C", id);

-- Values that a person gives to prove who they are, as HMACs of the name and the
-- normalised value. The HMAC does not depend on the person, because it is used to
-- find the person by a value.
create table person_facts (
    person_id uuid not null references persons (id),
    name      text collate "C" not null check (name ~ '^[a-z][a-z0-9_]{0,31}$'),
    mac       bytea not null check (octet_length(mac) = 32),
    primary key (person_id, name)
);

create index person_facts_name_mac on person_facts (name, mac, person_id);

-- The key of these HMACs, sealed. There is one row, and it never changes: the
-- values that it was used on are not stored.
create table fact_keys (
    id         smallint primary key check (id = 1),
    sealed     bytea not null,
    created_at timestamptz not null
);

-- The key that an identity's shard is computed with, sealed, and its check value. The
-- row is inserted in the transaction of this file and never changes: with another key
-- every known account would get a second identity in another shard.
create table shard_key (
    one         boolean primary key default true check (one),
    sealed      bytea not null,
    check_value bytea not null
);

-- shard follows from appid, subject_kind and subject. The last ten bits of the uuid, and
-- of the ids of its sessions, repeat it. Every key has it, so that the two tables can be
-- partitioned or distributed by it. An erased identity keeps it.
--
-- person_disabled_at mirrors persons.disabled_at. It is written under the lock of
-- the identity row, so that one locked row holds all that an exchange needs. A
-- transaction that changes a person locks its row FOR NO KEY UPDATE: the foreign
-- keys below take KEY SHARE on it after the identity's lock, and these two do not
-- wait for each other.
--
-- An erased identity keeps its uuid, its app and its times: subject is then 'erased:'
-- and the uuid, which no platform issues, and sealed_session_key is empty.
create table identities (
    uuid               uuid not null,
    shard              smallint not null check (shard between 0 and 1023),
    appid              text collate "C" not null references apps (appid),
    subject_kind       text collate "C" not null check (subject_kind <> ''),
    subject            text collate "C" not null check (subject <> ''),
    unionid            text collate "C" check (unionid <> ''),
    sealed_session_key bytea not null,
    person_id          uuid references persons (id),
    bound_at           timestamptz,
    bound_by           text,
    disabled_at        timestamptz,
    person_disabled_at timestamptz check (person_disabled_at is null or person_id is not null),
    created_at         timestamptz not null,
    last_login_at      timestamptz not null,
    erased_at          timestamptz,
    primary key (uuid, shard),
    unique (appid, subject_kind, subject, shard)
);

create index identities_unionid on identities (unionid) where unionid is not null;

-- For revoking a person: finds the identities that are bound to the person.
create index identities_person_id on identities (person_id) where person_id is not null;

-- One row per log-in, however often it is refreshed. A refresh writes generation,
-- rotated_at and idle_expires_at. These must not be indexed, and the pages keep
-- room, so that the new version stays in its page and no index grows. person_id,
-- ver and epoch are the values in the session's tokens. They change here, in the
-- UPDATE that raises ver, and are never read by a join.
create table sessions (
    id              uuid not null,
    shard           smallint not null,
    identity_uuid   uuid not null,
    appid           text collate "C" not null,
    device          text not null default '',
    person_id       uuid references persons (id),
    ver             bigint not null check (ver > 0),
    epoch           bigint not null,
    generation      bigint not null check (generation between 1 and 4294967295),
    rotated_at      timestamptz not null,
    started_at      timestamptz not null,
    idle_expires_at timestamptz not null check (idle_expires_at <= expires_at),
    expires_at      timestamptz not null,
    ended_at        timestamptz,
    end_reason      text,
    primary key (id, shard),
    foreign key (identity_uuid, shard) references identities (uuid, shard),
    check ((ended_at is null) = (end_reason is null))
) with (fillfactor = 80);

-- A log-in counts the identity's live sessions, and a path that ends sessions finds
-- them. Neither should read the ended ones, of which there may be many until they
-- expire. A refresh does not write ended_at.
create index sessions_identity_uuid_ended_at on sessions (identity_uuid, ended_at);
create index sessions_expires_at on sessions (expires_at);

-- One-time tickets. A ticket binds the user who presents it to a person. Only the
-- hash is stored. A ticket without an app is valid in every app.
create table bind_tickets (
    hash       bytea primary key check (octet_length(hash) = 32),
    person_id  uuid not null references persons (id),
    appid      text collate "C" references apps (appid),
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_by    uuid,
    used_at    timestamptz,
    check ((used_by is null) = (used_at is null))
);

create index bind_tickets_expires_at on bind_tickets (expires_at);

-- Attempts to bind that failed or whose result is unknown. at is the time of the
-- last one. A row has no effect after expires_at.
create table bind_attempts (
    kind          text not null check (kind in ('identity', 'value', 'address')),
    key           text collate "C" not null,
    failures      integer not null check (failures >= 0),
    at            timestamptz not null,
    blocked_until timestamptz,
    expires_at    timestamptz not null,
    primary key (kind, key)
);

create index bind_attempts_expires_at on bind_attempts (expires_at);

-- Revocations as validators see them. The id is taken under an advisory lock in
-- the last statement of a transaction, so ids appear in commit order. ver 0 means
-- every token of the session. session_appid is the app of the session that a session
-- cutoff ends, so that a service key restricted to apps receives only the cutoffs of
-- their sessions. It is null if the app is not known; every key
-- receives such a cutoff.
create table cutoffs (
    id            bigint generated by default as identity primary key,
    kind          text not null,
    session_id    uuid,
    session_appid text collate "C",
    ver           bigint,
    appid         text collate "C",
    epoch         bigint,
    kid           text collate "C",
    created_at    timestamptz not null,
    expires_at    timestamptz,
    constraint cutoffs_fields check (case kind
        when 'session' then session_id is not null and ver is not null and ver >= 0
            and appid is null and epoch is null and kid is null and expires_at is not null
        when 'app' then appid is not null and epoch is not null and epoch > 0
            and session_id is null and ver is null and kid is null and expires_at is not null
        when 'key' then kid is not null
            and session_id is null and ver is null and appid is null and epoch is null and expires_at is null
        else false end)
);

create index cutoffs_expires_at on cutoffs (expires_at) where expires_at is not null;

-- The audit log: rows are only added. No foreign keys: it outlives the rows that it names.
-- Personal values stand in audit_values, so that they can be deleted; commitments has the
-- salted hash of each.
create table audit (
    id            bigint generated always as identity primary key,
    at            timestamptz not null,
    action        text not null,
    actor         text collate "C" not null,
    appid         text collate "C",
    identity_uuid uuid,
    session_id    uuid,
    person_id     uuid,
    reason        text not null default '',
    request_id    text collate "C" not null default '',
    detail        jsonb,
    commitments   jsonb
);

create table audit_values (
    audit_id bigint not null,
    name     text not null,
    value    text not null,
    salt     bytea not null,
    primary key (audit_id, name)
);

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
    kid        text collate "C" primary key,
    use        text not null check (use in ('access', 'refresh')),
    alg        text not null,
    sealed     bytea not null,
    public_jwk bytea,
    created_at timestamptz not null,
    active_at  timestamptz,
    retired_at timestamptz
);

-- API keys of back ends and admins. Only the hash of the secret is stored. pinned_app is
-- the app that the key is pinned to, and pinned_at the time of that decision: null until
-- the key follows the revocation feed for the first time or an admin decides. creator is
-- named as in the audit trail. expires_at is null for a key that never expires.
create table service_keys (
    id           text collate "C" primary key check (id ~ '^[0-9a-z]{16}$'),
    name         text not null,
    scopes       text[] not null check (cardinality(scopes) > 0),
    apps         text[] not null default '{}',
    hash         bytea not null check (octet_length(hash) = 32),
    pinned_app   text collate "C",
    pinned_at    timestamptz,
    creator      text collate "C" not null,
    created_at   timestamptz not null,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    check (pinned_app is null or pinned_at is not null)
);

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

-- The state of running replicas: each writes its own row. Durations are in
-- milliseconds.
create table replicas (
    id              uuid primary key,
    version         text not null,
    issuer          text not null,
    jwks_max_age    bigint not null,
    session_max_ttl bigint not null,
    max_staleness   bigint not null,
    master_key      text not null,
    ready           boolean not null,
    reason          text not null default '',
    started_at      timestamptz not null,
    seen_at         timestamptz not null
);

-- Every transaction sets this sequence to make sure that it writes. PostgreSQL waits
-- for a synchronous standby only at the commit of a transaction that wrote, and this
-- wait covers every earlier commit. Setting a sequence takes no lock that others wait
-- for and leaves no dead row.
create sequence durability;

-- A role that may only change rows sets it too. The value has no meaning.
grant update on sequence durability to public;

-- The deployment that the database belongs to. A replica that finds the database of
-- another deployment at its address writes nothing to it. history is the history that
-- the deployment's replicas last recorded: the names of the cluster, of its timeline,
-- of the database and of the file of the cutoffs. If the current value differs, the
-- database was restored or failed over while no replica was running. It is null until
-- a replica has served.
create table deployment (
    one     boolean primary key default true check (one),
    id      uuid not null default gen_random_uuid(),
    history text[]
);
insert into deployment default values;

-- Every role that follows cutoffs reads the id.
grant select (id) on deployment to public;
