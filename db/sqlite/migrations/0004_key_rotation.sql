-- +goose Up

-- The algorithm that the app's access tokens are signed with.
alter table apps add column signing_alg text not null default 'ES256'
    check (signing_alg in ('ES256', 'EdDSA', 'RS256'));
