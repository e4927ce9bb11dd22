-- +goose Up

-- The app that a service key is pinned to, and the time of that decision: null until
-- the key follows the revocation feed for the first time or an admin decides.
alter table service_keys add column pinned_at integer;
alter table service_keys add column pinned_app text check (pinned_app is null or pinned_at is not null);
