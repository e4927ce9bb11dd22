-- +goose Up

-- A log-in counts the identity's live sessions, and a path that ends sessions finds
-- them. Neither should read the ended ones, of which there may be many until they
-- expire. A refresh does not write ended_at.
create index sessions_identity_uuid_ended_at on sessions (identity_uuid, ended_at);
drop index sessions_identity_uuid;
