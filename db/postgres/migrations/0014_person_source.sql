-- +goose Up

-- The source of a person is "admin" or the binding method that made the person. The
-- program knows the methods. A list of them here would need a migration for each new
-- method.
alter table persons
    drop constraint persons_source_check,
    add constraint persons_source_check check (source <> '');
