-- +goose Up

-- The creator of a service key, as the audit trail names actors, and the time of its
-- expiry; null means never. Keys of earlier versions were created on the host, or by
-- a key that the audit trail names.
alter table service_keys
    add column creator    text collate "C" not null default 'cli',
    add column expires_at timestamptz;
update service_keys k set creator = a.actor
from audit a where a.action = 'service_key.added' and a.detail ->> 'service_key' = k.id;
alter table service_keys alter column creator drop default;
