-- +goose Up

-- The algorithm that signs the app's access tokens.
alter table apps add column signing_alg text not null default 'ES256'
    check (signing_alg in ('ES256', 'EdDSA', 'RS256'));
