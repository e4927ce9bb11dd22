-- +goose Up

-- When and why an app's epoch was raised. The sessions that it revoked are not
-- updated, so an admin finds here what ended them.
create table app_epochs (
    appid  text collate "C" not null references apps (appid),
    epoch  bigint not null,
    at     timestamptz not null,
    reason text collate "C" not null,
    primary key (appid, epoch)
);
