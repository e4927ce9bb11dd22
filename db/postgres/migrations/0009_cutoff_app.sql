-- +goose Up

-- The app of the session that a session cutoff ends, so that a service key that is
-- restricted to apps hears of their sessions only. Null when the session's row was
-- gone already: such a cutoff goes to everybody.
alter table cutoffs add column session_appid text collate "C";
update cutoffs c set session_appid = s.appid from sessions s where s.id = c.session_id;
