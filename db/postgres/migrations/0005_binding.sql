-- +goose Up

-- attributes is text that holds JSON as the domain wrote it: jsonb would return
-- it in another order. updated_at is null until the first change. source says
-- who created the person: an admin or a binding method.
--
-- Unique columns other than the id have partial indexes. A column in a full
-- unique index could be the target of a foreign key, so changing it would lock
-- the row FOR UPDATE. A transaction that holds an identity and takes KEY SHARE on
-- its person would wait for that lock.
alter table persons
    drop constraint persons_external_id_key,
    add column phone      text collate "C" check (phone ~ '^\+[1-9][0-9]{6,14}$'),
    add column attributes text not null default '{}' check (json_typeof(attributes::json) = 'object'),
    add column source     text not null default 'admin' check (source in ('admin', 'phone', 'webhook')),
    add column updated_at timestamptz;

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

alter table apps
    add column policy                jsonb not null default '{}' check (jsonb_typeof(policy) = 'object'),
    add column sealed_webhook_secret bytea;

-- An erased identity keeps its uuid, its app and its times: subject is then 'erased:'
-- and the uuid, which no platform issues, and sealed_session_key is empty.
alter table identities
    add column bound_at  timestamptz,
    add column bound_by  text,
    add column erased_at timestamptz;

create index identities_unionid on identities (unionid) where unionid is not null;

-- For erasing an identity: finds its events.
create index audit_identity_uuid on audit (identity_uuid) where identity_uuid is not null;
