-- +goose Up

-- attributes is text that holds JSON, as the domain wrote it: jsonb would give
-- it back in another order. updated_at is null until the first change. source
-- says who made the person: an admin, or the binding method that did.
--
-- What is unique but for the id is so by partial indexes. A column in another
-- unique index could be the target of a foreign key, and changing it would lock
-- the row FOR UPDATE, which those who hold an identity and take KEY SHARE on its
-- person would wait for.
alter table persons
    drop constraint persons_external_id_key,
    add column phone      text collate "C" check (phone ~ '^\+[1-9][0-9]{6,14}$'),
    add column attributes text not null default '{}' check (json_typeof(attributes::json) = 'object'),
    add column source     text not null default 'admin' check (source in ('admin', 'phone', 'webhook')),
    add column updated_at timestamptz;

create unique index persons_external_id on persons (external_id) where external_id is not null;
create unique index persons_phone on persons (phone) where phone is not null;

-- Persons are found by the beginning of their name.
create index persons_name on persons (name collate "C", id);

-- What a person is asked for to prove who he is, as HMACs of the name and the
-- normalised value: to find a person by a value, it must not depend on the
-- person.
create table person_facts (
    person_id uuid not null references persons (id),
    name      text collate "C" not null check (name ~ '^[a-z][a-z0-9_]{0,31}$'),
    mac       bytea not null check (octet_length(mac) = 32),
    primary key (person_id, name)
);

create index person_facts_name_mac on person_facts (name, mac, person_id);

-- The key of these HMACs, sealed. There is one row, and it never changes: what
-- it was used on is not kept.
create table fact_keys (
    id         smallint primary key check (id = 1),
    sealed     bytea not null,
    created_at timestamptz not null
);

-- One-time tickets that bind whoever presents them to a person. Only the hash is
-- kept. Without an app they are good in every app.
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

-- Attempts to bind that failed, or whose end is not known. at is the time of the
-- last one; a row says nothing any more after expires_at.
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

-- Of an erased identity nothing is left but its uuid: openid is then 'erased:'
-- and the uuid, which no platform issues, and sealed_session_key is empty.
alter table identities
    add column bound_at  timestamptz,
    add column bound_by  text,
    add column erased_at timestamptz;

create index identities_unionid on identities (unionid) where unionid is not null;

-- To erase an identity is to find its events.
create index audit_identity_uuid on audit (identity_uuid) where identity_uuid is not null;
