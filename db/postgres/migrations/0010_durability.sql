-- +goose Up

-- What a transaction sets to be sure that it writes. PostgreSQL waits for a
-- synchronous standby only at the commit of a transaction that wrote, and this
-- wait covers every commit before it. A sequence is set without a lock that
-- others wait for, and without a dead row.
create sequence durability;

-- A role that may only change rows writes, too. The value says nothing.
grant update on sequence durability to public;
