-- +goose Up

-- The creator of a service key, as the audit trail names actors, and the time of its
-- expiry; null means never. Keys of earlier versions were created on the host, or by
-- a key that the audit trail names.
alter table service_keys add column creator text not null default 'cli';
alter table service_keys add column expires_at integer;
update service_keys set creator = coalesce((
  select actor from audit where action = 'service_key.added' and json_extract(detail, '$.service_key') = service_keys.id), creator);
