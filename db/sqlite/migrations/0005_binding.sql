-- +goose Up

-- attributes holds JSON as the domain wrote it. updated_at is null until the first
-- change. source says who created the person: an admin or a binding method.
alter table persons add column phone text check (phone glob '+[1-9][0-9][0-9][0-9][0-9][0-9][0-9]*' and length(phone) <= 16 and substr(phone, 2) not glob '*[^0-9]*');
alter table persons add column attributes text not null default '{}' check (json_type(attributes) = 'object');
alter table persons add column source text not null default 'admin' check (source in ('admin', 'phone', 'webhook'));
alter table persons add column updated_at integer;

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

alter table apps add column policy text not null default '{}' check (json_type(policy) = 'object');
alter table apps add column sealed_webhook_secret blob;

-- An erased identity keeps its uuid, its app and its times: subject is then 'erased:'
-- and the uuid, which no platform issues, and sealed_session_key is empty.
alter table identities add column bound_at integer;
alter table identities add column bound_by text;
alter table identities add column erased_at integer;

create index identities_unionid on identities (unionid) where unionid is not null;

-- For erasing an identity: finds its events.
create index audit_identity_uuid on audit (identity_uuid) where identity_uuid is not null;
