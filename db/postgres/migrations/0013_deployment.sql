-- +goose Up

-- Which deployment the database belongs to, so that a replica that meets the
-- database of another one behind the same name writes nothing there. History is
-- what the deployment's replicas have last vouched for: the names of the cluster,
-- of its timeline, of the database and of the file of the cutoffs. Another value
-- than the present one says that the database was restored or failed over while no
-- replica was there to see it. It is null as long as no replica has served.
create table deployment (
    one        boolean primary key default true check (one),
    id         uuid not null default gen_random_uuid(),
    history    text[]
);
insert into deployment default values;

-- Every role that follows cutoffs reads it.
grant select (id) on deployment to public;
