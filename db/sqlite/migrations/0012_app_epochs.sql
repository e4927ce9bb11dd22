-- +goose Up

-- When and why an app's epoch was raised. The sessions that it revoked are not
-- updated, so an admin finds here what ended them.
create table app_epochs (
    appid  text not null references apps (appid),
    epoch  integer not null,
    at     integer not null,
    reason text not null,
    primary key (appid, epoch)
) strict, without rowid;
