-- +goose Up

-- For revoking a person: finds the identities that are bound to the person.
create index identities_person_id on identities (person_id) where person_id is not null;

-- API keys of back ends and admins. Only the hash of the secret is stored.
create table service_keys (
    id           text not null primary key check (length(id) = 16 and id not glob '*[^0-9a-z]*'),
    name         text not null,
    scopes       text not null check (json_array_length(scopes) > 0),
    apps         text not null default '[]' check (json_type(apps) = 'array'),
    hash         blob not null check (length(hash) = 32),
    created_at   integer not null,
    last_used_at integer,
    revoked_at   integer
) strict;
