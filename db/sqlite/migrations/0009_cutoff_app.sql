-- +goose Up

-- The app of the session that a session cutoff ends, so that a service key restricted
-- to apps receives only the cutoffs of their sessions. Null if the session's row was
-- already deleted; every key receives such a cutoff.
alter table cutoffs add column session_appid text;
update cutoffs set session_appid = (select appid from sessions s where s.id = cutoffs.session_id);
