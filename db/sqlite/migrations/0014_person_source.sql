-- +goose Up

-- The source of a person is "admin" or the binding method that made the person. The
-- program knows the methods. A list of them here would need a migration for each new
-- method. SQLite cannot change the check of a column, so the column is replaced.
alter table persons add column any_source text not null default 'admin' check (any_source <> '');
update persons set any_source = source;
alter table persons drop column source;
alter table persons rename column any_source to source;
