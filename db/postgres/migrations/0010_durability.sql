-- +goose Up

-- Every transaction sets this sequence to make sure that it writes. PostgreSQL waits
-- for a synchronous standby only at the commit of a transaction that wrote, and this
-- wait covers every earlier commit. Setting a sequence takes no lock that others wait
-- for and leaves no dead row.
create sequence durability;

-- A role that may only change rows sets it too. The value has no meaning.
grant update on sequence durability to public;
