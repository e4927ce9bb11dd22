-- +goose Up

-- The deployment that the database belongs to. A replica that finds the database of
-- another deployment at its address writes nothing to it. history is the history that
-- the deployment's replicas last recorded: the names of the cluster, of its timeline,
-- of the database and of the file of the cutoffs. If the current value differs, the
-- database was restored or failed over while no replica was running. It is null until
-- a replica has served.
create table deployment (
    one        boolean primary key default true check (one),
    id         uuid not null default gen_random_uuid(),
    history    text[]
);
insert into deployment default values;

-- Every role that follows cutoffs reads the id.
grant select (id) on deployment to public;
