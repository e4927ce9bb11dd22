-- +goose Up

-- For revoking a person: finds the identities that are bound to the person.
create index identities_person_id on identities (person_id) where person_id is not null;

-- API keys of back ends and admins. Only the hash of the secret is stored.
create table service_keys (
    id           text collate "C" primary key check (id ~ '^[0-9a-z]{16}$'),
    name         text not null,
    scopes       text[] not null check (cardinality(scopes) > 0),
    apps         text[] not null default '{}',
    hash         bytea not null check (octet_length(hash) = 32),
    created_at   timestamptz not null,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
